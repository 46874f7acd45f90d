"""judo-edge itself beside the rivals: the same checkpoint in the same order of photos, over the same pairs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.adapt.drawing.pairs import draw_pair
from judo_edge.bench.peers.dressing import built_once
from judo_edge.bench.peers.frames import PeerAnswer, PeerFrame, peer_frame
from judo_edge.bundle import Bundle, open_bundle
from judo_edge.core import Frame, Image
from judo_edge.errors import EngineError
from judo_edge.export.pipeline import export_bundle
from judo_edge.files import sha256_of_file
from judo_edge.protocol.profile import load_profile, save_profile
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.inspector import Inspector
from judo_edge.runtime.prompt import ImageOrder
from judo_edge.runtime.references import NearestReference, ReferencePhoto
from judo_edge.runtime.tokenizer import Tokenizer
from judo_edge.vision.photos import sha256_from_image

PART = "drawn"


@dataclass(frozen=True)
class Line:
    """The photos of a line: one normal reference, and queries of the same kind of part."""

    reference: Image
    queries: tuple[Image, ...]


def drawn_line(kind: str, count: int, defect_share: float, seed: int) -> Line:
    """Draw a line of parts; every query is new, the reference is that of the first pair."""
    rng = np.random.default_rng(seed)
    pairs = [draw_pair(rng, kind, bool(rng.random() < defect_share)) for _ in range(count)]
    return Line(pairs[0].reference, tuple(pair.query for pair in pairs))


def ordered_checkpoint(checkpoint: Path, order: ImageOrder, work: Path, max_new_tokens: int) -> Path:
    """Return the checkpoint with a profile of this order and cap: links to its files and a profile of its own."""
    given = load_profile(checkpoint / "profile.toml")
    profile = given.model_copy(update={"image_order": order, "max_new_tokens": max_new_tokens})
    key = sha256_of_file(checkpoint / "profile.toml")[:8]
    folder = work / f"{checkpoint.resolve().name}-{order}-{max_new_tokens}-{key}"

    def build(partial: Path) -> None:
        for path in checkpoint.resolve().iterdir():
            if path.is_file() and path.name != "profile.toml":
                (partial / path.name).symlink_to(path)
        save_profile(profile, partial / "profile.toml")

    return built_once(folder, build)


def bundle_from_checkpoint(checkpoint: Path, recipe: str, work: Path) -> Bundle:
    """Return the checkpoint's bundle in a recipe, exported into `work` when it is not there yet."""
    out = work / f"{checkpoint.name}-{recipe}"
    return open_bundle(out if out.is_dir() else export_bundle(checkpoint, recipe=recipe, out=out))


def frames_from_line(bundle: Bundle, line: Line) -> list[PeerFrame]:
    """Return what rivals are asked: the bundle's own prompt and photos."""
    with engine_from_bundle(bundle, threads=1) as engine:
        inspector = Inspector(bundle, engine, _references(line))
    tokenizer = Tokenizer.open(bundle.path_of(bundle.manifest.tokenizer))
    about = (inspector.model.profile, inspector.preprocessing, tokenizer, inspector.question)
    ends = bundle.manifest.model.eos_ids
    return [peer_frame(*about, (query, line.reference), ends) for query in line.queries]


def own_answers(
    bundle: Bundle, line: Line, threads: int, options: dict[str, Any] | None = None
) -> Iterator[PeerAnswer]:
    """Yield judo-edge's replies, plain greedy; `options` go to the inspector, such as a way of drafting.

    Its time covers more than a rival's: resizing the photo, reading margins and parsing the reply. Raises EngineError
    when a frame cannot be inspected.
    """
    with engine_from_bundle(bundle, threads=threads) as engine:
        inspector = Inspector(bundle, engine, _references(line), is_guarded=False, **(options or {}))
        for number, query in enumerate(line.queries):
            started = time.perf_counter()
            look = inspector.look(Frame(f"{number}", PART, query, time.monotonic_ns()))
            seconds = time.perf_counter() - started
            if not look.ids:
                raise EngineError(f"frame {number} was not inspected: {look.verdict.reason}", "a reply")
            stages = look.verdict.timing.seconds
            first = sum(stages.get(name, 0.0) for name in ("patches", "vision", "reference", "prefill"))
            vision = stages.get("vision", 0.0) + stages.get("reference", 0.0)
            yield PeerAnswer(ids=look.ids, seconds=seconds, first_seconds=first, vision_seconds=vision)


def _references(line: Line) -> NearestReference:
    photo = ReferencePhoto("reference", sha256_from_image(line.reference), lambda: line.reference)
    return NearestReference([photo])
