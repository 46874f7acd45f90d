"""Replies and times of an engine on a GPU, for the tests beside this file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from judo_edge.adapt.drawing.pairs import Pair
from judo_edge.bundle import Bundle
from judo_edge.core import Floats, Frame, Ints
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.inspector import Inspector
from tests.pairs import PairReferences

FIGURES = "JUDO_EDGE_GPU_FIGURES"
"""Environment variable: a file to which each measurement is appended as a line of JSON."""
REPEATS = 30


def inspected(bundle: Bundle, engine: Engine, pairs: list[Pair]) -> list[Inspection]:
    """Return plain greedy replies to all pairs; the engine must be entered."""
    inspector = Inspector(bundle, engine, PairReferences(pairs), is_guarded=False, is_drafting=False)
    return [inspector.look(Frame(str(i), pair.kind, pair.query, 0)) for i, pair in enumerate(pairs)]


def keys_values_return(bundle: Bundle, engine: Engine) -> bool:
    """Tell whether keys and values read out and given back leave the next logits as they were, bit for bit."""
    rng = np.random.default_rng(0)
    embeds = rng.standard_normal((1, 64, bundle.manifest.model.hidden_size)).astype(np.float32) * 0.02
    positions = np.tile(np.arange(64, dtype=np.int64), (3, 1, 1))

    def rest() -> Floats:
        return engine.advance(embeds[:, 48:], positions[..., 48:], np.array([15])).logits.copy()

    engine.start(96)
    engine.advance(embeds[:, :48], positions[..., :48], np.array([47]))
    kept, expected = engine.keys_values(0, 48), rest()
    engine.start(96)
    engine.advance(embeds[:, ::-1][:, :48], positions[..., :48], np.array([47]))
    engine.start(96, kept)
    return bool(np.isfinite(expected).all()) and np.array_equal(rest(), expected)


@dataclass(frozen=True)
class Timed:
    """One kind of pass."""

    name: str
    positions: int
    milliseconds: float
    """Median over `REPEATS`, the copies of inputs and logits and the wait included."""
    bytes_moved: int
    """Weights of the decoder and keys and values of all positions kept: what a pass must read at least."""
    share_of_ceiling: float
    """Bytes per second over the device's measured bandwidth."""


def timed_passes(bundle: Bundle, engine: Engine, bandwidth: float) -> list[Timed]:
    """Measure a prompt of 896 positions, drafts of 8 to 64, and single steps; `bandwidth` in bytes per second."""
    prompt = min(896, 1536 - 128)
    hidden = bundle.manifest.model.hidden_size
    rng = np.random.default_rng(0)

    def rows(count: int, begin: int) -> tuple[Floats, Ints]:
        positions = np.tile(np.arange(begin, begin + count, dtype=np.int64), (3, 1, 1))
        return rng.standard_normal((1, count, hidden)).astype(np.float32) * 0.02, positions

    def read() -> None:
        engine.start(prompt + 128)
        engine.advance(*rows(prompt, 0), np.array([prompt - 1]))

    def appended(count: int) -> Callable[[], None]:
        inputs = rows(count, prompt)

        def run() -> None:
            engine.advance(*inputs, np.arange(count))
            engine.rewind(prompt)

        return run

    results = [_timed(bundle, "prefill", prompt, read, bandwidth)]
    results += [_timed(bundle, "verify", count, appended(count), bandwidth) for count in (8, 16, 32, 64)]
    return [*results, _timed(bundle, "decode", 1, appended(1), bandwidth)]


def note(engine: str, bundle: Bundle, results: list[Timed], bandwidth: float) -> None:
    """Print the figures, and append them to the file that the environment names."""
    lines = [
        json.dumps({"engine": engine, "bundle": bundle.manifest.name, "bandwidth": bandwidth, **asdict(one)})
        for one in results
    ]
    print(*lines, sep="\n")
    if FIGURES in os.environ:
        with Path(os.environ[FIGURES]).open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


def _timed(bundle: Bundle, name: str, positions: int, run: Callable[[], None], bandwidth: float) -> Timed:
    for _ in range(3):  # warm-up, capture, first launch
        run()
    seconds = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    median = float(np.median(seconds))
    moved = _bytes_moved(bundle)
    return Timed(name, positions, median * 1000, moved, moved / median / bandwidth)


def _bytes_moved(bundle: Bundle) -> int:
    manifest = bundle.manifest
    weights = sum(manifest.files[manifest.graphs[graph].data].bytes for graph in manifest.decoder)
    half = manifest.dtype == "float16"
    return weights + 896 * manifest.model.kv_bytes_per_token // (2 if half else 1)
