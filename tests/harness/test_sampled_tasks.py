"""Our tasks under a profile: what is sampled, what stays greedy, and what the numbers count."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lm_eval.api.model import LM
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.models.openai_completions import LocalCompletionsAPI
from lm_eval.tasks import TaskManager

from pytest_llmsafety.testing import COMPLIANCE, REFUSAL, FakeModel
from safety_tasks import measure_landscape
from safety_tasks.chat import Rendered, render
from safety_tasks.decoding import Completion
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.errors import InvalidModel, InvalidSetting
from safety_tasks.harness.evaluation import EngineLM, evaluate_tasks, load_lm
from safety_tasks.harness.tasks_by_name import HarmfulTask
from safety_tasks.measurement import Question, measure
from safety_tasks.models import LoadedModel
from safety_tasks.points import ORIGIN
from safety_tasks.prompts import Message, load_prompts
from safety_tasks.sampling import Draw
from safety_tasks.settings import Settings

TASKS = Path(__file__).parents[2] / "safety_tasks" / "harness" / "tasks"
THREE = {"temperature": 0.9, "samples": 3}


def settings(content: dict[str, Any], **options: Any) -> Settings:
    return Settings.parse({"profile": content, "max_new_tokens": 8, "journal": "off", **options})


def evaluated(lm: LM, tasks: Sequence[str], metadata: dict[str, Any], **kwargs: Any) -> Any:
    manager = TaskManager(include_defaults=False, include_path=str(TASKS), metadata=metadata)
    return simple_evaluate(lm, tasks=list(tasks), task_manager=manager, log_samples=False, **kwargs)


class Scripted(FakeModel):
    """Answers a prompt's samples by one letter each: r refused, c complied, u never done with thinking."""

    def __init__(self, script: Sequence[str]) -> None:
        super().__init__()
        self.script = script
        self.draws: list[Draw] = []

    def sample(
        self, prompts: Sequence[Rendered], max_new_tokens: int, stop_strings: tuple[str, ...], draw: Draw
    ) -> list[Completion]:
        self.draws.append(draw)
        answers = {
            "r": Completion(REFUSAL, (1,), True),
            "c": Completion(COMPLIANCE, (1,), True),
            "u": Completion("", (1,), False, thinking_tokens=None),
        }
        return [answers[letters[draw.sample]] for letters in self.script]


def harmful(script: Sequence[str], prompts: str = "builtin-harmful") -> HarmfulTask:
    sampling = {"sampling": {"samples": len(script[0])}}
    own = settings(sampling, n_prompts=len(script), prompts=prompts)
    task = evaluate_tasks(EngineLM(Scripted(script)), ["visage_harmful"], own)["visage_harmful"]
    assert isinstance(task, HarmfulTask)
    return task


def test_the_rate_is_over_answers_and_at_k_over_prompts() -> None:
    found = harmful(["rrr", "crr", "rrc", "ccc"])
    rate, at_3 = found.estimates["attack_success_rate"], found.estimates["attack_success_rate@3"]
    assert rate.value == 5 / 12 and (rate.n, rate.n_effective) == (4, pytest.approx(4))
    assert (at_3.value, at_3.n) == (3 / 4, 4)
    assert [found.asr_at(k).value for k in (1, 2, 3)] == [2 / 4, 2 / 4, 3 / 4]  # type: ignore[union-attr]
    assert found.record().verdicts == ("refused", "complied", "complied", "complied")


def test_a_prompt_is_unscored_at_k_where_nothing_helps_and_something_is_unscored() -> None:
    found = harmful(["rru", "ruc", "rrr", "urr"])
    at_3 = found.estimates["attack_success_rate@3"]
    assert (at_3.value, at_3.n, at_3.note) == (1 / 2, 2, "2 of 4 answers unscored")
    at_2 = found.asr_at(2)
    assert at_2 is not None and (at_2.value, at_2.n) == (0, 2)
    assert found.estimates["unscored_rate"].value == 3 / 12
    assert found.record().verdicts == ("unscored", "complied", "refused", "unscored")


def test_at_k_is_counted_by_category(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("prompt,category\none,a\ntwo,a\nthree,b\n")
    found = harmful(["rc", "rr", "cc"], str(path))
    of_a, of_b = (found.asr_at(2, category) for category in "ab")
    assert of_a is not None and (of_a.name, of_a.value, of_a.n) == ("attack_success_rate@2[category=a]", 1 / 2, 2)
    assert of_b is not None and of_b.value == 1 and found.asr_at(2, "c") is None


def test_estimates_say_how_answers_were_sampled() -> None:
    found = harmful(["rr"] * 3).estimates
    how = "sampled at temperature 1"
    assert found["attack_success_rate"].target == f"over prompts like these, this judge and 2 answers a prompt {how}"
    assert found["attack_success_rate@2"].target.endswith(f"this judge and at least one of 2 answers a prompt {how}")
    assert found["truncated_rate"].target == f"over prompts like these and 2 answers a prompt {how}"


def test_the_landscape_stays_greedy_beside_sampled_tasks() -> None:
    fake = FakeModel(asr_at_origin=0.5)
    own = settings({"sampling": THREE, "system_prompt": "Be brief."}, n_prompts=6, points=3, directions=1)
    tasks = evaluate_tasks(EngineLM(fake), ["visage_safety"], own)
    facts = tasks["visage_harmful"].facts
    how = "3 answers a prompt sampled at temperature 0.9"
    assert facts["decoding"] == {
        "visage_landscape": "greedy decoding",
        "visage_harmful": how,
        "visage_over_refusal": how,
    }
    greedy = settings({"system_prompt": "Be brief."}, n_prompts=6, points=3, directions=1, judge="keywords-advbench")
    assert tasks["visage_landscape"].record().settings == greedy.to_dict(), "a baseline of either profile serves it"
    assert "attack_success_rate@3" not in tasks["visage_landscape"].estimates
    # greedy: the landscape's 6 prompts at 3 points; sampled: 6 harmful and 6 benign, three times
    assert sorted(fake.calls) == sorted([(0.0, 6), (-0.5, 6), (0.5, 6)] + [(0.0, 12)] * 3)


def test_a_landscape_from_python_is_the_greedy_one(build_model: Callable[..., LoadedModel]) -> None:
    options: dict[str, Any] = dict(n_prompts=4, points=3, directions=1, max_new_tokens=4, journal="off")
    plain = measure_landscape(tuple(build_model()), **options)
    sampled = measure_landscape(tuple(build_model()), **options, profile={"sampling": THREE})
    assert sampled.facts["decoding"] == plain.facts["decoding"] and (sampled.verdicts == plain.verdicts).all()


def test_lm_evals_table_has_a_row_for_as_many_answers_as_are_sampled(build_model: Callable[..., LoadedModel]) -> None:
    model, tokenizer = build_model()
    lm = HFLM(pretrained=model, tokenizer=tokenizer)
    Path("deploy.toml").write_text("max_new_tokens = 4\n[sampling]\nsamples = 3\n")
    metadata = {"visage_profile": "deploy.toml", "visage_n_prompts": 4, "visage_journal": "off"}
    found = evaluated(lm, ["visage_harmful", "visage_over_refusal"], metadata)
    row = found["results"]["visage_harmful"]
    assert 0 <= row["attack_success_rate,refusal"] <= row["attack_success_rate@3,refusal"] <= 1
    assert row["attack_success_rate@3_stderr,refusal"] > 0
    assert found["higher_is_better"]["visage_harmful"]["attack_success_rate@3"] is False
    config = json.loads(json.dumps(found["configs"]["visage_harmful"], default=str))
    assert config["generation_kwargs"] == {"until": [], "do_sample": True, "temperature": 1.0, "top_p": 1.0}
    assert config["visage_settings"]["profile"]["sampling"]["samples"] == 3
    again = evaluated(lm, ["visage_harmful", "visage_over_refusal"], metadata)
    assert again["results"] == found["results"], "the same seed gives the same answers"


def test_lm_evals_flags_must_not_contradict_the_profile() -> None:
    lm = EngineLM(FakeModel())
    metadata = {"visage_profile": {"max_new_tokens": 4, "system_prompt": "Be brief.", "sampling": THREE}}
    metadata |= {"visage_n_prompts": 3}  # type: ignore[dict-item]
    with pytest.raises(InvalidSetting, match="--gen_kwargs and the profile's max_new_tokens differ"):
        evaluated(lm, ["visage_harmful"], metadata, gen_kwargs={"max_gen_toks": 5})
    with pytest.raises(InvalidSetting, match="--system_instruction and the profile's system_prompt differ"):
        evaluated(lm, ["visage_harmful"], metadata, system_instruction="Be long.")
    with pytest.raises(InvalidSetting, match="--gen_kwargs temperature: the safety tasks sample as their profile says"):
        evaluated(lm, ["visage_harmful"], metadata, gen_kwargs={"temperature": 0.5})
    same = {"max_gen_toks": 4, "temperature": 0.9}
    assert evaluated(lm, ["visage_harmful"], metadata, gen_kwargs=same, system_instruction="Be brief.")


def test_an_engine_that_cannot_sample_says_so() -> None:
    class Greedy:
        """As FakeModel, without its method sample."""

        def __init__(self) -> None:
            self.fake = FakeModel()

        def __getattr__(self, name: str) -> Any:
            if name == "sample":
                raise AttributeError(name)
            return getattr(self.fake, name)

    with pytest.raises(InvalidModel, match="FakeModel .a Greedy. has no method sample"):
        evaluate_tasks(EngineLM(Greedy()), ["visage_harmful"], settings({"sampling": THREE}, n_prompts=3))  # type: ignore[arg-type]


class Server(LM):
    """A model behind an interface, which keeps what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[dict[str, Any]] = []

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        self.asked.append(requests[0].args[1])
        return [REFUSAL for _ in requests]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return chat_history[-1]["content"]

    def loglikelihood(self, requests: Any) -> Any:
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def test_a_server_is_asked_to_sample_with_another_seed_for_each_answer() -> None:
    lm = Server()
    evaluate_tasks(lm, ["visage_harmful"], settings({"sampling": {**THREE, "top_k": 7}}, n_prompts=3))
    assert len(lm.asked) == len({one["seed"] for one in lm.asked}) == 3
    same = {"until": [], "max_gen_toks": 8, "do_sample": True, "temperature": 0.9, "top_p": 1.0, "top_k": 7}
    assert all({**one, "seed": 0} == {**same, "seed": 0} for one in lm.asked)
    payload = LocalCompletionsAPI._create_payload(
        SimpleNamespace(model="m", _max_gen_toks=1), ["x"], generate=True, gen_kwargs=dict(lm.asked[1]), seed=1234
    )
    assert (payload["seed"], payload["temperature"], payload["max_tokens"]) == (lm.asked[1]["seed"], 0.9, 8)


def test_template_arguments_do_not_reach_a_server_and_it_says_so() -> None:
    own = settings({"template_arguments": {"effort": "low"}}, n_prompts=3)
    with pytest.raises(InvalidModel, match="template_arguments, and lm_eval's model type Server gives no access"):
        evaluate_tasks(Server(), ["visage_harmful"], own)


def test_template_arguments_reach_the_template_and_one_that_it_ignores_is_an_error(
    build_model: Callable[..., LoadedModel], model_folder: Path
) -> None:
    source = build_model().tokenizer
    tokenizer = type(source)(tokenizer_object=source.backend_tokenizer)
    tokenizer.chat_template = "{{ effort }}|{{ messages[-1].content }}|{{ date_string }}"
    talk = [Message("user", "Hi")]
    own = settings({"template_arguments": {"effort": "low", "date_string": "today"}})
    assert render(tokenizer, talk, own).text == "low|Hi|today"
    assert render(tokenizer, talk, settings({"template_arguments": {"effort": "high"}})).text == "high|Hi|26 Jul 2024"
    with pytest.raises(InvalidModel, match="does not read 'efort', which the profile sets"):
        render(tokenizer, talk, settings({"template_arguments": {"efort": "low"}}))
    with pytest.raises(InvalidModel, match="random-llama' does not read 'effort'"):
        load_lm(str(model_folder), settings=settings({"template_arguments": {"effort": "low"}}))


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[Draw]:
    """Every draw that is really generated."""
    draws: list[Draw] = []
    sample = HuggingFaceEngine.sample

    def counted(engine: HuggingFaceEngine, *arguments: Any) -> Any:
        draws.append(arguments[-1])
        return sample(engine, *arguments)

    monkeypatch.setattr(HuggingFaceEngine, "sample", counted)
    return draws


def answers(loaded: LoadedModel, sampling: dict[str, Any]) -> list[list[tuple[Any, ...]]]:
    own = settings({"sampling": sampling}, judge="keywords-advbench", journal="journal")
    asked = [Question(prompt, (ORIGIN,), own) for prompt in load_prompts("builtin-harmful").head(4).prompts]
    found = measure(HuggingFaceEngine(loaded), asked).answers
    return [[(answer.verdicts, answer.n_tokens, answer.finished) for answer in row] for row in found]


def test_a_sampled_run_goes_on_from_the_journal(build_model: Callable[..., LoadedModel], sampled: list[Draw]) -> None:
    loaded = build_model()
    two = answers(loaded, {"samples": 2})
    assert [draw.sample for draw in sampled] == [0, 1]
    four = answers(loaded, {"samples": 4})
    assert [draw.sample for draw in sampled] == [0, 1, 2, 3] and [row[:2] for row in four] == two
    assert answers(loaded, {"samples": 4}) == four and len(sampled) == 4
    for other in ({"samples": 1, "seed": 1}, {"samples": 1, "temperature": 0.5}, {"samples": 1, "top_k": 3}):
        before = len(sampled)
        answers(loaded, other)
        assert len(sampled) == before + 1, f"{other} is another measurement"
