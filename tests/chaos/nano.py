"""JUDO-nano for a run with real inference: its bundle, an enrolled part, photos named by its verdict without faults."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from judo_edge.core import Decision, Frame, Image
from judo_edge.runtime.references import ReferenceStore
from judo_edge.station.config import StationConfig, station_from_file
from judo_edge.station.judge.prepared import Bench, Preparer
from tests.chaos.parts import FOLDER

SEED = 79_500_000
NUM_PHOTOS = 16
"""Drawn; those that JUDO-nano cannot decide are left out."""


def export_nano(folder: Path) -> Path:
    """Write JUDO-nano's int8 bundle for CPUs; needs torch."""
    from judo_edge.export.pipeline import export_bundle

    return export_bundle("judo-nano", [], "cpu-int8", folder / "nano")


def prepare_parts(station_file: Path) -> None:
    """Enrol a good part and write the photos of a run, judged by the very bundle."""
    from judo_edge.adapt.drawing.pairs import pair_from_scene
    from judo_edge.adapt.drawing.parts import BASE_KINDS, DRAWERS

    config, rng = station_from_file(station_file), np.random.default_rng(SEED)
    scene = DRAWERS[BASE_KINDS[0]](rng)
    pairs = [pair_from_scene(rng, scene, number % 2 == 1) for number in range(NUM_PHOTOS)]
    ReferenceStore(config.store).enroll("lid", pairs[0].reference, "first.png")
    found = judged(config, [pair.query for pair in pairs])
    folder = station_file.parent / FOLDER
    folder.mkdir()
    for number, (pair, decision) in enumerate(zip(pairs, found, strict=True)):
        if decision is not Decision.NOT_DECIDABLE:
            kind = "good" if decision is Decision.OK else "bad"
            np.save(folder / f"{kind}-{number}.npy", pair.query, allow_pickle=False)
    for kind in ("good", "bad"):
        assert len(list(folder.glob(f"{kind}-*.npy"))) > 1, f"JUDO-nano calls fewer than two photos {kind}"


def judged(config: StationConfig, images: list[Image]) -> list[Decision]:
    """Return what the station's own recipe says of photos, without any fault."""
    bench = Bench(config)
    recipe = bench.make_ready(Preparer(config).plan("lid"))
    try:
        inspector = bench.prepared(recipe.internal_id).inspector
        frames = [
            Frame(f"photo-{number}", recipe.part, image, time.monotonic_ns()) for number, image in enumerate(images)
        ]
        return [inspector.look(frame).verdict.decision for frame in frames]
    finally:
        bench.close()
