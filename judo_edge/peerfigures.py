"""judo-edge and the rivals, one after another: for checkpoints of which only one fits into memory at a time.

    python -m judo_edge.peerfigures --checkpoint DIR --order normal-first

Drawn parts of one kind, one reference, a new query in every frame. The first recipe's replies are what all others are
compared with. Prints a table and, as the last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import judo_edge
from judo_edge.adapt.drawing.parts import DRAWERS
from judo_edge.bench.peers.frames import Agreement, PeerResult, agreement
from judo_edge.bench.peers.ours import (
    Line,
    bundle_from_checkpoint,
    drawn_line,
    frames_from_line,
    ordered_checkpoint,
    own_answers,
)
from judo_edge.bench.peers.registry import DEFAULT_PEERS
from judo_edge.bench.peers.run import run_peers
from judo_edge.bundle import Bundle
from judo_edge.cli.peering import python_from_text
from judo_edge.errors import JudoEdgeError
from judo_edge.files import cache_folder
from judo_edge.terminal import note, print_table

NANO = Path(judo_edge.__file__).parent / "assets" / "judo-nano"


@dataclass(frozen=True)
class Row:
    """One runtime's figures."""

    result: PeerResult
    agreement: Agreement | None
    """With the first recipe; None when it gave no reply."""

    def as_dict(self) -> dict[str, Any]:
        """Return what the JSON line holds; times in milliseconds, medians without the first frame."""
        warm = self.result.answers[1:]
        vision = [answer.vision_seconds for answer in warm if answer.vision_seconds is not None]
        return {
            "name": self.result.name,
            "problem": self.result.problem,
            "versions": self.result.versions,
            "p50_ms": _milliseconds([answer.seconds for answer in warm]),
            "first_token_p50_ms": _milliseconds([answer.first_seconds for answer in warm]),
            "vision_p50_ms": _milliseconds(vision),
            "cold_ms": _milliseconds([answer.seconds for answer in self.result.answers[:1]]),
            "load_s": round(self.result.load_seconds, 2) or None,
            "peak_mb": round(max((a.peak_bytes for a in self.result.answers), default=0) / 1e6) or None,
            "reused": warm[-1].reused if warm else "",
            "tokens": [len(answer.ids) for answer in self.result.answers],
            "equal": self.agreement.num_equal if self.agreement else 0,
            "frames": self.agreement.num_frames if self.agreement else 0,
            "common_tokens": list(self.agreement.common) if self.agreement else [],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the comparison; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        rows = compared(options)
    except JudoEdgeError as error:
        print(f"judo-edge: {error}", file=sys.stderr)
        return error.exit_code
    figures = [row.as_dict() for row in rows]
    _print(figures)
    print(json.dumps({"order": options.order, "checkpoint": str(options.checkpoint), "rows": figures}))
    return 0


def compared(options: argparse.Namespace) -> list[Row]:
    """Let judo-edge and then each rival write the replies."""
    pythons = dict(map(python_from_text, options.peer_python))
    options.work.mkdir(parents=True, exist_ok=True)
    checkpoint = ordered_checkpoint(options.checkpoint, options.order, options.work, options.max_new_tokens)
    line = drawn_line(options.part, options.frames, options.defects, options.seed)
    recipes = options.recipe or ["cpu-fp32"]
    bundles = {recipe: bundle_from_checkpoint(checkpoint, recipe, options.work) for recipe in recipes}
    results = list(_own_results(bundles, line, options))
    results += run_peers(
        checkpoint,
        frames_from_line(bundles[recipes[0]], line),
        (options.peers or ",".join(DEFAULT_PEERS)).split(","),
        pythons,
        options.work,
        options.max_new_tokens,
        lambda name, done: note(f"{name}: {'loading' if done < 0 else f'frame {done}'}"),
        threads=options.threads,
        frame_seconds=options.frame_seconds,
    )
    expected = [answer.ids for answer in results[0].answers]
    return [Row(result, _agreement(result, expected)) for result in results]


def _own_results(bundles: Mapping[str, Bundle], line: Line, options: argparse.Namespace) -> Iterator[PeerResult]:
    for recipe, bundle in bundles.items():
        ways: dict[str, dict[str, Any]] = {"": {"is_drafting": False}}
        if options.drafts:
            ways["+drafts"] = {"is_drafting": True}
        for suffix, way in ways.items():
            name = f"judo-edge-{recipe}{suffix}"
            note(name)
            yield PeerResult(name, answers=tuple(own_answers(bundle, line, options.threads, way)))


def _agreement(result: PeerResult, expected: Sequence[Sequence[int]]) -> Agreement | None:
    return agreement([answer.ids for answer in result.answers], expected) if result.answers else None


def _milliseconds(seconds: Sequence[float]) -> float | None:
    return round(median(seconds) * 1e3, 1) if seconds else None


def _print(figures: Sequence[dict[str, Any]]) -> None:
    columns = ("name", "p50_ms", "first_token_p50_ms", "vision_p50_ms", "cold_ms", "load_s", "peak_mb")
    header = ("runtime", "ms", "first token ms", "vision ms", "cold ms", "load s", "MB", "equal replies", "reused")
    rows = []
    for row in figures:
        numbers = ["-" if row[key] is None else str(row[key]) for key in columns]
        rows.append((*numbers, f"{row['equal']}/{row['frames']}", row["reused"]))
    print_table(header, rows)
    for row in figures:
        if row["problem"]:
            print(f"{row['name']}: {row['problem']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m judo_edge.peerfigures", description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=NANO, help="folder with profile.toml (default: JUDO-nano)")
    parser.add_argument("--order", choices=("query-first", "normal-first"), default="query-first")
    parser.add_argument("--peers", default="", help="names, separated by commas (default: the usual settings)")
    parser.add_argument("--peer-python", action="append", default=[], metavar="KEY=PATH", help="a rival's own Python")
    parser.add_argument("--recipe", action="append", help="judo-edge's; the first is the yardstick (cpu-fp32)")
    parser.add_argument("--drafts", action="store_true", help="also measure judo-edge with drafts")
    parser.add_argument("--frames", type=int, default=9, help="the first warms up and is in no median")
    parser.add_argument("--part", choices=sorted(DRAWERS), default="machined")
    parser.add_argument("--defects", type=float, default=0.05, help="share of defective parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-new-tokens", type=int, default=320)
    parser.add_argument("--frame-seconds", type=float, default=600.0, help="longest wait for one reply")
    parser.add_argument("--work", type=Path, default=cache_folder() / "peers", help="conversions are kept here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
