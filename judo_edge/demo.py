"""The demonstration: JUDO-nano to INT8, good parts enrolled, real photos inspected, the figures as they are.

The photos are solar cells from the PyPI package `elpv-dataset` (Buerhop-Lutz et al. 2018, CC BY-NC-SA 4.0, image
labels only); they are copied to the output folder and nowhere else. Each step is an ordinary command, shown as it runs.
"""

from __future__ import annotations

import argparse
import csv
import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import judo_edge
from judo_edge import cli
from judo_edge.cli.app import EXIT_UNDECIDABLE
from judo_edge.errors import DependencyError, JudoEdgeError, OutputError

PART = "solar-cell"
CELL_TYPE = "mono"
NUM_REFERENCES, NUM_PHOTOS = 8, 40
"""Good cells to enrol, and cells to inspect of each label."""


@dataclass(frozen=True)
class SolarCells:
    """Photos of mono-crystalline cells whose label is certain."""

    good: tuple[Path, ...]
    defective: tuple[Path, ...]


def main() -> int:
    """Run the demonstration; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m judo_edge.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--force", action="store_true", help="replace an earlier demonstration")
    options = parser.parse_args()
    try:
        return demonstrated(options.out, options.force)
    except JudoEdgeError as error:
        print(f"judo-edge: {error}", file=sys.stderr)
        return error.exit_code


def demonstrated(out: Path, force: bool = False) -> int:
    """Export, enrol, evaluate and inspect in the new folder `out`; OutputError when it exists."""
    _new_folder(out, force)
    items, photos = items_from_cells(solar_cells(), out)
    adapter = Path(judo_edge.__file__).parent / "assets" / "judo-nano" / "adapters" / "woven"
    bundle, store = str(out / "judo-nano-int8"), str(out / "references")
    steps = [
        ["export", "judo-nano", "--adapter", str(adapter), "--recipe", "cpu-int8", "--out", bundle],
        ["info", bundle],
        ["enroll", "--part", PART, "--store", store, str(photos / "enrol")],
        [
            "inspect",
            bundle,
            "--part",
            PART,
            "--images",
            str(photos / "line"),
            "--store",
            store,
            "--out",
            str(out / "run"),
        ],
        ["evaluate", bundle, str(items), "--references", str(NUM_REFERENCES), "--json", str(out / "figures.json")],
    ]
    for arguments in steps:
        print(f"\n$ judo-edge {shlex.join(arguments)}", flush=True)
        code = cli.main(arguments)
        if code not in (0, EXIT_UNDECIDABLE):
            return code
    report = out / "run" / "report.html"
    print(f"\nOpen {report} in a browser. The figures above are what a 6-million-parameter model,")
    print("trained on drawn parts alone, really reaches on photos of a kind it has never seen.")
    return 0


def solar_cells() -> SolarCells:
    """Find the photos of the installed `elpv-dataset`; DependencyError when it is not installed."""
    found = find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        action = "pip install elpv-dataset==1.0.0.post1"
        raise DependencyError("the demonstration needs the package 'elpv_dataset'", "its photos", action)
    data = Path(found.submodule_search_locations[0]) / "data"
    rows = [line.split() for line in (data / "labels.csv").read_text().splitlines() if line.strip()]
    mono = [(data / path, float(probability)) for path, probability, kind in rows if kind == CELL_TYPE]
    good = tuple(path for path, probability in mono if probability == 0.0)
    return SolarCells(good, tuple(path for path, probability in mono if probability == 1.0))


def items_from_cells(cells: SolarCells, out: Path) -> tuple[Path, Path]:
    """Copy a spread choice of photos and write items.csv; returns it and the folder of photos."""
    good = _spread(cells.good, NUM_REFERENCES + NUM_PHOTOS)
    photos = out / "photos"
    chosen = {"enrol": good[:NUM_REFERENCES], "line": (*good[NUM_REFERENCES:], *_spread(cells.defective, NUM_PHOTOS))}
    for name, paths in chosen.items():
        (photos / name).mkdir(parents=True)
        for path in paths:
            shutil.copyfile(path, photos / name / path.name)
    defective = set(cells.defective)
    rows = [(f"enrol/{path.name}", "good", "train") for path in chosen["enrol"]]
    rows += [(f"line/{path.name}", "defect" if path in defective else "good", "accept") for path in chosen["line"]]
    with (photos / "items.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "label", "split", "group", "reference", "mask"])
        table.writerows([*row, "", "", ""] for row in rows)
    return photos / "items.csv", photos


def _spread(paths: tuple[Path, ...], count: int) -> tuple[Path, ...]:
    chosen = np.linspace(0, len(paths) - 1, count).round().astype(int)
    return tuple(paths[int(index)] for index in chosen)


def _new_folder(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise OutputError(f"{out} exists already", action="pass --force to replace it, or choose another --out")
    if out.exists():
        if not (out / "photos" / "items.csv").exists():
            raise OutputError(f"{out} is not an earlier demonstration", action="choose another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)


if __name__ == "__main__":
    sys.exit(main())
