from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from safety_tasks import measure_landscape
from safety_tasks.baseline import Baseline, Provenance, check_comparable
from safety_tasks.errors import InvalidSetting, UnknownName
from safety_tasks.profile import Profile
from safety_tasks.report.redaction import plain
from safety_tasks.sampling import Sampling
from safety_tasks.settings import Settings
from safety_tasks.task_record import TaskRecord

TOML = """
system_prompt = "Be brief."
thinking = "off"
max_new_tokens = 32

[template_arguments]
reasoning_effort = "low"

[sampling]
temperature = 0.7
samples = 5
"""
YAML = """
system_prompt: Be brief.
thinking: off
max_new_tokens: 32
template_arguments: {reasoning_effort: low}
sampling: {temperature: 0.7, samples: 5}
"""
CONTENT: dict[str, Any] = {
    "system_prompt": "Be brief.",
    "thinking": "off",
    "max_new_tokens": 32,
    "template_arguments": {"reasoning_effort": "low"},
    "sampling": {"temperature": 0.7, "samples": 5},
}


def written(name: str, text: str) -> str:
    Path(name).write_text(text)
    return name


def test_toml_yaml_and_json_say_the_same() -> None:
    found = {
        Settings.parse({"profile": written(name, text)})
        for name, text in (("a.toml", TOML), ("a.yaml", YAML), ("a.yml", YAML), ("a.json", json.dumps(CONTENT)))
    }
    assert found == {Settings.parse({"profile": CONTENT})}
    (settings,) = found
    assert (settings.system_prompt, settings.thinking, settings.max_new_tokens) == ("Be brief.", "off", 32)
    assert settings.sampling == Sampling(temperature=0.7, samples=5)
    assert settings.template_arguments == {"reasoning_effort": "low"}


def test_settings_hold_what_the_file_says_and_not_where_it_lies() -> None:
    first = Settings.parse({"profile": written("a.toml", TOML)})
    assert Settings.parse({"profile": written("b.toml", TOML)}) == first
    assert "a.toml" not in json.dumps(first.to_dict())
    edited = Settings.parse({"profile": written("a.toml", TOML.replace("0.7", "0.8"))})
    assert edited != first and hash(edited) != hash(first)


def test_plain_values_make_the_settings_again() -> None:
    settings = Settings.parse({"profile": CONTENT})
    assert Settings.parse(json.loads(json.dumps(settings.to_dict()))) == settings
    assert Settings.from_metadata({f"visage_{k}": v for k, v in settings.to_dict().items()}) == settings


def test_the_same_options_are_the_same_measurement_with_or_without_a_file() -> None:
    assert Settings.parse({"profile": {"system_prompt": "Be brief."}}) == Settings(system_prompt="Be brief.")


def test_a_landscapes_settings_lose_the_sampling_alone() -> None:
    settings = Settings.parse({"profile": CONTENT}).greedy()
    assert settings.sampling is None and settings.samples == 1 and settings.decoding == "greedy decoding"
    assert settings.system_prompt == "Be brief." and settings.template_arguments == {"reasoning_effort": "low"}


def test_what_is_written_down_has_the_content_and_the_system_prompt_as_length_and_hash() -> None:
    found = plain(Settings.parse({"profile": CONTENT}).to_dict())
    assert "Be brief." not in json.dumps(found) and found["system_prompt"].startswith("9 characters, sha256 ")
    assert found["profile"]["sampling"]["temperature"] == 0.7
    assert found["profile"]["template_arguments"] == {"reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("name", "value"), [("system_prompt", "Be long."), ("max_new_tokens", "33"), ("thinking", "auto")]
)
def test_an_option_that_says_something_else_than_the_profile_is_an_error(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{name} is .* as an option and .* in the profile") as raised:
        Settings.parse({"profile": CONTENT, name: value})
    assert "Be " not in str(raised.value), "a system prompt may be a secret of its team"
    assert Settings.parse({"profile": CONTENT, name: CONTENT[name]}) == Settings.parse({"profile": CONTENT})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"thinkng": "on"}, "no key 'thinkng'.*max_new_tokens"),
        ({"sampling": {"temprature": 1}}, "no key of sampling 'temprature'.*temperature"),
        ({"system_prompt": 5}, "system_prompt is of type int: it must be text"),
        ({"thinking": "maybe"}, "thinking is 'maybe': it must be auto, on or off"),
        ({"max_new_tokens": 0}, "a whole number of at least 1"),
        ({"max_new_tokens": True}, "a whole number of at least 1"),
        ({"sampling": 0.7}, "it must be a table"),
        ({"sampling": {"temperature": 0}}, "a positive number .for greedy answers leave"),
        ({"sampling": {"temperature": float("nan")}}, "a positive number"),
        ({"sampling": {"temperature": "hot"}}, "a positive number"),
        ({"sampling": {"top_p": 0}}, r"a fraction in \(0, 1\]"),
        ({"sampling": {"top_p": 90}}, r"a fraction in \(0, 1\]"),
        ({"sampling": {"top_k": 0}}, "top_k is 0: it must be a whole number of at least 1"),
        ({"sampling": {"samples": 2.5}}, "samples is 2.5: it must be a whole number of at least 1"),
        ({"sampling": {"seed": -1}}, "seed is -1"),
        ({"template_arguments": [1]}, "template_arguments is no table"),
        ({"template_arguments": {"tokenize": True}}, "template_arguments.tokenize is set by the measurement itself"),
        ({"template_arguments": {"day": object()}}, r"template_arguments.day \(object\) is no plain value"),
        ({"template_arguments": {"share": float("inf")}}, "is no plain value"),
        ({"thinking": "on", "template_arguments": {"enable_thinking": True}}, "beside template_arguments.enable_think"),
    ],
)
def test_what_a_profile_cannot_say_is_an_error_with_the_rule(content: dict[str, Any], said: str) -> None:
    with pytest.raises((InvalidSetting, UnknownName), match=said):
        Settings.parse({"profile": content})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.ini", "", "the suffix '.ini': name a file that ends in .toml, .yaml, .yml, .json"),
        ("a.toml", "a = ", "is no TOML: "),
        ("a.yaml", "system_prompt: [my secret", "is no YAML: it does not parse .at line 1"),
        ("a.json", "{", "is no JSON: "),
        ("a.json", "[]", "holds no table"),
        ("a.yaml", "", "holds no table"),
    ],
)
def test_a_file_that_is_no_profile_says_so(name: str, text: str, said: str) -> None:
    with pytest.raises(
        InvalidSetting, match=f"The profile '{name}' {'has ' if name == 'a.ini' else ''}{said}"
    ) as raised:
        Settings.parse({"profile": written(name, text)})
    assert "secret" not in str(raised.value)


def test_a_missing_file_is_an_error_before_anything_loads() -> None:
    with pytest.raises(InvalidSetting, match="The profile 'none.toml' cannot be read .No such file"):
        measure_landscape("no-such-model", profile="none.toml")


def test_template_arguments_need_a_template() -> None:
    with pytest.raises(InvalidSetting, match="template_arguments with chat=off"):
        Settings.parse({"profile": {"template_arguments": {"a": 1}}, "chat": "off"})


def record(settings: Settings) -> TaskRecord:
    return TaskRecord(
        "visage_harmful", "p", "0", "1", settings.to_dict(), "refusal", "2", ("a",), ("a",), ("refused",), ()
    )


def test_a_baseline_of_another_sampling_is_not_compared() -> None:
    where = Provenance("2026-01-01", "m", None, "float32", "cpu")
    then, same, other = (
        Baseline(where, {"visage_harmful": record(Settings.parse({"profile": {"sampling": {"temperature": t}}}))})
        for t in (0.7, 0.7, 0.8)
    )
    assert check_comparable(then, same) == []
    with pytest.raises(Exception, match="profile.sampling.temperature 0.7 then, 0.8 now"):
        check_comparable(then, other)
    with pytest.raises(Exception, match="profile.sampling.temperature 0.7 then, not set now"):
        check_comparable(then, Baseline(where, {"visage_harmful": record(Settings())}))


def test_a_profile_is_hashable_and_names_its_sampling() -> None:
    assert len({Profile(), Profile(sampling=Sampling())}) == 2
    assert str(Sampling(temperature=0.7, top_p=0.9, top_k=1, samples=5)) == (
        "5 answers a prompt sampled at temperature 0.7, top_p 0.9, top_k 1"
    )
    assert str(Sampling()) == "1 answer a prompt sampled at temperature 1"
