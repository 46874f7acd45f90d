"""A rival without a model, as a script: it stands in for a rival's process and misbehaves as told.

`python rival.py MODE` speaks the worker's JSON lines. As a backend of `worker.py` it writes the photos' first pixels.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__)


class Backend:
    """Replies with the options' `ids`, or fails as the options' `mode` says."""

    def __init__(self, model: str, options: dict[str, Any], threads: int) -> None:
        print("a library that greets on stdout", flush=True)
        if options["mode"] == "no load":
            raise OSError(f"{model} is no model")
        self._mode = options["mode"]
        self._count = 0

    def photo_from_pixels(self, pixels: Any) -> int:
        return int(pixels[0, 0, 0])

    def ask(self, request: dict[str, Any], photos: list[int]) -> dict[str, Any]:
        self._count += 1
        if self._mode == "dies" and self._count == 2:
            print("out of luck", file=sys.stderr, flush=True)
            sys.stderr.flush()
            import os

            os._exit(7)
        if self._mode == "sleeps":
            time.sleep(60)
        ids = [*photos, len(request["prompt_ids"])]
        return {"ids": ids, "text": request["prompt"], "first_seconds": 0.0, "reused": "nothing"}


def main() -> None:
    for line in sys.stdin:
        mode = sys.argv[1]
        if mode == "garbage":
            print("Segmentation fault?", flush=True)
        elif mode == "list":
            print("[1, 2]", flush=True)
        elif mode == "echo":
            print(json.dumps({"asked": json.loads(line)}), flush=True)
        elif mode == "dies":
            print("first words\nlast words", file=sys.stderr, flush=True)
            sys.exit(3)
        elif mode == "sleeps":
            time.sleep(60)


if __name__ == "__main__":
    main()
