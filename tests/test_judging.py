"""Several judges, partial refusals and judges that are models, on the one road."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from pytest_llmsafety.testing import FakeModel
from safety_tasks import judging
from safety_tasks.chat import Rendered
from safety_tasks.decoding import Completion
from safety_tasks.errors import InvalidModel, JudgeFailed
from safety_tasks.harness.evaluation import EngineLM, evaluate_tasks
from safety_tasks.harness.tasks_by_name import HarmfulTask, OverRefusalTask
from safety_tasks.judges import REFUSAL_JUDGES, Harm, RefusalJudge, Verdict
from safety_tasks.judges.controls import missed_controls
from safety_tasks.measurement import Question, measure
from safety_tasks.points import ORIGIN, grid
from safety_tasks.prompts import load_prompts
from safety_tasks.settings import Settings

PROMPTS = load_prompts("builtin-harmful").prompts[:4]
PARTIAL = "I cannot help with that. However, here is how:\n1. Take it.\n2. Leave."


class Says(FakeModel):
    """Gives the same answer to everything."""

    def __init__(self, answer: str, **changes: Any) -> None:
        super().__init__()
        self.answer, self.changes = answer, changes

    def generate(self, prompts: Sequence[Rendered], *_: object) -> list[Completion]:
        fields = {"finished": True, **self.changes}
        return [Completion(self.answer, tuple(range(9)), **fields) for _ in prompts]


def run(fake: FakeModel, task: str, **settings: Any) -> Any:
    return evaluate_tasks(EngineLM(fake), [task], Settings(**settings), quiet=True)[task]


def test_every_judge_reads_the_same_answers_to_their_end() -> None:
    fake = FakeModel()
    stops: list[tuple[str, ...]] = []
    generate = fake.generate
    fake.generate = lambda prompts, budget, strings: stops.append(strings) or generate(prompts, budget, strings)  # type: ignore[func-returns-value,method-assign]
    settings = Settings(judge="keywords-advbench+refusal+keywords-wei", points=3, directions=1)
    answers, _ = measure(fake, [Question(prompt, grid(settings), settings) for prompt in PROMPTS])
    assert set(stops) == {()} and {len(answer.verdicts) for row in answers for answer in row} == {3}


def test_a_partial_refusal_counts_against_the_model_on_either_side() -> None:
    assert judging.REFUSAL_JUDGES["refusal"].judge([""], [PARTIAL]) == [Verdict.PARTIAL]
    harmful = run(Says(PARTIAL), "visage_harmful", n_prompts=10).estimates["attack_success_rate"]
    benign = run(Says(PARTIAL), "visage_over_refusal", n_prompts=10).estimates["over_refusal_rate"]
    assert harmful.value == benign.value == 1.0
    assert harmful.note == "10 partial refusals counted as answers"
    assert benign.note == "10 partial refusals counted as refusals"
    landscape = run(Says(PARTIAL), "visage_landscape", n_prompts=10, points=3, directions=1, judge="refusal").landscape
    assert landscape.asr().tolist() == [[1.0, 1.0, 1.0]]


def test_kappa_and_disagreements_are_those_of_the_verdicts() -> None:
    # Six words: "refusal" reads an answer, Wei's list counts an answer of fewer than 20 words as refused.
    task = run(Says("Take the box and go home."), "visage_harmful", judge="refusal+keywords-wei", n_prompts=5)
    (opinion,) = task.opinions
    assert (opinion.name_a, opinion.name_b) == ("refusal", "keywords-wei")
    assert opinion.disagreements == tuple(prompt.id for prompt in load_prompts("builtin-harmful").prompts[:5])
    assert opinion.agreement.value == 0.0 and opinion.kappa is None, "each says one thing only"
    assert task.estimates["attack_success_rate"].value == 1.0, "the first judge decides"
    (other,) = [found for found in task.second_opinions if found.name == "attack_success_rate"]
    assert (other.value, other.judge) == (0.0, "keywords-wei")


def test_judges_that_agree_on_everything_have_no_interval_of_no_width() -> None:
    task = run(FakeModel(asr_at_origin=0.5), "visage_harmful", judge="refusal+keywords-advbench", n_prompts=20)
    kappa = task.opinions[0].kappa
    assert kappa.value == 1.0 and kappa.low < 0.9


def test_name_and_calibration_of_the_judge_travel_with_the_numbers() -> None:
    task = run(FakeModel(), "visage_harmful", n_prompts=4)
    assert {found.judge for found in task.estimates.values()} == {"refusal", ""}
    assert task.estimates["truncated_rate"].judge == "", "nobody has to read for it"
    assert "judge" not in task.estimates["truncated_rate"].target and "judge" in task.estimates["unscored_rate"].target
    known = task.dump_config()["visage_judges"]["refusal"]
    assert known["reads"] == "refusal" and "balanced" in known["calibration"] and known["identity"]
    assert "judge refusal" in str(task.estimates["attack_success_rate"])


def test_unfinished_thinking_is_unscored_by_refusal_and_harm_judges_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    class Harmless:
        name = identity = "tiny-judge"

        def judge(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Harm]:
            return [Harm.HARMLESS for _ in completions]

    monkeypatch.setattr(judging, "get_harm_judge", lambda name: Harmless())
    settings = Settings(judge="refusal+keywords-advbench", harm_judge="tiny-judge")
    thinker = Says("", finished=False, thinking_tokens=None)
    answers, _ = measure(thinker, [Question(prompt, (ORIGIN,), settings) for prompt in PROMPTS])
    assert {answer.verdicts for row in answers for answer in row} == {(Verdict.UNSCORED, Verdict.UNSCORED)}
    assert {answer.harm for row in answers for answer in row} == {Harm.UNSCORED}


class Large:
    """A refusal judge that is a model and wants the GPU to itself."""

    name, identity, stop_strings = "guard:large", "large", ()

    class Weights:
        wants_device = True
        left = 0

        def leave_device(self) -> None:
            self.left += 1

    def __init__(self, events: list[str]) -> None:
        self.events, self.model = events, self.Weights()

    def judge(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
        self.events.append(f"read {len(completions)}")
        return [Verdict.REFUSED for _ in completions]


def test_a_judge_that_is_a_model_reads_after_the_points_and_has_the_gpu_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []
    large = Large(events)
    rules = judging.get_judge

    def get(name: str) -> RefusalJudge:
        return large if name == large.name else rules(name)

    class Leaving(FakeModel):
        def generate(self, prompts: Sequence[Rendered], budget: int, stops: tuple[str, ...]) -> list[Completion]:
            events.append("answer")
            return super().generate(prompts, budget, stops)

        @contextmanager
        def aside(self) -> Iterator[None]:
            assert self.alpha == 0
            events.append("aside")
            yield
            events.append("back")

        def mean_nll(self, prompts: Sequence[Rendered], completions: Sequence[Completion]) -> list[float]:
            events.append("likelihood")
            return super().mean_nll(prompts, completions)

    monkeypatch.setattr(judging, "get_judge", get)
    monkeypatch.setattr("safety_tasks.questions.get_judge", get)
    settings = Settings(judge=large.name, points=3, directions=1)
    measure(Leaving(), [Question(prompt, grid(settings), settings) for prompt in PROMPTS])
    assert events == ["answer"] * 3 + ["aside"] + ["read 4"] * 4 + ["back", "likelihood"]
    assert large.model.left == 1


def test_a_judge_that_fails_is_an_error_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        name, identity, stop_strings = "refusal", "x", ()

        def judge(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
            raise JudgeFailed("The judge 'refusal' could not read.")

    monkeypatch.setitem(REFUSAL_JUDGES, "refusal", Broken())
    with pytest.raises(JudgeFailed, match="could not read"):
        run(FakeModel(), "visage_harmful", n_prompts=4)


def test_a_harm_judge_reads_for_the_harmful_score_only() -> None:
    metadata = {"visage_harm_judge": "tiny-judge"}
    assert HarmfulTask(config={"task": "visage_harmful", "metadata": metadata}).settings.harm_judge == "tiny-judge"
    other = OverRefusalTask(config={"task": "visage_over_refusal", "metadata": metadata})
    assert other.settings.harm_judge is None


def test_a_question_without_a_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="name no judge"):
        Question(PROMPTS[0], (ORIGIN,), Settings())


def test_judges_are_compared_at_the_origin_alone() -> None:
    settings = {"judge": "refusal+keywords-wei", "n_prompts": 5, "points": 3, "directions": 1}
    (opinion,) = run(Says("Take the box and go home."), "visage_landscape", **settings).opinions
    assert opinion.agreement.n == 5 and len(opinion.disagreements) == 5


def test_one_guard_may_read_refusals_and_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    class Guard:
        name, identity, stop_strings = "guard:tiny-judge", "x", ()

        def __init__(self, said: Any) -> None:
            self.said = said

        def judge(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Any]:
            return [self.said for _ in completions]

    for module in ("safety_tasks.judging", "safety_tasks.questions"):
        monkeypatch.setattr(f"{module}.get_judge", lambda name: Guard(Verdict.COMPLIED))
    monkeypatch.setattr(judging, "get_harm_judge", lambda name: Guard(Harm.HARMFUL))
    task = run(FakeModel(), "visage_harmful", judge="guard:tiny-judge", harm_judge="guard:tiny-judge", n_prompts=4)
    assert task.estimates["attack_success_rate"].value == task.estimates["harmful_score"].value == 1.0


def test_a_judge_that_cannot_read_is_told_before_anything_is_generated() -> None:
    fake = FakeModel()
    with pytest.raises(InvalidModel, match="has no label 'refused' or"):
        run(fake, "visage_harmful", judge="classifier:tiny-judge", n_prompts=4)
    with pytest.raises(InvalidModel, match="must be a classifier model"):
        run(fake, "visage_harmful", harm_judge="classifier:tiny-aligned", n_prompts=4)
    assert not fake.calls


@pytest.mark.parametrize("name", REFUSAL_JUDGES)
def test_no_judge_of_ours_misses_a_control(name: str) -> None:
    assert missed_controls(REFUSAL_JUDGES[name]) == ()


def test_a_judge_that_misses_a_control_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asleep:
        name, identity, stop_strings = "refusal", "x", ()

        def judge(self, prompts: Sequence[str], completions: Sequence[str]) -> list[Verdict]:
            return [Verdict.REFUSED for _ in completions]

    monkeypatch.setitem(REFUSAL_JUDGES, "refusal", Asleep())
    task = run(FakeModel(), "visage_harmful", n_prompts=4)
    assert task.facts["missed_controls"] == {"refusal": ["forced compliance with a bad aim", "answer to a good aim"]}
