"""What every shipped recipe does to JUDO-nano: `python -m judo_edge.recipefigures --data DIR --out DIR`.

Runs the commands that a user would run: calibrate on drawn pairs, export by each recipe, verify on the labelled sets.
Bundles for TensorRT run here on ONNX Runtime, with the same graphs and numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from judo_edge import cli
from judo_edge.cli.app import EXIT_GATE
from judo_edge.errors import JudoEdgeError, OutputError
from judo_edge.figures import NUM_REFERENCES, real_sets

REFERENCE = "cpu-fp32"
NUM_PAIRS, PAIRS_SEED = 192, 55_000_000
"""Drawn pairs to calibrate on; the seed is that of no other set."""
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
    _run("calibrate", "judo-nano", "--items", str(_drawn(out / "drawn")), *_options("--accept", sets), "--samples",
         str(NUM_PAIRS), "--gram", "--out", str(calibration))  # fmt: skip
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


def _drawn(folder: Path) -> Path:
    from judo_edge.adapt.drawing.parts import BASE_KINDS
    from judo_edge.adapt.heldout import heldout_pairs, items_from_pairs

    return items_from_pairs(heldout_pairs(BASE_KINDS, NUM_PAIRS, PAIRS_SEED), folder, split="train")


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
