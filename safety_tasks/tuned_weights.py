"""Tuned weights: where a fine-tuning leads, as a direction from the model that itself stays as it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from safety_tasks.chat import render
from safety_tasks.checkpoints import CheckpointDirection, direction_to_values, snapshot
from safety_tasks.decoding import Scored, encode, end_tokens
from safety_tasks.decoding.forward import positions_of
from safety_tasks.errors import InvalidInput, InvalidModel
from safety_tasks.finetuning import Recipe, Training, finetuned
from safety_tasks.fingerprints import fingerprint
from safety_tasks.models import LoadedModel
from safety_tasks.points import Point
from safety_tasks.prompts import Message
from safety_tasks.settings import Settings
from safety_tasks.tuning_data import Pair, TuningData


class Attacked(NamedTuple):
    """Weights after a fine-tuning, which lead there from the model, and how the training went."""

    direction: CheckpointDirection
    training: Training

    @property
    def point(self) -> Point:
        """Where they are."""
        return Point(self.direction, 1.0)


def scored(loaded: LoadedModel, pairs: Sequence[Pair], settings: Settings) -> list[Scored]:
    """Tokens of each pair as the model meets them: the prompt rendered, the answer with its end.

    Raises InvalidInput for a pair that the model's positions do not hold.
    """
    model, tokenizer = loaded
    ends = end_tokens(model, tokenizer)
    if not ends:
        raise InvalidModel("Neither the model's generation configuration nor its tokenizer names an end of answers.")
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else min(ends)
    found = []
    for pair in pairs:
        prompt = render(tokenizer, [*_system(settings), Message("user", pair.prompt)], settings)
        answer = encode(tokenizer, pair.answer, is_rendered=True)
        found.append(Scored(encode(tokenizer, prompt.text, is_rendered=prompt.is_templated), [*answer, end]))
    _check_lengths(found, positions_of(model))
    return found


def attacked(
    loaded: LoadedModel, pairs: Sequence[Pair], recipe: Recipe, settings: Settings, *, data: TuningData
) -> Attacked:
    """The weights after a fine-tuning on the pairs; the model itself is untouched when this returns or raises.

    Of a mixed attack the pairs of ``data`` that it is about tell whether it was learnt, not the benign ones beside
    them. Memory: a copy of the weights in host memory beside what ``finetuned`` takes. Raises InvalidModel where the
    training does not fit the device.
    """
    examples, told_by = (scored(loaded, part, settings) for part in (pairs, data.aimed(pairs)))
    try:
        with finetuned(loaded.model, examples, recipe, told_by) as training:
            values, name = snapshot(loaded.model), fingerprint(loaded.model)
    except torch.cuda.OutOfMemoryError as error:
        raise InvalidModel(
            "The fine-tuning does not fit the GPU: give a smaller batch or rank, or method=lora. The weights are back."
        ) from error
    return Attacked(direction_to_values(loaded.model, values, name), training)


def _check_lengths(rows: Sequence[Scored], positions: int | None) -> None:
    longest = max((len(row.context) + len(row.answer) for row in rows), default=0)
    if positions is not None and longest > positions:
        raise InvalidInput(
            f"A prompt with its answer takes {longest} tokens, and the model has {positions} positions: leave out the "
            "pairs that are longer, or shorten them."
        )


def _system(settings: Settings) -> list[Message]:
    return [] if settings.system_prompt is None else [Message("system", settings.system_prompt)]
