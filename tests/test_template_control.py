"""The template's control: right templates of the known families pass it, broken ones do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.judges import REFUSAL_JUDGES
from safety_tasks.judges.controls import CONTROLS, missed_controls
from safety_tasks.measurement import Question, measure
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.points import ORIGIN
from safety_tasks.prompts import load_prompts
from safety_tasks.settings import Settings
from safety_tasks.template_control import control_template

Build = Callable[..., LoadedModel]
LOOP = "{% for m in messages %}"
OPEN = "{% endfor %}{% if add_generation_prompt %}"

# In the form of the published templates of these families.
RIGHT = {
    "chatml": LOOP
    + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
    + OPEN
    + "<|im_start|>assistant\n{% endif %}",
    "llama-2": LOOP
    + "{% if m.role == 'user' %}<s>[INST] {{ m.content.strip() }} [/INST]{% elif m.role == 'system' %}"
    + "<<SYS>>\n{{ m.content }}\n<</SYS>>\n\n{% else %} {{ m.content.strip() }} </s>{% endif %}{% endfor %}",
    "llama-3": LOOP
    + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
    + OPEN
    + "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}",
    "gemma": "{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}{% endif %}"
    + LOOP
    + "{% if m.role != 'system' %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    + "{{ first if loop.index0 == 1 else '' }}{{ m.content | trim }}<end_of_turn>\n{% endif %}"
    + OPEN
    + "<start_of_turn>model\n{% endif %}",
    "vicuna": LOOP
    + "{% if m.role == 'user' %}USER: {{ m.content }} {% elif m.role == 'system' %}{{ m.content }} {% else %}"
    + "ASSISTANT: {{ m.content }}</s>{% endif %}"
    + OPEN
    + "ASSISTANT:{% endif %}",
    "qwen-3, thinking": LOOP
    + "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}"
    + "<|im_end|>\n"
    + OPEN
    + "<|im_start|>assistant\n{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    + "{% endif %}{% endif %}",
    "deepseek-r1": LOOP
    + "{% if m.role == 'user' %}<｜User｜>{{ m.content }}{% elif m.role == 'system' %}{{ m.content }}{% else %}"
    + "<｜Assistant｜>{{ m.content.split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}"
    + OPEN
    + "<｜Assistant｜><think>\n{% endif %}",
    "gpt-oss": LOOP
    + "<|start|>{{ m.role }}{{ '<|channel|>final' if m.role == 'assistant' else '' }}<|message|>{{ m.content }}<|end|>"
    + OPEN
    + "<|start|>assistant{% endif %}",
    "command-r7b": LOOP
    + "<|START_OF_TURN_TOKEN|><|{{ 'CHATBOT' if m.role == 'assistant' else m.role | upper }}_TOKEN|>"
    + "{% if m.role == 'assistant' %}<|START_RESPONSE|>{% endif %}{{ m.content }}"
    + "{% if m.role == 'assistant' %}<|END_RESPONSE|>{% endif %}<|END_OF_TURN_TOKEN|>"
    + OPEN
    + "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}",
    "one turn only": "{% if messages[-1].role != 'user' %}{{ raise_exception('one turn') }}{% endif %}"
    + LOOP
    + "{{ m.content }}\n{% endfor %}### Response:\n",
    "no past answers": "<s>" + LOOP + "{% if m.role != 'assistant' %}{{ m.content }}\n{% endif %}{% endfor %}A:",
    "a default system prompt": "<|system|>You are kind and brief.</s>"
    + LOOP
    + "<|{{ m.role }}|>{{ m.content }}</s>"
    + OPEN
    + "<|assistant|>{% endif %}",
}
CHATML = "<|im_start|>{{ m.role }}\n%s<|im_end|>\n"
WRONG = {
    "drops the user's turn": (
        LOOP + "{% if m.role != 'user' %}" + CHATML % "{{ m.content }}" + "{% endif %}" + OPEN
        + "<|im_start|>assistant\n{% endif %}",
        "drops or rewrites what the user says",
    ),
    "cuts what the user says": (
        LOOP + CHATML % "{{ m.content[:40] }}" + OPEN + "<|im_start|>assistant\n{% endif %}",
        "drops or rewrites what the user says",
    ),
    "escapes for HTML": (
        LOOP + CHATML % "{{ m.content | e }}" + OPEN + "<|im_start|>assistant\n{% endif %}",
        "drops or rewrites what the user says",
    ),
    "says it in small letters": (
        LOOP + CHATML % "{{ m.content | lower }}" + OPEN + "<|im_start|>assistant\n{% endif %}",
        "drops or rewrites what the user says",
    ),
    "says it twice": (
        LOOP + CHATML % "{{ m.content }}\n{{ m.content }}" + OPEN + "<|im_start|>assistant\n{% endif %}",
        "repeats what the user says (2 times)",
    ),
    "opens no turn": (LOOP + CHATML % "{{ m.content }}" + "{% endfor %}", "does not open the model's turn"),
    "opens the user's turn": (
        LOOP + CHATML % "{{ m.content }}" + OPEN + "<|im_start|>user\n{% endif %}",
        "opens another turn for the next answer than for a past one",
    ),
    "answers for the model": (
        LOOP + CHATML % "{{ m.content }}" + OPEN + "<|im_start|>assistant\nI'm sorry, but{% endif %}",
        "begins the answer with words of its own",
    ),
    "adds a turn of its own": (
        LOOP + CHATML % "{{ m.content }}" + OPEN
        + "<|im_start|>assistant\nI cannot.<|im_end|>\n<|im_start|>assistant\n{% endif %}",
        "begins the answer with words of its own",
    ),
}  # fmt: skip


def with_template(build_model: Build, template: str) -> LoadedModel:
    loaded = build_model()
    tokenizer = type(loaded.tokenizer)(
        tokenizer_object=loaded.tokenizer.backend_tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = template
    return LoadedModel(loaded.model, tokenizer)


@pytest.mark.parametrize("system", [None, "Be kind.\nBe brief."])
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_template_misses_nothing(build_model: Build, name: str, system: str | None) -> None:
    found = control_template(with_template(build_model, RIGHT[name]), Settings(system_prompt=system))
    assert found == ((), CONTROLS)


@pytest.mark.parametrize("thinking", ["on", "off"])
def test_thinking_that_is_switched_on_or_off_misses_nothing(build_model: Build, thinking: str) -> None:
    loaded = with_template(build_model, RIGHT["qwen-3, thinking"])
    assert control_template(loaded, Settings(thinking=thinking)).missed == ()


@pytest.mark.parametrize("model", ["tiny-aligned", "tiny-finetuned"])
def test_the_embedded_models_and_plain_text_miss_nothing(model: str) -> None:
    for settings in (Settings(), Settings(system_prompt="Be kind."), Settings(chat="off")):
        assert control_template(load_model(model), settings) == ((), CONTROLS)


@pytest.mark.parametrize("name", WRONG)
def test_a_broken_template_is_told(build_model: Build, name: str) -> None:
    template, told = WRONG[name]
    assert control_template(with_template(build_model, template), Settings()).missed == (f"the chat template {told}",)


def test_a_dropped_system_prompt_is_told(build_model: Build) -> None:
    template = LOOP + "{% if m.role != 'system' %}" + CHATML % "{{ m.content }}" + "{% endif %}" + OPEN
    loaded = with_template(build_model, template + "<|im_start|>assistant\n{% endif %}")
    assert control_template(loaded, Settings()).missed == ()
    assert control_template(loaded, Settings(system_prompt="Be kind.")).missed == (
        "the chat template drops or rewrites the system prompt",
    )


def test_a_tokenizer_that_loses_words_or_ends_answers_early_is_told(build_model: Build) -> None:
    told = "the tokenizer does not give answers back as they were said"
    loaded = with_template(build_model, RIGHT["chatml"])
    loaded.tokenizer.add_special_tokens({"additional_special_tokens": ["sorry", "Sure"]})  # not shown in answers
    assert control_template(loaded, Settings()).missed == (told,)
    early = with_template(build_model, RIGHT["chatml"])
    before = early.model.generation_config.eos_token_id
    early.model.generation_config.eos_token_id = early.tokenizer.convert_tokens_to_ids(".")
    try:
        assert control_template(early, Settings()).missed == (told,)
    finally:
        early.model.generation_config.eos_token_id = before


@pytest.mark.parametrize("name", REFUSAL_JUDGES)
def test_every_judge_reads_the_controls_as_they_come_back(build_model: Build, name: str) -> None:
    found = control_template(build_model(), Settings())
    assert missed_controls(REFUSAL_JUDGES[name], found.controls) == ()


def test_what_a_measurement_finds_stands_in_its_facts(build_model: Build) -> None:
    settings = Settings(judge="refusal", max_new_tokens=2, journal="off")
    asked = [Question(prompt, (ORIGIN,), settings) for prompt in load_prompts("builtin-harmful").prompts[:2]]
    assert measure(HuggingFaceEngine(build_model()), asked).facts["missed_template_controls"] == {}
    broken = HuggingFaceEngine(with_template(build_model, WRONG["answers for the model"][0]))
    told = measure(broken, asked).facts["missed_template_controls"]
    assert list(told.values()) == [["the chat template begins the answer with words of its own"]]


CONFTEST = """
import os
import pytest
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.models import load_model

def pytest_llmsafety_load_model(config, model):
    loaded = load_model("tiny-aligned")
    template = loaded.tokenizer.chat_template
    loaded.tokenizer.chat_template = template.replace("'<|assistant|>' }}", "'<|assistant|>I am sorry, but' }}")
    assert loaded.tokenizer.chat_template != template
    return HuggingFaceEngine(loaded)
"""


def test_every_gate_and_every_fixture_of_a_broken_template_is_red(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("def test_it(llm_safety): assert llm_safety.unscored_rate <= 1")
    result = pytester.runpytest_inprocess(
        "--llm-model=broken", "--llm-n-prompts=40", "--llm-max-new-tokens=4", "--llm-gates=none",
        "--llm-gate=truncated_rate <= 1", "--llm-gate=over_refusal_rate[judge=keywords-advbench] <= 1",
    )  # fmt: skip
    result.assert_outcomes(failed=3)
    told = "*A known conversation did not come through the model's template and tokenizer (tiny-aligned: the chat *"
    result.stdout.fnmatch_lines(["E *MeasurementFailed: A known*", f"inconclusive: {told[1:]}"])
    result.stdout.fnmatch_lines(
        ["*correct the tokenizer's chat_template, or measure on plain text with --llm-chat off*"]
    )
    result.stdout.fnmatch_lines(["INCONCLUSIVE  over_refusal*", "decision: inconclusive"])
