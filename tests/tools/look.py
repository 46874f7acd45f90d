"""Which names an installed, or only unpacked, library has: looked up in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.tools.bindings import bindings_folder

_LOOK = """
import functools, importlib, json, sys
module = importlib.import_module(sys.argv[1])
def has(name):
    try:
        functools.reduce(getattr, name.split("."), module)
    except AttributeError:
        return False
    return True
print(json.dumps([module.__version__, {name: has(name) for name in json.loads(sys.argv[2])}]))
"""


def folder_of(version: str) -> Path:
    """Return the folder of one version's bindings; the test skips where they are not."""
    folder = bindings_folder() / version
    if not (folder / "typing").is_dir():
        pytest.skip(f"no TensorRT {version} bindings in {folder.parent}: `make bindings` fetches them (network, cc)")
    return folder


def names_in(module: str, names: Iterable[str], environment: dict[str, str]) -> tuple[str, dict[str, bool]]:
    """Return the module's version, and for each dotted name whether the module has it."""
    command = [sys.executable, "-c", _LOOK, module, json.dumps(sorted(names))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    version, found = json.loads(done.stdout)
    return version, found
