"""ONNX Runtime's CUDA provider on a real GPU: what it says is what the CPU says, and how long the passes take."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from judo_edge.bundle import Bundle
from judo_edge.runtime.engines import engine_from_bundle
from tests.device.conftest import NUM_PAIRS

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def provider() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA provider (onnxruntime-gpu)")


def test_says_what_the_cpu_says(exported: Callable[[str], Bundle]) -> None:
    from judo_edge.adapt.drawing.parts import BASE_KINDS
    from judo_edge.adapt.heldout import heldout_pairs
    from tests.device.replies import inspected, note, timed_passes

    bundle = exported("cpu-fp32")
    pairs = heldout_pairs(BASE_KINDS, NUM_PAIRS, seed=79_000_000)
    with engine_from_bundle(bundle) as plain, engine_from_bundle(bundle, "onnxruntime-cuda") as cuda:
        expected, replies = inspected(bundle, plain, pairs), inspected(bundle, cuda, pairs)
        note("onnxruntime-cuda", bundle, timed_passes(bundle, cuda, 1.0), 1.0)
    # TF32 is off by default; sums in another order can still turn a near-tie.
    assert sum(one.ids == other.ids for one, other in zip(expected, replies, strict=True)) >= NUM_PAIRS - 1


def test_keys_and_values_come_back_from_the_card(exported: Callable[[str], Bundle]) -> None:
    from tests.device.replies import keys_values_return

    bundle = exported("cpu-fp32")
    with engine_from_bundle(bundle, "onnxruntime-cuda") as cuda:
        assert keys_values_return(bundle, cuda)
