"""Which packages another Python has, asked of that Python itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from judo_edge.errors import DependencyError

TIMEOUT_SECONDS = 60
_SCRIPT = """
import importlib.metadata, json, sys
versions = {}
for name in sys.argv[1:]:
    try:
        versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(json.dumps(versions))
"""


def package_versions(python: Path, packages: Sequence[str], install: str) -> dict[str, str]:
    """Return the version of each package in the environment of `python`.

    Raises DependencyError when that Python does not run, or lacks one; `install` says how to get them.
    """
    action = f"{python} -m {install}"
    try:
        asked = subprocess.run(
            [str(python), "-c", _SCRIPT, *packages],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env=clean_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DependencyError(f"{python} does not run: {error}", "a Python of the rival's own", action) from error
    if asked.returncode:
        words = asked.stderr.strip().splitlines()[-1:] or [f"exit code {asked.returncode}"]
        raise DependencyError(f"{python} fails: {words[0]}", "a Python that runs", action)
    versions: dict[str, str] = json.loads(asked.stdout)
    if missing := [name for name in packages if name not in versions]:
        raise DependencyError(f"{python} lacks {', '.join(missing)}", "the rival's packages", action)
    return versions


def clean_environment(threads: int = 0) -> dict[str, str]:
    """Return the environment of another Python's process: ours without our import path, offline, `threads` a pool."""
    ours = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    pools = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} if threads else {}
    return {**ours, **pools, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
