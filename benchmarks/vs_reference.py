"""Ours against the reference's published procedure and against lm_eval's HFLM, on one model, grid and budget.

Compared at every point of a grid: the reference (fp32, a walk of the state dict, ``generate`` by batches of 4 with
top_p 0: Peng et al. 2024, arXiv 2405.17374) and ours in fp32; at every point of the first direction also HFLM at its
best batch size, on the same walk, and ours in bf16. The roads take turns at each point. A point's time holds the move,
the decoding and the judging; the origin is visited once a direction, though a measurement of ours visits it once.
Making the reference's stored directions is not counted; entering and leaving ours is. Ours without stop strings is
timed at one point of each kind, so that what stopping saves is told apart from what the same work costs.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from point_times import JUDGE, Journal, Trial, measure, timed
from roads import HarnessRoad, OurRoad, ReferenceRoad, Road
from summary import AGAIN, FULL, claims, examples, same_work_table, summarise, table
from synthetic_model import CACHE, synthetic_model
from transformers import PreTrainedModel

from safety_tasks.chat import Rendered
from safety_tasks.engine import HuggingFaceEngine
from safety_tasks.models import LoadedModel, load_model
from safety_tasks.prompts import load_prompts
from safety_tasks.settings import Settings
from safety_tasks.weights import fingerprint

ROOT = Path(__file__).parents[1]
HFLM_BATCHES = (16, 40, 80)
TRIAL_TOKENS = 32


@dataclass
class Bench:
    """Models, prompts and settings of a run."""

    loaded: LoadedModel
    settings: Settings
    prompts: Sequence[Rendered]
    journal: Journal

    @property
    def trial(self) -> Trial:
        """What the roads are asked."""
        return Trial(self.prompts, self.settings.max_new_tokens, self.settings.alphas, self.settings.seed)


def main() -> None:
    options = _options()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    with contextlib.redirect_stdout(sys.stderr):  # the last and only line of stdout is ours
        found = run(options)
    if options.json or options.share:
        print(json.dumps(found))
    else:
        print(f"{found['device']}\n\n{table(found)}\n\n{same_work_table(found)}\n\n{claims(found)}")


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is missing and sum up."""
    bench = _bench(options)
    batch, trial = (options.hflm_batch, {}) if options.hflm_batch else _best_batch(bench)
    entering: dict[str, float] = {}
    half = LoadedModel(_copy(bench.loaded.model, torch.bfloat16), bench.loaded.tokenizer)
    whole = LoadedModel(_copy(bench.loaded.model, torch.float32), bench.loaded.tokenizer)
    with _ours("ours_fp32", whole, entering) as fp32, _ours("ours_bf16", half, entering) as bf16:
        walked: dict[str, Road] = {"reference": ReferenceRoad(bench.loaded), "hflm": HarnessRoad(bench.loaded, batch)}
        roads = {**walked, "ours_fp32": fp32}
        in_fp32 = {name: road for name, road in roads.items() if name != "hflm"}
        for number in range(bench.settings.directions):
            taken = {**roads, "ours_bf16": bf16} if number < options.beside else in_fp32
            measure(bench.trial, number, bench.loaded.model, taken, bench.journal, options.share)
        if options.share:
            return {"journal": bench.journal.path.name}
        again = {name + AGAIN: road for name, road in roads.items()}
        full = OurRoad(fp32.engine, fp32.mover, ())
        places = list(examples(bench.journal.visits, 0).values())
        measure(bench.trial, 0, bench.loaded.model, {**again, FULL: full}, bench.journal, places)
    found = summarise(bench.journal.visits, entering)
    return {**found, "hflm_batch": batch, "hflm_trial_s": trial, **_facts(bench)}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model's path or name instead of the synthetic one; its tied head is untied")
    parser.add_argument("--directions", type=int, default=3)
    parser.add_argument("--beside", type=int, default=1, help="directions on which HFLM and bf16 are measured as well")
    parser.add_argument("--points", type=int, default=21, help="along each direction, an odd number")
    parser.add_argument("--radius", type=float, default=2.2, help="largest |alpha|")
    parser.add_argument("--prompts", type=int, default=80)
    parser.add_argument("--tokens", type=int, default=128, help="new tokens of an answer, at most")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for all roads")
    parser.add_argument("--hflm-batch", type=int, help=f"instead of the best of {HFLM_BATCHES}")
    parser.add_argument("--share", help="K/N: every N-th point from the K-th (from 0) on, for N runs side by side")
    parser.add_argument("--journal", type=Path, default=CACHE, help="folder of the journal from which a run goes on")
    parser.add_argument("--fresh", action="store_true", help="forget the journal of these settings")
    parser.add_argument("--json", action="store_true", help="print one JSON line")
    options = parser.parse_args()
    if options.share:
        first, step = map(int, options.share.split("/"))
        alphas = Settings(points=options.points, radius=options.radius).alphas
        options.share = alphas[first::step]
    return options


def _bench(options: argparse.Namespace) -> Bench:
    loaded = _untied(load_model(options.model, "float32", "cpu")) if options.model else synthetic_model()
    loaded.model.generation_config.max_new_tokens = None  # HFLM would follow it, whatever it is asked
    settings = Settings(
        directions=options.directions,
        points=options.points,
        radius=options.radius,
        n_prompts=options.prompts,
        max_new_tokens=options.tokens,
    )
    engine = HuggingFaceEngine(loaded)
    rows = load_prompts(settings.prompts).head(options.prompts).prompts
    prompts = [engine.render(row.messages, settings) for row in rows]
    key = _key(fingerprint(loaded.model), settings, torch.get_num_threads())
    journal = Journal(options.journal / f"points-{key}.jsonl", is_fresh=options.fresh)
    return Bench(loaded, settings, prompts, journal)


def _key(model: str, settings: Settings, threads: int) -> str:
    """Hash of the model, the settings, the versions and the code that is timed."""
    digest = hashlib.blake2b(repr((model, settings, threads, _versions())).encode(), digest_size=6)
    for path in sorted([*(ROOT / "safety_tasks").rglob("*.py"), ROOT / "benchmarks" / "roads.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _untied(loaded: LoadedModel) -> LoadedModel:
    model = loaded.model
    if model.config.tie_word_embeddings:
        model.config.tie_word_embeddings = False
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone())
    return loaded


def _copy(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    other = type(model)(model.config).to(dtype).eval()
    other.load_state_dict(model.state_dict())
    other.generation_config = model.generation_config
    return other


@contextlib.contextmanager
def _ours(name: str, loaded: LoadedModel, entering: dict[str, float]) -> Iterator[OurRoad]:
    """Our road inside its ``moving()``, whose entering and leaving are timed."""
    engine = HuggingFaceEngine(loaded)
    manager = engine.moving()
    seconds, mover = timed(manager.__enter__)
    entering[name] = seconds
    try:
        yield OurRoad(engine, mover, JUDGE.stop_strings)
    finally:
        seconds, _ = timed(lambda: manager.__exit__(None, None, None))
        entering[name] += seconds


def _best_batch(bench: Bench) -> tuple[int, dict[int, float]]:
    """HFLM's best batch size at the unmoved model, and the seconds of every size that was tried."""
    sizes = sorted({min(size, len(bench.prompts)) for size in HFLM_BATCHES})
    if len(sizes) == 1:
        return sizes[0], {}
    tokens = min(TRIAL_TOKENS, bench.settings.max_new_tokens)
    seconds = {}
    for size in sizes:
        road = HarnessRoad(bench.loaded, size)
        road.answer(bench.prompts[:size], 2)  # warms up
        seconds[size] = min(timed(lambda road=road: road.answer(bench.prompts, tokens))[0] for _ in range(2))
    return min(seconds, key=lambda size: seconds[size]), seconds


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("torch", "transformers", "lm_eval")}


def _facts(bench: Bench) -> dict[str, Any]:
    threads, capability = torch.get_num_threads(), torch.backends.cpu.get_cpu_capability()
    cpu = getattr(torch.cpu, "get_capabilities", dict)()
    fast = [name for name in ("amx_bf16", "avx512_bf16") if cpu.get(name)]
    parameters = sum(parameter.numel() for parameter in bench.loaded.model.parameters())
    versions = _versions()
    return {
        "device": f"CPU, {capability}, {' and '.join(fast) or 'no bf16 instructions'}, {threads} threads; "
        f"{parameters / 1e6:.1f} M parameters, {len(bench.prompts)} prompts, {bench.settings.max_new_tokens} tokens; "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        "threads": threads,
        "cpu_capability": capability,
        "bf16_instructions": fast,
        "parameters": parameters,
        "settings": bench.settings.to_dict(),
        "versions": versions,
    }


if __name__ == "__main__":
    main()
