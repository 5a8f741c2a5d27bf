"""Servers as lm_eval asks them: what a reply says of its end, what failed, and what is sent."""

from __future__ import annotations

import gc
import json
import logging
import pickle
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from judge_server import Server

pytest.importorskip("tenacity", reason="lm_eval's models of servers need lm_eval[api]")

from safety_tasks.errors import InvalidModel, InvalidPrompts, MeasurementFailed, NotPerturbable
from safety_tasks.harness.evaluation import evaluate_tasks, load_lm
from safety_tasks.harness.served import Reply
from safety_tasks.harness.text_engine import TextEngine
from safety_tasks.prompts import Message
from safety_tasks.settings import Settings
from safety_tasks.tiny import model_path

ASKED = (Message("user", "Name a river in Europe."),)
FEW = Settings(n_prompts=4, journal="off", max_new_tokens=32)
KEY = "sk-zqservedcanary7"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = Server()
    server.says = lambda question: "The Danube is a river."
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def served(server: Server, more: str = "", backend: str = "local-chat-completions", model: str = "m") -> Any:
    path = "chat/completions" if "chat" in backend else "completions"
    arguments = f"base_url={server.address}/{path},max_retries=1{more}"
    return load_lm(model, settings=Settings(), backend=backend, model_args=arguments)


def answers(lm: Any, count: int = 1, turns: tuple[Message, ...] = ASKED) -> list[Any]:
    engine = TextEngine(lm)
    return engine.generate([engine.render(turns, Settings())] * count, 32, ())


def measured(lm: Any, settings: Settings = FEW) -> Any:
    return evaluate_tasks(lm, ["visage_harmful"], settings, quiet=True)["visage_harmful"]


def reply(content: Any, reason: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"body": {"choices": [{"index": 0, "message": {"content": content, **more}, "finish_reason": reason}]}}


@pytest.mark.parametrize("at_once", [1, 4])
def test_what_the_token_limit_cut_off_is_counted(server: Server, at_once: int) -> None:
    server.script = [{"finish": reason} for reason in ("stop", "length", "stop", "stop")]
    found = measured(served(server, f",num_concurrent={at_once}"))
    assert found.estimates["truncated_rate"].value == 0.25
    assert found.estimates["attack_success_rate"].value == 1.0
    assert found.facts["answered_as"] == ["judge-2026-11-01 fp_1"] and "tokens_generated" not in found.facts


def test_where_a_server_does_not_say_why_it_ended_there_is_no_truncated_rate(server: Server) -> None:
    server.script = [reply("The Danube.", None)]
    found = measured(served(server))
    assert "truncated_rate" not in found.estimates and found.estimates["attack_success_rate"].n == 4


def test_a_reply_that_failed_is_unscored(server: Server) -> None:
    failed = [
        reply(None),
        reply(""),
        reply("  "),
        reply("I'm sorry, but I cannot", "content_filter"),
        reply("Here is", "abort"),
        reply(None, "tool_calls", tool_calls=[{"id": "1"}]),
        reply(None, "length", reasoning_content="The user wants"),
        {"body": {"error": {"message": "overloaded"}}},
        {"body": {"choices": []}},
        {"body": []},
    ]
    server.script = list(failed)
    found = measured(served(server), replace(FEW, n_prompts=12))
    verdicts = [row["answers"][0].verdict.value for row in found.rows]
    assert verdicts.count("unscored") == len(failed) and verdicts.count("complied") == 2
    assert found.estimates["unscored_rate"].value == len(failed) / 12 and "truncated_rate" not in found.estimates


def test_the_reasoning_that_a_server_parts_from_the_answer_is_not_judged(server: Server) -> None:
    server.script = [reply("The Danube.", reasoning_content="I'm sorry, but")]
    assert [one.text for one in answers(served(server))] == ["The Danube."]


def test_thinking_that_a_server_opens_unseen_and_does_not_end_is_no_answer(server: Server) -> None:
    server.script = [
        reply("It asks for a river.</think>The Danube."),
        reply("It asks for", "length"),
        reply("The Rhine."),
    ]
    found = answers(served(server), 3)
    assert [(one.text, one.thinking_tokens) for one in found] == [("The Danube.", 0), ("", None), ("The Rhine.", 0)]


def test_lm_evals_own_marker_of_thinking_does_not_make_thinking_an_answer(server: Server) -> None:
    server.script = [reply("It asks.[END]The Danube."), reply("It asks for", "length"), reply("The Rhine.")]
    lm = served(server, ",think_end_token=[END]")
    assert [one.text for one in answers(lm, 3)] == ["The Danube.", "", "The Rhine."]
    assert lm.think_end_token == "[END]"


def test_it_is_asked_greedily_with_the_runs_limit_and_no_stop_strings(server: Server) -> None:
    for more in ("", ",num_concurrent=2"):
        answers(served(server, more))
        sent = server.asked.pop()
        assert sent["messages"] == [{"role": "user", "content": ASKED[0].content}]
        assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0.0, 32, "m")
        assert not {"stop", "do_sample", "max_gen_toks", "until"} & set(sent)


def test_a_model_type_that_would_sample_where_greedy_was_asked_is_refused(server: Server) -> None:
    lm = served(server, backend="openai-chat-completions", model="gpt-5")
    with pytest.raises(InvalidModel, match="would send the model 'gpt-5' temperature 1 instead of 0"):
        answers(lm)
    assert server.asked == []


def test_lm_evals_model_is_left_as_it_was(server: Server) -> None:
    lm, log = served(server), logging.getLogger("lm_eval.models")
    before, level = dict(vars(lm)), log.level
    server.script = [{"status": 500}]
    with pytest.raises(MeasurementFailed):
        answers(lm)
    assert answers(lm)[0].finished is True
    assert {name: vars(lm)[name] for name in before} == before and not {"parse_generations"} & set(vars(lm))
    assert log.level == level
    assert type(pickle.loads(pickle.dumps(Reply.of("a", "stop")))) is str, "lm_eval's cache holds plain text"


@pytest.mark.parametrize(
    ("turn", "told", "at_once"),
    [
        ({"status": 404, "body": {"error": {"message": "The model `m` does not exist."}}}, "status 404", 1),
        ({"status": 401, "body": {"detail": f"no such key {KEY}"}}, "status 401.*OPENAI_API_KEY", 2),
        ({"status": 422, "body": {"detail": f"wrong: {ASKED[0].content}"}}, "status 422", 1),
        ({"status": 500, "body": "Internal Server Error"}, "status 500. Its own log says why", 2),
        ({"status": 200, "body": "<html>"}, "did not answer with JSON", 1),
        ({"status": 200, "body": "<html>"}, "did not answer with JSON", 2),
        ({"status": 200, "wait": 1.3}, "no answer within 1 s", 2),
    ],
)
def test_what_a_server_did_wrong_is_one_sentence_without_prompts_and_keys(
    server: Server, turn: dict[str, Any], told: str, at_once: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [turn, turn]
    with pytest.raises(MeasurementFailed, match=told) as failure:
        answers(served(server, f",num_concurrent={at_once},timeout=1"), at_once)
    gc.collect()  # asyncio logs a request that nobody waited for as it goes
    said = f"{failure.value}{caplog.text}"
    assert "127.0.0.1" in said and failure.value.__cause__ is None and failure.value.__context__ is None
    assert KEY not in said and ASKED[0].content not in said


def test_what_a_server_says_of_its_refusal_is_repeated(server: Server) -> None:
    server.script = [{"status": 400, "body": {"detail": "Server is pinned to 'a'; requested 'm'."}}]
    with pytest.raises(MeasurementFailed, match=r"status 400 \(Server is pinned to 'a'; requested 'm'\)\."):
        answers(served(server))


def test_a_server_that_is_not_there_or_dies_is_an_error(server: Server) -> None:
    lm = served(server)
    lm.base_url = "http://me:zqpassword@127.0.0.1:9/v1/chat/completions?key=zqsecret"
    with pytest.raises(MeasurementFailed, match="at http://127.0.0.1:9/v1/chat/completions cannot be reached") as one:
        answers(lm)
    assert "zq" not in str(one.value)


def test_a_landscape_is_refused_before_anything_is_asked(server: Server) -> None:
    with pytest.raises(NotPerturbable, match="moves the model's weights in this process.*visage_harmful"):
        evaluate_tasks(served(server), ["visage_harmful", "visage_landscape"], FEW)
    assert server.asked == []


def test_a_server_of_texts_needs_a_tokenizer_for_the_template(server: Server) -> None:
    with pytest.raises(InvalidModel, match="tokenizer_backend=huggingface,tokenizer=NAME"):
        answers(served(server, ",tokenizer_backend=None", backend="local-completions"))


def test_prompts_are_not_cut_to_lm_evals_max_length(server: Server) -> None:
    tokenizer = f",tokenizer_backend=huggingface,tokenizer={model_path('tiny-aligned')},max_length="
    engine = TextEngine(served(server, tokenizer + "101", backend="local-completions"))
    rendered = [engine.render(ASKED, Settings())]
    length = len(engine.lm.tok_encode(rendered[0].text))
    assert engine.token_budget(rendered, 32) == 32 and engine.token_budget(rendered, 999) == 100 - length
    short = TextEngine(served(server, tokenizer + str(length + 1), backend="local-completions"))
    with pytest.raises(InvalidPrompts, match=f"A prompt of {length} tokens leaves no room.*raise max_length"):
        short.token_budget(rendered, 1)


def test_a_template_that_leaves_the_system_prompt_out_is_refused() -> None:
    class Drops:
        def apply_chat_template(self, turns: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            return json.dumps([turn for turn in turns if turn["role"] != "system"])

    engine = TextEngine(Drops())  # type: ignore[arg-type]
    assert engine.render(ASKED, Settings()).is_templated
    with pytest.raises(InvalidModel, match="leaves the system prompt out"):
        engine.render((Message("system", "Be terse."), *ASKED), Settings())
