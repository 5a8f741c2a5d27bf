"""Decoding: the answers of a Hugging Face causal model to many prompts, and the likelihood of answers."""

from safety_tasks.decoding.completions import Completion, token_facts
from safety_tasks.decoding.greedy import DecodingLog, decode, encode
from safety_tasks.decoding.layout import Layout, layout_of
from safety_tasks.decoding.likelihood import Scored, mean_nll
from safety_tasks.decoding.rows import end_tokens
from safety_tasks.decoding.thinking import final_answer, opened_by_prompt

__all__ = [
    "Completion",
    "DecodingLog",
    "Layout",
    "Scored",
    "decode",
    "encode",
    "end_tokens",
    "final_answer",
    "layout_of",
    "mean_nll",
    "opened_by_prompt",
    "token_facts",
]
