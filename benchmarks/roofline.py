"""How far a perturbation, a restore and a decode step are from what the machine can do.

Floors, from what is measured here on the same device and threads: a perturbation reads the pristine copy and writes
the weights at the copy bandwidth, and draws one sample an element at the speed of the noise in cache; a restore is the
same without noise; a decode step of 80 rows reads the weights (save the embedding, of which it takes a row each) and
the keys and values once, or multiplies at the speed of a large matrix product, whichever takes longer. Measured: the
synthetic model in fp32 and bf16; on CUDA also models in the shapes of Llama-2-7B and Llama-3-8B, in bf16, with random
weights.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import transformers
from point_times import timed
from synthetic_model import synthetic_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from safety_tasks.directions import Direction, Weight
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.models import LoadedModel
from safety_tasks.prompts import load_prompts
from safety_tasks.settings import Settings
from safety_tasks.threads import in_threads
from safety_tasks.weights import movable_parameters

ROWS = 80
STEPS = 32
REPEATS = 5
ALPHA = 0.1  # small: the answers stay long
# Shapes from the models' published config.json.
SHAPES: dict[str, dict[str, int]] = {
    "Llama-2-7B shape": {"vocab_size": 32000, "intermediate_size": 11008, "num_key_value_heads": 32},
    "Llama-3-8B shape": {"vocab_size": 128256, "intermediate_size": 14336, "num_key_value_heads": 8},
}


class Machine:
    """What a device does at best, in one dtype: bytes/s of a copy, samples/s of noise, operations/s of a product."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.bandwidth = _copy_bandwidth(device)
        self.noise = _noise_rate(device, dtype)
        self.operations = _matmul_rate(device, dtype)

    def to_dict(self) -> dict[str, float]:
        """In the units that are printed."""
        return {
            "copy_gb_per_s": self.bandwidth / 1e9,
            "noise_gsamples_per_s": self.noise / 1e9,
            "matmul_gflops": self.operations / 1e9,
        }


def main() -> None:
    options = _options()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    found = []
    with contextlib.redirect_stdout(sys.stderr):
        for name, loaded in _models():
            found.append({"model": name, **roofline(loaded)})
            del loaded
    if options.json:
        print(json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__, "rooflines": found}))
    else:
        print(*(_table(row) for row in found), sep="\n\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="of torch, on a CPU")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    return parser.parse_args()


def _models() -> Iterator[tuple[str, LoadedModel]]:
    """One model at a time, so that only one lies in memory."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, tokenizer = synthetic_model()
    for dtype in (torch.float32, torch.bfloat16):
        yield "synthetic", LoadedModel(model.to(device=device, dtype=dtype), tokenizer)
    for name, shape in SHAPES.items() if device == "cuda" else ():
        yield name, LoadedModel(_random_model(shape, device), tokenizer)


def _random_model(shape: dict[str, int], device: str) -> PreTrainedModel:
    """A Llama with 32 layers of 4096, in bf16, that never ends an answer."""
    config = LlamaConfig(
        hidden_size=4096,
        num_hidden_layers=32,
        num_attention_heads=32,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **shape,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)


def roofline(loaded: LoadedModel) -> dict[str, Any]:
    """Measured milliseconds, floors and multiples of one model."""
    model = loaded.model
    machine = Machine(model.device.type, model.dtype)
    engine = HuggingFaceEngine(loaded)
    moved = sum(parameter.numel() for parameter in movable_parameters(model).values())
    all_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    with engine.moving() as mover:
        direction = Direction(0)
        first, _ = timed(lambda: mover.move_to(direction, ALPHA))  # it also takes the norm of the noise
        perturbation = _best(lambda: mover.move_to(direction, -ALPHA))
        restore = _best(mover.restore)
        step, tokens = _step_seconds(engine)
    traffic = 2 * moved * model.dtype.itemsize / machine.bandwidth
    reading, multiplying = _step_floors(model, machine, tokens)
    return {
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": torch.cuda.get_device_name() if model.device.type == "cuda" else "CPU",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **machine.to_dict(),
        "first_perturbation_ms": first * 1e3,
        "perturbation": _against(perturbation, traffic + moved / machine.noise),
        "restore": _against(restore, 2 * all_bytes / machine.bandwidth),
        "decode_step": _against(step, max(reading, multiplying)),
        "decode_step_reading_ms": reading * 1e3,
        "decode_step_multiplying_ms": multiplying * 1e3,
    }


def _against(seconds: float, floor: float) -> dict[str, float]:
    return {"ms": seconds * 1e3, "floor_ms": floor * 1e3, "times_floor": seconds / floor}


def _best(work: Callable[[], object], repeats: int = REPEATS) -> float:
    return min(timed(work)[0] for _ in range(repeats))


def _step_seconds(engine: HuggingFaceEngine) -> tuple[float, float]:
    """Seconds of a decode step of 80 rows, and the mean number of tokens whose keys and values it reads."""
    settings = Settings()
    prompts = [engine.render(p.messages, settings) for p in load_prompts(settings.prompts).head(ROWS).prompts]
    engine.generate(prompts, 2, ())  # warms up
    prefill = _best(lambda: engine.generate(prompts, 1, ()), 3)
    whole = _best(lambda: engine.generate(prompts, 1 + STEPS, ()), 3)
    longest = max(
        len(ids) for ids in engine.tokenizer([p.text for p in prompts], add_special_tokens=False)["input_ids"]
    )
    return (whole - prefill) / STEPS, longest + STEPS / 2


def _step_floors(model: PreTrainedModel, machine: Machine, tokens: float) -> tuple[float, float]:
    """Seconds to read weights, keys and values once, and to multiply 80 rows by the weights."""
    config = model.config
    read = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    width = config.num_key_value_heads * config.hidden_size // config.num_attention_heads
    cached = 2 * ROWS * tokens * config.num_hidden_layers * width
    return (read + cached) * model.dtype.itemsize / machine.bandwidth, 2 * ROWS * read / machine.operations


def _copy_bandwidth(device: str) -> float:
    size = 1 << (31 if device == "cuda" else 28)
    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return 2 * size / _best(lambda: target.copy_(source), 10)


def _noise_rate(device: str, dtype: torch.dtype) -> float:
    """Samples a second where memory does not count: on a CPU every thread on a piece that stays in its cache."""
    size, pieces = (1 << 24, 1) if device == "cuda" else (1 << 18, 32)
    values = torch.ones(size, device=device, dtype=dtype)
    weight = Weight("noise", (size,), str(dtype).removeprefix("torch."), 1.0, False)
    step = Direction(0).step(weight, ALPHA, values.device, dtype)

    def draw() -> None:
        in_threads(lambda _: step(torch.empty_like(values), values, 0), range(pieces))

    return size * pieces / _best(draw)


def _matmul_rate(device: str, dtype: torch.dtype) -> float:
    size = 8192 if device == "cuda" else 2048
    left = torch.ones(size, size, device=device, dtype=dtype)
    return 2 * size**3 / _best(lambda: left @ left, 3)


def _table(row: dict[str, Any]) -> str:
    head = (
        f"{row['model']}, {row['parameters'] / 1e6:.1f} M parameters, {row['dtype']}, {row['device']}: "
        f"copy {row['copy_gb_per_s']:.1f} GB/s, noise {row['noise_gsamples_per_s']:.2f} G samples/s, "
        f"matrix product {row['matmul_gflops']:.0f} GFLOP/s"
    )
    lines = [f"{head}\n", "| | ms | floor, ms | x floor |", "|---|---|---|---|"]
    for key in ("perturbation", "restore", "decode_step"):
        name = key.replace("_", " ") + (f", {ROWS} rows" if key == "decode_step" else "")
        lines.append(f"| {name} | {row[key]['ms']:.2f} | {row[key]['floor_ms']:.2f} | {row[key]['times_floor']:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
