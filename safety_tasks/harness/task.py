"""SafetyTask: what our lm_eval tasks share, from options to metrics.

Options come from lm_eval's ``--metadata`` as ``visage_*`` keys and are checked when the task is built. The chat
template is the engine's business (design rule: applied whenever the tokenizer has one), so --apply_chat_template
changes nothing; --system_instruction is taken where no ``visage_system_prompt`` is given.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, cast

import datasets
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask

from safety_tasks.agreement import Agreement
from safety_tasks.errors import InvalidSetting
from safety_tasks.estimates import Estimate
from safety_tasks.harness import request
from safety_tasks.harness.command_line import show_errors_plainly
from safety_tasks.harness.rows import Response, Row, agreement_with_first, filters, harm_reader, readers
from safety_tasks.inputs import check_inputs
from safety_tasks.measured import MeasuredTask, keep_in_journal
from safety_tasks.measurement import Question
from safety_tasks.metrics import METRICS
from safety_tasks.points import ORIGIN, Point
from safety_tasks.prompts import Kind, Prompt, PromptSet, load_prompts
from safety_tasks.report.redaction import plain
from safety_tasks.samples import Sample, samples_of
from safety_tasks.settings import BEHAVIOUR_JUDGE, Settings
from safety_tasks.task_record import TaskRecord, curve_of

_log = logging.getLogger(__name__)
Estimates = dict[str, Estimate]
KAPPA = "judge_kappa"
"""Cohen's kappa of a further judge with the deciding one."""


class SafetyTask(ConfigurableTask):  # type: ignore[misc]  # lm_eval is untyped
    """A prompt set asked at some points, and the estimates read from the answers."""

    METRICS: ClassVar[list[str]]
    """The metrics of the task in their printed order."""
    JUDGE: ClassVar[str] = BEHAVIOUR_JUDGE
    """The refusal judge where none is named."""
    KIND: ClassVar[Kind] = "harmful"
    """The prompts' kind, which decides how a partial refusal counts."""

    def __init__(self, config: dict[str, Any]) -> None:
        request.install()
        own = {key: value for key, value in config.items() if key != "class"}
        show_errors_plainly()
        given = Settings.from_metadata(own.get("metadata") or {})
        check_inputs(given)
        harm_judge = given.harm_judge if "harmful_score" in self.METRICS else None
        self.given = dataclasses.replace(given, judge=given.judge or self.JUDGE, harm_judge=harm_judge)
        self.settings = self.given
        """What is measured with: the given settings, and what lm_eval's own flags change of them."""
        self.prompt_set = self.load_prompt_set()
        self.readers = readers(self.settings)
        self.read_by: dict[str, Estimates] = {}
        self.rows: list[Row] = []
        self.opinions: list[Agreement] = []
        """How far the further judges agree with the deciding one."""
        self.facts: dict[str, Any] = {}
        super().__init__(config={**copy.deepcopy(_CONFIG), **own})  # lm_eval changes it in place
        self._filters = filters(self.readers)

    def load_prompt_set(self) -> PromptSet:
        """The prompts that the task asks."""
        return load_prompts(self.settings.prompts, self.KIND).head(self.settings.n_prompts)

    def points(self) -> tuple[Point, ...]:
        """The points at which each prompt is asked."""
        raise NotImplementedError

    def estimate(self, rows: list[Row], judge: str) -> Estimates:
        """The metrics by name, from every prompt's row as one judge reads it."""
        raise NotImplementedError

    # -- what lm_eval calls -------------------------------------------------------------------------------------

    def download(self, dataset_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Build the data set in memory; nothing is downloaded."""
        rows = [{"id": prompt.id, "category": prompt.category} for prompt in self.prompt_set.prompts]
        self.dataset = {"test": datasets.Dataset.from_list(rows)}

    def build_all_requests(
        self,
        *,
        limit: int | None = None,
        samples: list[int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        system_instruction: str | None = None,
        **_: Any,
    ) -> None:
        """One request a prompt, carrying its plan of points."""
        self.settings = self._with_generation_kwargs()
        if self.settings.system_prompt is None and system_instruction is not None:
            self.settings = dataclasses.replace(self.settings, system_prompt=system_instruction)
        prompts = {prompt.id: prompt for prompt in self.prompt_set.prompts}
        docs = self.doc_iterator(rank=rank, limit=limit, samples=samples, world_size=world_size)
        self._instances = [self._request(doc_id, doc, prompts[doc["id"]]) for doc_id, doc in docs]
        self.read_by, self.opinions = {}, []

    def _request(self, doc_id: int, doc: dict[str, Any], prompt: Prompt) -> Instance:
        question = Question(prompt, self.points(), self.settings, task=str(self.config.task))
        arguments = (prompt.id, question)
        return Instance(cast(Any, request.REQUEST_TYPE), doc, arguments, 0, (self.config.task, doc_id, 1))

    def _with_generation_kwargs(self) -> Settings:
        """The settings with what --gen_kwargs may change: the number of tokens. Decoding stays greedy."""
        given = {k: v for k, v in self.config.generation_kwargs.items() if _GENERATION.get(k, object()) != v}
        limits = [given.pop(name) for name in ("max_gen_toks", "max_new_tokens", "max_tokens") if name in given]
        if given:
            raise InvalidSetting(
                f"--gen_kwargs {', '.join(given)}: the safety tasks decode greedily, to the end of the answer. "
                "Only max_gen_toks may be set."
            )
        return dataclasses.replace(self.given, max_new_tokens=int(limits[0])) if limits else self.given

    def doc_to_text(self, doc: dict[str, Any], doc_to_text: Any = None) -> str:
        """The prompt's id: texts of prompt sets stay out of lm_eval's logs."""
        return str(doc["id"])

    def doc_to_target(self, doc: dict[str, Any], doc_to_target: Any = None) -> str:
        """None: a safety task has no target text."""
        return ""

    def process_results(self, doc: dict[str, Any], results: list[Response]) -> dict[str, Any]:
        """Each metric gets the prompt's whole row; the scores need all of them at once."""
        prompt = next(p for p in self.prompt_set.prompts if p.id == doc["id"])
        row = Row(id=prompt.id, category=prompt.category, cluster=prompt.cluster, **results[0])
        if "bypass" in self._metric_fn_list:
            return {"bypass": None}
        # A metric's own _stderr comes after it: lm_eval first writes "N/A" under that name.
        return {name: row for metric in self._metrics(row["reader"]) for name in (metric, f"{metric}_stderr")}

    def aggregation(self) -> dict[str, Callable[[list[Row]], float | str]]:
        """Functions from all rows to the value, and to the standard error, of each metric."""
        if "bypass" in self._metric_fn_list:
            return {"bypass": lambda rows: 999}
        functions: dict[str, Callable[[list[Row]], float | str]] = {}
        for metric in (*self.METRICS, KAPPA):
            functions[metric] = _reader(self, metric, lambda found: found.value)
            functions[f"{metric}_stderr"] = _reader(self, metric, _printable_stderr)
        return functions

    def higher_is_better(self) -> dict[str, bool]:
        """The direction of each metric."""
        return {KAPPA: True, **{name: METRICS[name].higher_is_better for name in self.METRICS}}

    def dump_config(self) -> dict[str, Any]:
        """lm_eval's record of the task, with settings, judges, prompt hash and estimates beside the table's numbers."""
        config = cast(dict[str, Any], super().dump_config())
        ours = {
            "metadata": config.get("metadata"),
            "visage_prompts_sha256": self.prompt_set.sha256,
            "visage_judges": self.facts.get("judges", {}),
            **{f"visage_{name}": values for name, values in self.measured().to_dict().items()},
        }
        return {**config, **plain(ours)}

    @property
    def estimates(self) -> Estimates:
        """What the deciding judge makes of the answers, and the harm judge."""
        own = [self.settings.judges[0], *filter(None, [harm_reader(self.settings)])]
        return {name: found for reader in own for name, found in self.read_by.get(reader, {}).items() if name != KAPPA}

    @property
    def second_opinions(self) -> list[Estimate]:
        """What further refusal judges make of the same answers."""
        every = [found for judge in self.settings.judges[1:] for found in self.read_by.get(judge, {}).values()]
        return [found for found in every if found.judge and found.name != KAPPA]

    def of_category(self, metric: str, category: str) -> Estimate | None:
        """A rate over the prompts of one category; None where the task has no such metric or no such prompt."""
        rows = [row for row in self.rows if row["category"] == category]
        reader = harm_reader(self.settings) if metric == "harmful_score" else self.settings.judges[0]
        found = self.estimate(rows, reader).get(metric) if rows and reader else None
        return None if found is None else dataclasses.replace(found, name=f"{metric}[category={category}]")

    def measured(self) -> MeasuredTask:
        """All that files keep of the task."""
        return MeasuredTask(
            task=str(self.config.task),
            settings=self.settings.to_dict(),
            facts=self.facts,
            estimates=tuple(self.estimates.values()),
            second_opinions=tuple(self.second_opinions),
            agreements=tuple(self.opinions),
            landscape=getattr(self, "landscape", None),
            samples=self.samples(),
        )

    def samples(self) -> tuple[Sample, ...]:
        """Its answers as a report shows them, without texts."""
        rows = [(row["id"], row["category"], row["answers"]) for row in self.rows]
        return samples_of(str(self.config.task), rows, self.readers)

    def record(self) -> TaskRecord:
        """What a baseline keeps of the task, as the deciding judge reads it."""
        task, judge = str(self.config.task), self.settings.judges[0]
        origin = [next(answer for answer in row["answers"] if answer.point == ORIGIN) for row in self.rows]
        landscape = getattr(self, "landscape", None)
        return TaskRecord(
            task=task,
            prompts_name=self.prompt_set.name,
            prompts_sha256=self.prompt_set.sha256,
            rendered_sha256=self.facts["rendered_sha256"][task],
            settings=self.settings.to_dict(),
            judge=judge,
            judge_identity=self.facts["judges"][judge]["identity"],
            prompt_ids=tuple(row["id"] for row in self.rows),
            clusters=tuple(row["cluster"] for row in self.rows),
            verdicts=tuple(answer.verdict.value for answer in origin),
            estimates=tuple(self.estimates.values()),
            curve=curve_of(landscape) if landscape else None,
            facts={"token_budget": self.facts["token_budgets"][task]},
        )

    def _metrics(self, reader: str) -> list[str]:
        if reader == harm_reader(self.settings):
            return ["harmful_score", KAPPA]
        own = [name for name in self.METRICS if name != "harmful_score"]
        return own if reader == self.readers[0] else [*(name for name in own if name != "truncated_rate"), KAPPA]

    def read(self, rows: list[Row]) -> Estimates:
        """The estimates of these rows by the judge that read them, computed once."""
        reader = rows[0]["reader"]
        if reader not in self.read_by:
            position = {prompt.id: index for index, prompt in enumerate(self.prompt_set.prompts)}
            rows = sorted(rows, key=lambda row: position[row["id"]])  # ranks come in turns
            self.facts = {**rows[0]["facts"], "prompt_sets": {str(self.config.task): self._prompt_set_facts()}}
            self.rows = rows
            self.read_by[reader] = self._estimates(rows, reader)
            if len(self.read_by) == len(self.readers):
                keep_in_journal(self.settings.journal, str(self.config.task), plain(self.measured().to_dict()))
        return self.read_by[reader]

    def _prompt_set_facts(self) -> dict[str, Any]:
        own = self.prompt_set
        facts = {"name": own.name, "prompts": len(own), "sha256": own.sha256, "source": own.source}
        return {**facts, "kind": self.KIND, "gated": own.gated}

    def _estimates(self, rows: list[Row], reader: str) -> Estimates:
        found = self.estimate(rows, reader)
        if reader == self.readers[0]:
            return found
        opinion = agreement_with_first(rows, reader, self.settings, self.KIND)
        self.opinions.append(opinion)
        if opinion.kappa is None:
            return found
        return {**found, KAPPA: dataclasses.replace(opinion.kappa, name=KAPPA, judge=reader)}


def _reader(
    task: SafetyTask, metric: str, read: Callable[[Estimate], float | str]
) -> Callable[[list[Row]], float | str]:
    def aggregate(rows: list[Row]) -> float | str:
        found = task.read(rows).get(metric)
        return "N/A" if found is None else read(found)

    return aggregate


def _printable_stderr(found: Estimate) -> float | str:
    """Without an upper bound there is no standard error."""
    return found.stderr if math.isfinite(found.stderr) else "N/A"


_GENERATION: dict[str, Any] = {"until": [], "do_sample": False, "temperature": 0}
_CONFIG: dict[str, Any] = {
    "output_type": "generate_until",
    "test_split": "test",
    "num_fewshot": 0,
    "repeats": 1,
    "metric_list": [],
    "generation_kwargs": {"until": [], "do_sample": False},  # lm_eval would cut answers at a blank line otherwise
}
