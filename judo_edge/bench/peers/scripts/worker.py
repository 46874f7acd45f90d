"""The rival's side of the talk: `python worker.py BACKEND.py` answers JSON lines on stdin with JSON lines on stdout.

    {"op": "load", "model": PATH, "options": {...}, "threads": N}  ->  {"seconds": S}
    {"op": "ask", "prompt": TEXT, "prompt_ids": [..], "photos": [NPY, NPY], "max_new_tokens": N, "end_ids": [..]}
        ->  {"ids": [..], "text": TEXT, "seconds": S, "first_seconds": S, "reused": TEXT, "peak_bytes": N}

A failure is one line {"error": TEXT}. Whatever a library prints goes to stderr. Needs numpy and the rival's packages,
nothing else.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


def backend_from_file(path: str) -> types.ModuleType:
    """Load a backend: a file with a class `Backend`, which imports its library only when made."""
    spec = importlib.util.spec_from_file_location("judo_edge_backend", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answered(backend: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Let the backend write one reply; reading the photos from disk is not timed, all that the rival does is."""
    import numpy as np

    photos = [backend.photo_from_pixels(np.load(path, allow_pickle=False)) for path in request["photos"]]
    started = time.perf_counter()
    reply = backend.ask(request, photos)
    seconds = time.perf_counter() - started
    return {**reply, "seconds": seconds, "peak_bytes": peak_bytes()}


def peak_bytes() -> int:
    """Return this program's peak resident memory; getrusage would count the process that started it as well."""
    lines = Path("/proc/self/status").read_text(errors="replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def served(module: types.ModuleType, requests: TextIO) -> Iterator[dict[str, Any]]:
    """Yield the answer to each line; the first must be `load`."""
    backend = None
    for line in requests:
        request = json.loads(line)
        if request["op"] == "load":
            started = time.perf_counter()
            backend = module.Backend(request["model"], request["options"], request["threads"])
            yield {"seconds": time.perf_counter() - started}
        else:
            yield answered(backend, request)


def main() -> int:
    """Serve until stdin ends; returns the exit code."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries print to stdout, which would break the talk
    try:
        module = backend_from_file(sys.argv[1])
        for answer in served(module, sys.stdin):
            print(json.dumps(answer), file=own, flush=True)
    except Exception as error:  # the bench must learn why, whatever the library raises
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=own, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
