"""The memory plan of a model: what loading and measuring it takes of which device, before any weight is loaded.

Counted are the weights, their pristine copy and the answers of a batch. Not counted: activations, which the share left
to decoding holds, and judges, which are placed by the memory that is free when they are asked (``judges.placement``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safety_tasks.errors import InvalidModel
from safety_tasks.memory import Memory, copy_fits, gpu_memories, gpu_memory, host_memory, in_gib, pinned_bytes
from safety_tasks.models import default_device, display_name
from safety_tasks.revisions import pinned

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

PROMPT_TOKENS = 128
"""What a plan takes a prompt for: with their templates the built-in ones have 30 to 90 tokens."""
_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")  # device maps that accelerate makes
_NOT_PLANNED = ("tp_plan", "quantization_config", "load_in_4bit", "load_in_8bit", "gguf_file")
_SMALL = 1 << 28  # bytes of a checkpoint that needs no plan
_TIGHT = 0.5  # of the host's free memory


class Size(NamedTuple):
    """What a model takes of memory."""

    dtype: str
    tensors: tuple[int, ...]
    """Bytes of each parameter; tied ones once."""
    row: int
    """Bytes of one answer at its full length; 0 where the configuration does not tell."""
    tokens: int
    """Of that answer, the prompt's included."""

    @property
    def weights(self) -> int:
        """Bytes of all parameters."""
        return sum(self.tensors)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What goes where."""

    name: str
    size: Size
    gpus: Mapping[str, Memory]
    """Those that the model may lie on, by their names; none: it lies on the host."""
    host: Memory
    may_off_load: bool = False
    """Whether what the GPUs do not hold goes to the host or the disk."""

    @property
    def where(self) -> str:
        """The GPUs, or the host."""
        return ", ".join(self.gpus) or "the host"

    @property
    def room(self) -> Memory:
        """Of all devices that the model may lie on."""
        found = list(self.gpus.values()) or [self.host]
        return Memory(sum(one.free for one in found), sum(one.total for one in found))

    @property
    def copy_on_host(self) -> bool:
        """Whether the pristine copy is kept in pinned host memory."""
        room = self.room
        return bool(self.gpus) and not copy_fits(self.size.weights, Memory(room.free - self.size.weights, room.total))

    @property
    def is_worth_saying(self) -> bool:
        """Whether there is a GPU, or the host's memory is tight."""
        return bool(self.gpus) or 2 * self.size.weights > _TIGHT * self.host.free

    def check(self) -> None:
        """Raise InvalidModel where the weights alone do not fit."""
        limit = self.room.free + (self.host.free if self.may_off_load else 0)
        if self.size.weights <= limit:
            return
        raise InvalidModel(
            f"The weights of {self.name!r} take {in_gib(self.size.weights)} in {self.size.dtype}, and {self.where} "
            f"{'have' if len(self.gpus) > 1 else 'has'} {in_gib(self.room.free)} free of {in_gib(self.room.total)}: "
            f"{'; or '.join(self._ways_out())}."
        )

    def _ways_out(self) -> list[str]:
        ways = []
        if self.size.dtype not in ("bfloat16", "float16"):
            ways.append("load it in half precision (--llm-dtype bfloat16)")
        if self.gpus and not self.may_off_load:
            ways.append("spread it over several GPUs (--llm-model-args parallelize=True)")
        return [*ways, "free memory that other processes hold, or take a larger machine"]

    def sentences(self) -> list[str]:
        """The plan in words."""
        size, left = self.size, self.room.free - self.size.weights
        if left < 0:
            lack = f"weights {in_gib(size.weights)} ({size.dtype}), {in_gib(self.room.free)} free on {self.where}"
            rest = "the rest is off-loaded, where behaviour is slow and no landscape can be measured"
            return [f"{lack}: {rest if self.may_off_load else 'they do not fit'}"]
        told = [f"weights {in_gib(size.weights)} ({size.dtype}) on {self.where}, {in_gib(self.room.free)} free"]
        if self.copy_on_host:
            needed = pinned_bytes(size.tensors)
            told.append(
                f"for a landscape their pristine copy in pinned host memory, {in_gib(needed)} of "
                f"{in_gib(self.host.free)} free" + ("" if needed <= self.host.free else ": it does not fit")
            )
        else:
            left -= size.weights
            fits = "" if left >= 0 else ": it does not fit"
            told.append(f"for a landscape as much again for their pristine copy{fits}")
        return [*told, *self._answers(left)]

    def _answers(self, left: int) -> list[str]:
        """How many answers fit at once, where that is told; what is left counts the pristine copy as there."""
        if not self.size.row or left < 0:
            return []
        rows = left // self.size.row
        each = f"of {self.size.tokens:,} tokens ({in_gib(self.size.row)} each)"
        if rows < 1:
            return [f"not one answer {each} fits beside them: fewer tokens (--llm-max-new-tokens)"]
        return [f"the rest holds about {rows:,} answers {each} at once (--llm-batch-size)"]

    def __str__(self) -> str:
        """One line."""
        return f"memory of {self.name}: " + "; ".join(self.sentences())


def plan_memory(
    path: str,
    *,
    dtype: str | None = None,
    device: Any = None,
    is_spread: bool = False,
    max_new_tokens: int = 512,
) -> MemoryPlan | None:
    """The plan of a model folder or hub id; None for a small one, and where its configuration does not tell.

    ``device``: as transformers' ``device_map``, None a GPU if there is one; ``is_spread``: over all GPUs. Nothing but
    the configuration is read.
    """
    size = None if _is_small(path) else _size_of(path, dtype, max_new_tokens)
    if size is None:
        return None
    device = device or default_device()
    is_spread = is_spread or isinstance(device, dict) or str(device) in _MAPS
    return MemoryPlan(display_name(path), size, _gpus(device, is_spread), host_memory(), may_off_load=is_spread)


def plan_loading(
    path: str,
    arguments: Mapping[str, Any],
    *,
    dtype: str | None = None,
    device: str | None = None,
    max_new_tokens: int = 512,
) -> MemoryPlan | None:
    """The plan of what lm_eval's model type ``hf`` loads with these arguments.

    None for one that is split over processes, or quantised while it loads.
    """
    if any(arguments.get(name) for name in _NOT_PLANNED):
        return None
    return plan_memory(
        path,
        dtype=arguments.get("dtype") or dtype,
        device=arguments.get("device_map") or arguments.get("device") or device,
        is_spread=str(arguments.get("parallelize")).lower() == "true",
        max_new_tokens=max_new_tokens,
    )


def plan_of_loaded(model: PreTrainedModel, name: str, max_new_tokens: int) -> MemoryPlan:
    """The plan of a model that is there: what its own weights take counts as free."""
    from safety_tasks.decoding.cache_size import row_bytes

    tensors = {parameter: parameter.numel() * parameter.element_size() for parameter in model.parameters()}
    gpus: dict[str, Memory] = {}
    for parameter, n_bytes in tensors.items():
        if parameter.device.type == "cuda":
            place = str(parameter.device)
            free, total = gpus.get(place) or gpu_memory(parameter.device)
            gpus[place] = Memory(free + n_bytes, total)
    free, total = host_memory()
    host = Memory(free + sum(size for one, size in tensors.items() if one.device.type == "cpu"), total)
    tokens = _tokens(model.config, max_new_tokens)
    row = row_bytes(model.config, tokens, model.dtype.itemsize)
    size = Size(str(model.dtype).removeprefix("torch."), tuple(tensors.values()), row, tokens)
    return MemoryPlan(name, size, gpus, host)


def _gpus(device: Any, is_spread: bool) -> dict[str, Memory]:
    if is_spread:
        return {f"cuda:{index}": memory for index, memory in enumerate(gpu_memories())}
    kind = str(device)
    return {kind: gpu_memory(device)} if kind.startswith("cuda") else {}


def _is_small(path: str) -> bool:
    files = list(Path(path).glob("*.safetensors")) if Path(path).is_dir() else []
    return bool(files) and sum(file.stat().st_size for file in files) < _SMALL


def _size_of(path: str, dtype: str | None, max_new_tokens: int) -> Size | None:
    """None for a model whose weights are quantised, or that only its own code can build."""
    from transformers import AutoConfig

    name, revision = pinned(path)
    try:
        config = AutoConfig.from_pretrained(name, revision=revision or "main", trust_remote_code=False)
        return size_of(config, dtype, max_new_tokens)
    except Exception:  # whatever transformers raises, loading raises it again and says what it is
        return None


def _tokens(config: PretrainedConfig, max_new_tokens: int) -> int:
    """Of one answer with its prompt, within the positions that the model has."""
    text = config.get_text_config(decoder=True)
    positions = getattr(text, "max_position_embeddings", None) or getattr(text, "max_seq_len", None)  # MPT's
    return min(PROMPT_TOKENS + max_new_tokens, positions or PROMPT_TOKENS + max_new_tokens)


def size_of(config: PretrainedConfig, dtype: str | None, max_new_tokens: int) -> Size | None:
    """The size of a causal model in a dtype (None, "auto": the configuration's), by building it without weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from safety_tasks.decoding.cache_size import row_bytes

    wanted = config.dtype if dtype in (None, "auto") else getattr(torch, str(dtype).removeprefix("torch."), None)
    if not isinstance(wanted, torch.dtype) or getattr(config, "quantization_config", None) is not None:
        return None
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=wanted, trust_remote_code=False)
    tensors = tuple(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    tokens = _tokens(config, max_new_tokens)
    return Size(str(wanted).removeprefix("torch."), tensors, row_bytes(config, tokens, wanted.itemsize), tokens)
