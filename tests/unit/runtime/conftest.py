"""One export of each form of the graphs for all tests of the engines, shared by the workers of a test run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from judo_edge.bundle import Bundle, Manifest

if TYPE_CHECKING:
    from judo_edge.export.graphs import GraphForm


@pytest.fixture(scope="session")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[GraphForm], Bundle]:
    """Return a function from a form to its bundle, traced once."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "forms"
    shared.mkdir(exist_ok=True)
    return cache(lambda form: _traced_once(shared, form))


def _traced_once(shared: Path, form: GraphForm) -> Bundle:
    """Trace a form unless another worker has, or is about to."""
    from tests.engines import form_bundle, form_id

    folder, made = shared / form_id(form), shared / f"{form_id(form)}.json"
    with (shared / f"{form_id(form)}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            made.write_text(form_bundle(folder, form).manifest.model_dump_json())
    return Bundle(folder, Manifest.model_validate_json(made.read_text()), "0" * 64)
