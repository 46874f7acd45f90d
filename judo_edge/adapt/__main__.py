"""Remakes JUDO-nano from nothing: `python -m judo_edge.adapt --out FOLDER`.

Draws the pairs, then runs the stages of `stages.py` one after another; interrupted runs resume at the last saved step.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from judo_edge.adapt.recipe import remade_nano


def main() -> None:
    """Parse the arguments and run all stages."""
    parser = argparse.ArgumentParser(prog="python -m judo_edge.adapt", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="checkpoint folder to write")
    parser.add_argument("--work", type=Path, default=Path("build/adapt"), help="drawn pairs and training states")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shrink", type=float, default=1.0, help="share of the published steps, for a trial")
    parser.add_argument("--no-compile", action="store_true", help="do without a C++ compiler (slower)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    remade_nano(options.out, options.work, options.shrink, not options.no_compile)


if __name__ == "__main__":
    main()
