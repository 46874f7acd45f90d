"""The figures of the README, remade: every bundle of JUDO-nano on drawn pairs and on the labelled sets of a folder.

    python -m judo_edge.figures --out build/figures [--data FOLDER_WITH_SETS]

Each set is judged by `judo-edge evaluate`; a table follows, and one last line of JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from judo_edge import cli
from judo_edge.errors import JudoEdgeError, OutputError

BUNDLES = {"fp32": ("cpu-fp32", ()), "fp32+woven": ("cpu-fp32", ("woven",)), "int8+woven": ("cpu-int8", ("woven",))}
"""Recipe and adapters of each bundle."""
NUM_DRAWN, NUM_WOVEN, NUM_REFERENCES = 512, 256, 8
KEYS = ("image_auroc", "cell_auroc", "cell_f1", "recall", "specificity", "verdict_accuracy", "invalid")


def main() -> int:
    """Run everything in a new folder; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m judo_edge.figures", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="folder of labelled sets, each with its items.csv")
    parser.add_argument("--limit", type=int, help="at most so many items of a set, for a trial")
    options = parser.parse_args()
    try:
        if options.out.exists():
            raise OutputError(f"{options.out} exists already", action="choose another --out")
        sets = {**drawn_sets(options.out / "drawn"), **real_sets(options.data)}
        rows = list(figures(options.out, sets, options.limit))
    except JudoEdgeError as error:
        print(f"judo-edge: {error}", file=sys.stderr)
        return error.exit_code
    print("\n".join(table_lines(rows)))
    print(json.dumps(rows))
    return 0


def drawn_sets(folder: Path) -> dict[str, Path]:
    """Draw unseen pairs, half of them good, and return their items.csv by name."""
    from judo_edge.adapt.drawing.parts import ADAPTER_KIND, BASE_KINDS
    from judo_edge.adapt.heldout import heldout_pairs, items_from_pairs

    base = items_from_pairs(heldout_pairs(BASE_KINDS, NUM_DRAWN), folder / "base")
    woven = items_from_pairs(heldout_pairs((ADAPTER_KIND,), NUM_WOVEN), folder / ADAPTER_KIND)
    return {"drawn": base, "drawn woven": woven}


def real_sets(folder: Path | None) -> dict[str, Path]:
    """Find the labelled sets of a folder."""
    return {path.parent.name: path for path in sorted(folder.glob("*/items.csv"))} if folder else {}


def figures(out: Path, sets: dict[str, Path], limit: int | None) -> Iterator[dict[str, Any]]:
    """Export each bundle, evaluate it on each set, and yield a row per pair."""
    for name, (recipe, adapters) in BUNDLES.items():
        bundle = out / name
        chosen = [part for adapter in adapters for part in ("--adapter", adapter)]
        _run("export", "judo-nano", "--recipe", recipe, *chosen, "--out", str(bundle))
        for title, items in sets.items():
            path = out / f"{name} {title}.json"
            extra = ["--limit", str(limit)] if limit else []
            _run("evaluate", str(bundle), str(items), "--references", str(NUM_REFERENCES), "--json", str(path), *extra)
            found = json.loads(path.read_text())
            yield {"bundle": name, "set": title, "items": found["counts"]["items"], **{key: found[key] for key in KEYS}}


def table_lines(rows: list[dict[str, Any]]) -> list[str]:
    """Return a Markdown table of values with their intervals."""
    head = ["set", "bundle", "items", *(key.replace("_", " ") for key in KEYS)]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in sorted(rows, key=lambda row: str(row["set"])):
        cells = [row["set"], row["bundle"], str(row["items"]), *(_cell(row[key]) for key in KEYS)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(figure: dict[str, float | None]) -> str:
    if figure["value"] is None:
        return "-"
    return f"{figure['value']:.3f} ({figure['low']:.3f}-{figure['high']:.3f})"


def _run(*arguments: str) -> None:
    print(f"$ judo-edge {' '.join(arguments)}", flush=True)
    code = cli.main(arguments)
    if code:
        raise JudoEdgeError(f"judo-edge {arguments[0]} ended with {code}", "0", "see the line above")


if __name__ == "__main__":
    sys.exit(main())
