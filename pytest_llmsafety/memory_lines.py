"""The memory plan of a session's model, for ``--llm-plan``."""

from __future__ import annotations

from pytest_llmsafety.options import RunOptions
from safety_tasks.errors import InvalidModel
from safety_tasks.settings import Settings


def memory_lines(options: RunOptions, settings: Settings) -> list[str]:
    """What the model takes of which device, where it is worth saying, and whether it fits; nothing without a model.

    Only the configuration is read, of a hub id it is fetched.
    """
    from safety_tasks.memory_plan import plan_loading
    from safety_tasks.models import resolve_source

    if not options.model or options.backend != "hf":
        return []
    try:
        source = resolve_source(options.model, options.adapter)
    except InvalidModel:  # a session says so, unless a conftest's hook provides the model
        return []
    arguments = dict(part.partition("=")[::2] for part in options.model_args.split(","))
    plan = plan_loading(
        source.model, arguments, dtype=options.dtype, device=options.device, max_new_tokens=settings.max_new_tokens
    )
    if plan is None or not plan.is_worth_saying:
        return []
    try:
        plan.check()
    except InvalidModel as error:
        return [f"CANNOT LOAD: {error}"]
    return [str(plan)]
