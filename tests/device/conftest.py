"""What the tests on a GPU need, and why they are skipped where it is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.plans import gpu_of_driver

NUM_PAIRS = 16


@pytest.fixture(scope="session", autouse=True)
def device() -> str:
    """Return the compute capability of the first GPU; skip every test here without one."""
    gpu = gpu_of_driver()
    if gpu is None:
        pytest.skip("no CUDA device")
    return gpu.compute_capability


@pytest.fixture(scope="session")
def exported(device: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """Return a function from a recipe to JUDO-nano's bundle in it, exported once."""
    pytest.importorskip("torch", reason="exporting JUDO-nano needs the extra export")
    from judo_edge.export.pipeline import export_bundle

    folder = tmp_path_factory.mktemp("nano")

    def bundle(recipe: str) -> Bundle:
        target: Path = folder / recipe
        if not target.is_dir():
            export_bundle("judo-nano", [], recipe, target)
        return open_bundle(target)

    return bundle
