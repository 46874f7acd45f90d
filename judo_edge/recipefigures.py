"""What every shipped recipe does to JUDO-nano: `python -m judo_edge.recipefigures --data DIR --out DIR`.

Runs the commands that a user would run: calibrate on the train items of the sets and on drawn pairs (the sets have few
defects to train on), export by each recipe, verify on the accept items.
Bundles for TensorRT run here on ONNX Runtime, with the same graphs and numbers.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from judo_edge import cli
from judo_edge.cli.app import EXIT_GATE
from judo_edge.errors import JudoEdgeError, OutputError
from judo_edge.figures import NUM_REFERENCES, real_sets
from judo_edge.items import Item, items_from_csv

REFERENCE = "cpu-fp32"
NUM_PAIRS, PAIRS_SEED = 96, 55_000_000
"""Drawn pairs among those to calibrate on; the seed is that of no other set."""
NUM_SAMPLES = 192
COLUMNS = (
    "reply_agreement",
    "mask_agreement",
    "cell_f1",
    "logit_difference_mean",
    "flips_good_to_nok",
    "flips_defect_to_ok",
)


def main() -> int:
    """Print a table and, as the last line, JSON."""
    parser = argparse.ArgumentParser(description="Every recipe against float32, JUDO-nano.")
    parser.add_argument("--out", type=Path, required=True, help="folder for calibration and bundles; must not exist")
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled sets, each with its items.csv")
    parser.add_argument("--recipe", action="append", help="only this recipe; may be given again")
    parser.add_argument("--limit", type=int, help="at most so many items of a set, for a trial")
    options = parser.parse_args()
    try:
        if options.out.exists():
            raise OutputError(f"{options.out} exists already", action="choose another --out")
        sets = list(real_sets(options.data).values())
        rows = list(figures(options.out, sets, options.recipe or compared_recipes(), options.limit))
    except JudoEdgeError as error:
        print(f"judo-edge: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(table_lines(rows)))
    print(json.dumps(rows))
    return 0


def compared_recipes() -> list[str]:
    """Return every shipped recipe but the reference."""
    from judo_edge.export.recipe import recipe_names

    return [name for name in recipe_names() if name != REFERENCE]


def figures(out: Path, sets: Sequence[Path], recipes: Sequence[str], limit: int | None) -> Iterator[dict[str, Any]]:
    """Calibrate, make the reference, then export and verify each recipe and yield its row."""
    calibration, reference = out / "calibration", out / REFERENCE
    items = calibration_items(out / "drawn", sets)
    chosen = ["--items", str(items), *_options("--accept", sets), "--samples", str(NUM_SAMPLES), "--gram"]
    _run("calibrate", "judo-nano", *chosen, "--out", str(calibration))
    _run("export", "judo-nano", "--recipe", REFERENCE, "--out", str(reference))
    about = [
        *_options("--items", sets),
        "--references",
        str(NUM_REFERENCES),
        *(["--limit", str(limit)] if limit else []),
    ]
    for recipe in recipes:
        bundle = out / recipe
        _run("export", "judo-nano", "--recipe", recipe, "--calibration", str(calibration), "--out", str(bundle))
        _run("verify", str(bundle), "--against", str(reference), *about)
        yield _row(recipe, bundle)


def table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return a Markdown table."""
    head = ["recipe", "MB", "items", *(name.replace("_", " ") for name in COLUMNS), "gate"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [
            row["recipe"],
            f"{row['bytes'] / 1e6:.1f}",
            str(row["items"]),
            *(_number(row[name]) for name in COLUMNS),
        ]
        lines.append(f"| {' | '.join(cells)} | {', '.join(row['failed']) or 'passed'} |")
    return lines


def calibration_items(folder: Path, sets: Sequence[Path]) -> Path:
    """Draw pairs into a new folder, add the train items of the sets by their full paths, and return the csv."""
    from judo_edge.adapt.drawing.parts import BASE_KINDS
    from judo_edge.adapt.heldout import heldout_pairs, items_from_pairs

    path = items_from_pairs(heldout_pairs(BASE_KINDS, NUM_PAIRS, PAIRS_SEED), folder, split="train")
    with path.open("a", newline="") as stream:
        table = csv.writer(stream)
        for items in sets:
            table.writerows(
                _train_row(item, items.parent.name) for item in items_from_csv(items) if item.split == "train"
            )
    return path


def _train_row(item: Item, name: str) -> list[str]:
    files = [str(path.resolve()) if path else "" for path in (item.image, item.reference, item.mask)]
    label = "defect" if item.is_defect else "good"
    return [files[0], label, "train", f"{name} {item.group}".strip(), *files[1:]]


def _row(recipe: str, bundle: Path) -> dict[str, Any]:
    """Read the report that verify wrote into the bundle."""
    from judo_edge.bundle import open_bundle

    opened = open_bundle(bundle, verify=False)
    acceptance = opened.manifest.acceptance
    assert acceptance is not None
    figures = json.loads((bundle / acceptance.report).read_text())["figures"]
    size = sum(entry.bytes for entry in opened.manifest.files.values())
    values = {name: figures[name]["value"] for name in COLUMNS}
    count = figures["reply_agreement"]["count"]
    return {"recipe": recipe, "bytes": size, "items": count, **values, "failed": list(acceptance.failed)}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _options(name: str, paths: Sequence[Path]) -> list[str]:
    return [part for path in paths for part in (name, str(path))]


def _run(*arguments: str) -> None:
    print(f"$ judo-edge {' '.join(arguments)}", flush=True)
    code = cli.main(arguments)
    if code not in (0, EXIT_GATE):
        raise JudoEdgeError(f"judo-edge {arguments[0]} ended with {code}", "0", "see the line above")


if __name__ == "__main__":
    sys.exit(main())
