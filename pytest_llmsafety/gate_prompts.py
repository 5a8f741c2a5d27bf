"""The settings and prompts behind a gate, and what only they can tell: its categories, its radius, its references."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pytest_llmsafety.attack_gates import check_attack
from pytest_llmsafety.gates import GATED, Gate
from pytest_llmsafety.modes import check_gate_in_mode, check_mode, is_curtailed
from pytest_llmsafety.options import RunOptions
from pytest_llmsafety.targets import check_begins_at_the_base
from safety_tasks import system_prompts
from safety_tasks.errors import InvalidGate, UnknownName
from safety_tasks.inputs import check_inputs
from safety_tasks.metrics import EXAMPLES_TO_BREAK
from safety_tasks.prompts import PromptSet, load_prompts
from safety_tasks.settings import LANDSCAPE_PROMPTS, Settings

EVERY = "*"
BENIGN_TASK, LANDSCAPE_TASK = "visage_over_refusal", "visage_landscape"
INTERPOLATION_TASK, PLANE_TASK = "visage_interpolation", "visage_landscape_2d"
LAYERS_TASK, MARGIN_TASK = "visage_layers", "visage_margin"
CAPABILITY_TASK, SYSTEM_PROMPTS_TASK = "visage_capability", system_prompts.TASK
WORST_TASK, ATTACK_TASK = "visage_worst_direction", "visage_finetuning_attack"
MARGIN_BENIGN = "visage_margin, benign"
REFUSAL_GAP_TASK, TRIGGER_TASK, PREFILL_TASK = "visage_refusal_gap", "visage_trigger_gap", "visage_prefill"
REFUSAL_GAP_BENIGN = "visage_refusal_gap, benign"
BENIGN_HALVES = {MARGIN_TASK: MARGIN_BENIGN, REFUSAL_GAP_TASK: REFUSAL_GAP_BENIGN}
"""What asks the benign prompts of tasks that ask both kinds."""
VARIANT_TASKS = (TRIGGER_TASK, PREFILL_TASK, "visage_task_wrappers", "visage_transforms", "visage_format_grid")
_SHAPES = (LANDSCAPE_TASK, INTERPOLATION_TASK, PLANE_TASK, LAYERS_TASK)
LANDSCAPE_TASKS = (*_SHAPES, CAPABILITY_TASK, WORST_TASK, ATTACK_TASK)
"""They ask the same prompts."""
GREEDY_TASKS = (*LANDSCAPE_TASKS, MARGIN_TASK, MARGIN_BENIGN, SYSTEM_PROMPTS_TASK, *VARIANT_TASKS)
"""They ask each prompt once, however a profile samples."""


def settings_for(gate: Gate, settings: Settings) -> Settings:
    """The run's settings with what the gate sets for itself."""
    if gate.prompts is not None:
        is_benign = GATED[gate.metric].tasks == (BENIGN_TASK,)
        settings = (
            replace(settings, benign_prompts=gate.prompts) if is_benign else replace(settings, prompts=gate.prompts)
        )
    if gate.judge is not None:
        is_harm = gate.metric == "harmful_score"
        settings = replace(settings, harm_judge=gate.judge) if is_harm else replace(settings, judge=gate.judge)
        if gate.metric == EXAMPLES_TO_BREAK:  # else the run's harm judge would read the attacks' answers instead
            settings = replace(settings, harm_judge=None)
    return settings


def prompt_sets_for(gate: Gate, settings: Settings) -> tuple[PromptSet, ...]:
    """The prompts that the gate is decided on, one set a task that measures its metric; those of its category only."""
    own = settings_for(gate, settings)
    moves = moves_under_system_prompts(gate, own) and gate.metric == "attack_success_rate"
    tasks = (LANDSCAPE_TASK,) if moves else asking(gate.metric)  # however they are asked, they are the same
    found = (_of_category(_asked(task, own), gate.category) for task in tasks)
    return tuple(prompts for prompts in found if len(prompts))


def moves_under_system_prompts(gate: Gate, settings: Settings) -> bool:
    """Whether the gate is on a system prompt, under each of which the landscape is measured."""
    return gate.tasks == (SYSTEM_PROMPTS_TASK,) and settings.system_prompts == "landscape"


def asking(metric: str) -> tuple[str, ...]:
    """The tasks that measure a metric, one for each prompt set: a margin's asks the harmful and the benign ones."""
    tasks = GATED[metric].tasks
    return (*tasks, *(BENIGN_HALVES[task] for task in tasks if task in BENIGN_HALVES))


def asked_by(gate: Gate) -> tuple[str, ...]:
    """The tasks that ask the prompt sets of ``prompt_sets_for``, one each."""
    return asking(gate.metric) if gate.variant is None else gate.tasks


def expanded(gates: Iterable[Gate], settings: Settings) -> tuple[Gate, ...]:
    """The gates with one for each category where a gate says ``*``; raises UnknownName for a category that is none."""
    return tuple(dict.fromkeys(one for gate in gates for one in _by_category(gate, settings)))


def check_gate(gate: Gate, options: RunOptions, settings: Settings) -> None:
    """Raise InvalidGate, or what ``check_inputs`` raises, for what the gate needs and the run does not have."""
    if gate.reference == "base" and not options.reference:
        raise InvalidGate(f"The gate {gate.line!r} needs a base model: name it with --llm-base-model.")
    if gate.reference == "baseline" and not options.baseline:
        raise InvalidGate(
            f"The gate {gate.line!r} needs a baseline: name its file with --llm-baseline FILE "
            "(--llm-update-baseline writes it)."
        )
    if gate.reference == "baseline" and options.update_baseline and settings_for(gate, settings) != settings:
        raise InvalidGate(
            f"The gate {gate.line!r} has prompts or a judge of its own, and --llm-update-baseline writes what those of "
            "the run measured: name them with --llm-prompts, --llm-benign-prompts, --llm-judge."
        )
    if gate.metric == "harmful_score" and settings_for(gate, settings).harm_judge is None:
        raise InvalidGate("A gate on harmful_score needs a harm judge: name one with --llm-harm-judge.")
    if gate.tasks == (CAPABILITY_TASK,) and settings.capability_task is None:
        raise InvalidGate(
            f"The gate {gate.line!r} needs a task of lm_eval's: name it with --llm-capability-task TASK or TASK#METRIC."
        )
    check_attack(gate, options, settings)
    _check_way(gate, settings)
    check_begins_at_the_base(gate.metric, options, settings)
    check_gate_in_mode(gate, settings)
    if not is_curtailed(gate, settings):
        check_shape(gate.metric, settings)
    _check_samples(gate, settings)
    if gate.prompts is not None or gate.judge is not None:
        check_inputs(settings_for(gate, settings))
    if gate.radius is not None:
        _check_radius(gate, gate.radius, settings)


def check_shape(metric: str, settings: Settings) -> None:
    """Raise InvalidInput for a metric of a shape of landscape for which a target is missing, or which has no such."""
    from safety_tasks.margin import margin_points
    from safety_tasks.shapes import axes, required_target
    from safety_tasks.variants.prefills import lengths_of
    from safety_tasks.variants.trigger import with_and_without

    check_mode(metric, settings)
    tasks = GATED[metric].tasks
    if MARGIN_TASK in tasks:
        margin_points(settings)
    if INTERPOLATION_TASK in tasks:
        required_target(settings)
    if PLANE_TASK in tasks:
        axes(settings)
    if TRIGGER_TASK in tasks:
        with_and_without(settings)
    if PREFILL_TASK in tasks:
        lengths_of(settings)
    if metric == "plane_visage" and settings.plane != "random":
        raise InvalidGate(
            f"plane_visage is of the plane of two random directions, and --llm-plane is {settings.plane}: "
            "gate basin_area or plane_mean_safety instead."
        )


def n_points(task: str, settings: Settings) -> int:
    """The number of points at which a task asks each of its prompts; of attacks the most."""
    from safety_tasks.attack_grid import n_readings
    from safety_tasks.block_widths import block_points
    from safety_tasks.margin import scales_of
    from safety_tasks.points import grid
    from safety_tasks.shapes import coefficients
    from safety_tasks.worst_points import n_worst_points

    shapes = {
        LANDSCAPE_TASK: lambda: len(grid(settings)),
        CAPABILITY_TASK: lambda: len(grid(settings)),
        INTERPOLATION_TASK: lambda: len(coefficients(settings)),
        PLANE_TASK: lambda: settings.plane_points**2,
        LAYERS_TASK: lambda: len(block_points(settings)),
        WORST_TASK: lambda: n_worst_points(settings),
        ATTACK_TASK: lambda: n_readings(),
        MARGIN_TASK: lambda: len(scales_of(settings)),
        MARGIN_BENIGN: lambda: len(scales_of(settings)),
    }
    return shapes.get(task, lambda: 1)()


def _check_way(gate: Gate, settings: Settings) -> None:
    """Raise InvalidGate or InvalidSetting for a way of asking that is not asked under these settings."""
    if gate.way is None:
        return
    ways, name, against = gate.way
    names = ways.asked(settings)
    if name not in names:
        known = f"{', '.join(names)}. {ways.hint}".rstrip()
        raise InvalidGate(f"The gate {gate.line!r} is on {name!r}, and this run asks {known}")
    if against and against != names[0]:
        raise InvalidGate(
            f"The gate {gate.line!r} compares with {against!r}, and this run with {names[0]!r}: write "
            f"@{name}-{names[0]}."
        )


def _check_samples(gate: Gate, settings: Settings) -> None:
    if gate.samples is not None and gate.samples < 1:
        raise InvalidGate(f"The gate {gate.line!r} asks for {gate.samples} answers a prompt: at least 1.")
    if gate.samples is not None and settings.sampling is None:
        raise InvalidGate(
            f"The gate {gate.line!r} needs sampled answers: name a profile with a table sampling by --llm-profile FILE."
        )
    if gate.samples is not None and gate.samples > settings.samples:
        raise InvalidGate(
            f"The gate {gate.line!r} asks for {gate.samples} answers a prompt, and the profile samples "
            f"{settings.samples}: raise its samples, or ask for @{settings.samples}."
        )
    if gate.versus == "difference" and LANDSCAPE_TASK not in GATED[gate.metric].tasks and settings.samples > 1:
        raise InvalidGate(
            f"The gate {gate.line!r} compares prompt by prompt, with one answer each, and the profile samples "
            f"{settings.samples}: compare with a profile that has samples = 1 or is greedy."
        )


def _check_radius(gate: Gate, radius: float, settings: Settings) -> None:
    grid = sorted({abs(alpha) for alpha in settings.alphas} - {0.0})
    if any(abs(radius - at) < 1e-9 for at in grid):
        return
    near = [
        max((at for at in grid if at < radius), default=None),
        min((at for at in grid if at > radius), default=None),
    ]
    named = " and ".join(f"{at:g}" for at in near if at is not None)
    raise InvalidGate(
        f"The gate {gate.line!r} has the radius {radius:g}, at which the grid has no point; nearest: {named} "
        f"(--llm-points {settings.points}, --llm-radius {settings.radius:g})."
    )


def _asked(task: str, settings: Settings) -> PromptSet:
    """The prompts of a task, as the task itself takes them."""
    if task in (BENIGN_TASK, *BENIGN_HALVES.values()):
        benign = load_prompts(settings.benign_prompts, "benign").head(settings.n_prompts)
        return benign if task == BENIGN_TASK else replace(benign, kind="benign")  # a file of the user's has none
    default = LANDSCAPE_PROMPTS if task in LANDSCAPE_TASKS else None
    return load_prompts(settings.prompts, "harmful").head(settings.n_prompts or default)


def _of_category(prompts: PromptSet, category: str | None) -> PromptSet:
    if category is None:
        return prompts
    return replace(prompts, prompts=tuple(prompt for prompt in prompts.prompts if prompt.category == category))


def _by_category(gate: Gate, settings: Settings) -> tuple[Gate, ...]:
    if gate.category is None:
        return (gate,)
    sets = prompt_sets_for(replace(gate, category=None), settings)
    known = list(dict.fromkeys(prompt.category for prompts in sets for prompt in prompts.prompts))
    if gate.category == EVERY:
        return tuple(replace(gate, category=name) for name in known)
    if gate.category not in known:
        named = " and ".join(f"the {len(prompts)} prompts of {prompts.name}" for prompts in sets)
        raise UnknownName("category", gate.category, known, f"It stands in the gate {gate.line!r}, on {named}.")
    return (gate,)
