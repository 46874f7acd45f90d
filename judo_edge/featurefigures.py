"""How well the patch features of a vision tower tell defects: blocks, ways to compare, and numbers of references.

    python -m judo_edge.featurefigures --bundle BUNDLE [--data FOLDER_WITH_SETS] [--split train] [--drawn 256]

BUNDLE is a float export of whole graphs for ONNX Runtime. Defaults are chosen on drawn pairs and `--split train`, never
on accept. A table, and one last line of JSON. Needs the extra `export`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.errors import EngineError, JudoEdgeError
from judo_edge.figures import real_sets
from judo_edge.items import Item, items_from_csv, reference_candidates
from judo_edge.metrics import auroc, estimate
from judo_edge.protocol.profile import load_profile
from judo_edge.runtime.embedding import Embedding
from judo_edge.runtime.model import preprocessing_from_bundle
from judo_edge.runtime.partfeatures import PartFeatures
from judo_edge.vision.patches import patches_from_image
from judo_edge.vision.photos import image_from_file

GRAPH, TOKENS = "graph", "tokens"
"""The graph's own output `features`, and the rows of the prompt in their place."""
WAYS: dict[str, bool | None] = {"chosen": None, "same place": True, "anywhere": False}
COUNTS = (1, 8)
DRAWN_SEED = 78_000_000
GRID = 16

Looks = dict[str, Embedding]
"""One photo as several sources of features see it."""


def main() -> int:
    """Measure everything and print it; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m judo_edge.featurefigures", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of labelled sets, each with its items.csv")
    parser.add_argument("--split", default="accept", help="split of these sets: train or accept")
    parser.add_argument("--drawn", type=int, default=256, help="drawn pairs; 0 for none")
    options = parser.parse_args()
    try:
        rows = list(figures(Tower(open_bundle(options.bundle)), options.data, options.split, options.drawn))
    except JudoEdgeError as error:
        print(f"judo-edge: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(table_lines(rows)))
    print(json.dumps(rows))
    return 0


class Tower:
    """The vision graph with the residual stream behind every block as further outputs."""

    def __init__(self, bundle: Bundle) -> None:
        """Open the graph; EngineError when a block of it has no output of its name."""
        import onnx
        import onnxruntime

        model, profile = bundle.manifest.model, load_profile(bundle.path_of(bundle.manifest.profile))
        self._preprocessing = preprocessing_from_bundle(bundle, profile)
        self._places = _raster(model, profile.image_size)
        self._blocks = {f"block {number + 1}": f"visual.blocks.{number}/output" for number in range(model.vision_depth)}
        graph = onnx.load(bundle.graph("vision")[0])
        known = {output for node in graph.graph.node for output in node.output}
        for name in self._blocks.values():
            if name not in known:
                raise EngineError(f"no value {name!r} in the vision graph", "a float export", "--recipe cpu-fp32")
            graph.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        self._session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

    def look(self, path: Path) -> Looks:
        """Return the photo of a file by each source of features; ImageError when it cannot be read."""
        patches = patches_from_image(image_from_file(path), self._preprocessing)[None]
        names = ["embeddings", "features", *self._blocks.values()]
        rows, features, *streams = (value[0] for value in self._session.run(names, {"pixel_values": patches}))
        blocks = zip(self._blocks, streams, strict=True)
        looks = {name: Embedding(rows, stream[self._places]) for name, stream in blocks}
        return {TOKENS: Embedding(rows), GRAPH: Embedding(rows, features), **looks}


def figures(tower: Tower, data: Path | None, split: str, num_drawn: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each set, number of references, source of features and way to compare."""
    for name, path in real_sets(data).items():
        yield from _set_rows(tower, f"{name} {split}", path, split)
    if num_drawn:
        with tempfile.TemporaryDirectory() as folder:
            yield from _set_rows(tower, "drawn", _drawn(Path(folder) / "drawn", num_drawn), "accept")


def _drawn(folder: Path, count: int) -> Path:
    from judo_edge.adapt.drawing.parts import BASE_KINDS
    from judo_edge.adapt.heldout import heldout_pairs, items_from_pairs

    return items_from_pairs(heldout_pairs(BASE_KINDS, count, DRAWN_SEED), folder)


def _set_rows(tower: Tower, title: str, path: Path, split: str) -> Iterator[dict[str, Any]]:
    everything = items_from_csv(path)
    # A good photo that is its own reference is no distance from it, and says nothing.
    items = [item for item in everything if item.split == split and item.image != item.reference]
    if not any(item.is_defect for item in items):
        return
    look = cache(tower.look)
    for count in COUNTS:
        candidates = [reference_candidates(item, everything, count) for item in items]
        if count > 1 and max(map(len, candidates)) == 1:
            continue  # every item names its one reference
        for source in look(items[0].image):
            queries = [look(item.image)[source] for item in items]
            for way, is_aligned in WAYS.items():
                parts = _parts(candidates, look, source, is_aligned)
                head = {"set": title, "references": count, "source": source, "way": way}
                yield {**head, **_figures(items, parts, queries)}


def _parts(
    candidates: list[tuple[Path, ...]], look: Callable[[Path], Looks], source: str, is_aligned: bool | None
) -> list[PartFeatures]:
    """Return the references of each item, made once for items that share them."""
    known = {
        paths: PartFeatures([look(path)[source] for path in paths], is_aligned=is_aligned) for paths in set(candidates)
    }
    return [known[paths] for paths in candidates]


def _figures(items: list[Item], parts: list[PartFeatures], queries: list[Embedding]) -> dict[str, Any]:
    """Return the AUROC of images by score and by plain distance, which knows no level of the part, and of cells."""
    maps = [part.compare(query) for part, query in zip(parts, queries, strict=True)]
    is_defect = np.array([item.is_defect for item in items])
    scores = np.array([found.score for found in maps])
    plain = np.array([found.distance for found in maps])
    truths = [item.truth(GRID, GRID) for item in items]
    known = [(found, truth) for found, truth in zip(maps, truths, strict=True) if truth is not None]
    cells = np.concatenate([found.cells(GRID, GRID).ravel() for found, _ in known])
    truth = np.concatenate([mask.to_array().ravel() for _, mask in known])
    owner = np.repeat(np.arange(len(known)), GRID * GRID)
    strata = np.array([len(mask) > 0 for _, mask in known])
    return {
        "items": len(items),
        "image_auroc": estimate(auroc(scores, is_defect), is_defect).value,
        "image_auroc_plain": estimate(auroc(plain, is_defect), is_defect).value,
        "cell_auroc": estimate(auroc(cells, truth, owner), strata, num_resamples=1).value,
        "aligned": float(np.mean([part.level.is_aligned for part in parts])),
    }


def table_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table."""
    names = list(rows[0]) if rows else []
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|" + "---|" * len(names)]
    return lines + [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]


def _cell(value: object) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def _raster(model: Any, image_size: int) -> Any:
    """Return where each patch, row by row of the photo, lies in the order of the graph's blocks."""
    from judo_edge.export.graphs.vision import raster_places, window_plan

    config = SimpleNamespace(
        spatial_merge_size=model.spatial_merge_size,
        window_size=model.vision_window_size,
        patch_size=model.patch_size,
    )
    plan = window_plan(config, image_size // model.patch_size)
    return raster_places(plan, model.spatial_merge_size).numpy()


if __name__ == "__main__":
    sys.exit(main())
