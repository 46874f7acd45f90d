"""The native engine on a real GPU: plans built here say what ONNX Runtime says, and how long the passes take.

JUDO_EDGE_GPU_BUNDLE names a bundle to time in place of JUDO-nano, for example one of 7B shape with random weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import numpy as np
import pytest

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.plans import PlanStore, current_environment, key_of_user, plans_folder
from judo_edge.runtime.engines import engine_from_bundle
from judo_edge.runtime.engines.cuda import open_cuda
from tests.device.conftest import NUM_PAIRS

pytestmark = pytest.mark.slow

BUNDLE = "JUDO_EDGE_GPU_BUNDLE"
RECIPES = ("workstation-fp16", "workstation-int8", "workstation-int4", "jetson-orin-nx-int8")


@pytest.fixture(scope="module")
def builder() -> str:
    """Return the builder that is installed."""
    for name in ("tensorrt", "tensorrt_rtx"):
        if find_spec(name) is not None:
            return name
    pytest.skip("neither tensorrt nor tensorrt_rtx is installed")


@pytest.fixture(scope="module")
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep plans and key out of the user's folders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="module")
def planned(builder: str, own_folders: None) -> Callable[[Bundle], Bundle]:
    """Return a function that builds a bundle's plans for this machine."""
    from judo_edge.export.tensorrt import build_plans, build_steps

    def built(bundle: Bundle) -> Bundle:
        environment = current_environment(builder)  # type: ignore[arg-type]
        for _ in build_plans(build_steps(bundle, environment, PlanStore(plans_folder(), key_of_user()))):
            pass
        return bundle

    return built


@pytest.fixture(scope="module")
def bandwidth() -> float:
    """Return bytes per second that the device writes, measured by filling 1 GiB ten times."""
    cuda = open_cuda()
    size = 1 << 30
    block = cuda.allocate(size)
    cuda.clear(block, size)
    begin = cuda.mark()
    for _ in range(10):
        cuda.clear(block, size)
    end = cuda.mark()
    cuda.synchronize()
    seconds = cuda.seconds(begin, end)
    cuda.free(block)
    cuda.close()
    return 10 * size / seconds


@pytest.mark.parametrize("recipe", RECIPES)
def test_says_what_onnxruntime_says(
    recipe: str, exported: Callable[[str], Bundle], planned: Callable[[Bundle], Bundle]
) -> None:
    from judo_edge.adapt.drawing.parts import BASE_KINDS
    from judo_edge.adapt.heldout import heldout_pairs
    from tests.device.replies import inspected

    bundle = planned(exported(recipe))
    pairs = heldout_pairs(BASE_KINDS, NUM_PAIRS, seed=79_000_000)
    with engine_from_bundle(bundle) as plain, engine_from_bundle(bundle, "tensorrt") as native:
        expected, replies = inspected(bundle, plain, pairs), inspected(bundle, native, pairs)
        patches = np.random.default_rng(0).standard_normal((2, *_patch_shape(bundle))).astype(np.float32)
        for ours, theirs in zip(native.encode(patches), plain.encode(patches), strict=True):
            assert ours is not None and theirs is not None
            distance = np.linalg.norm(ours - theirs, axis=-1) / np.linalg.norm(theirs, axis=-1)
            assert distance.max() < 2e-2, "vision rows and patch features, in order"
    same = sum(one.ids == other.ids for one, other in zip(expected, replies, strict=True))
    decided = sum(a.verdict.decision is b.verdict.decision for a, b in zip(expected, replies, strict=True))
    # Kernels add in another order, so a near-tie may fall otherwise in float16; a wrong engine changes everything.
    assert same >= NUM_PAIRS - 2 and decided >= NUM_PAIRS - 1


@pytest.mark.parametrize("recipe", RECIPES)
def test_keys_and_values_come_back_from_the_card(
    recipe: str, exported: Callable[[str], Bundle], planned: Callable[[Bundle], Bundle]
) -> None:
    from tests.device.replies import keys_values_return

    bundle = planned(exported(recipe))
    with engine_from_bundle(bundle, "tensorrt") as native:
        assert keys_values_return(bundle, native)


def test_passes_are_timed_against_the_bandwidth(
    exported: Callable[[str], Bundle], planned: Callable[[Bundle], Bundle], bandwidth: float
) -> None:
    from tests.device.replies import note, timed_passes

    named = os.environ.get(BUNDLE)
    bundles = [open_bundle(named)] if named else [exported(recipe) for recipe in RECIPES]
    for bundle in map(planned, bundles):
        with engine_from_bundle(bundle, "tensorrt") as native:
            results = timed_passes(bundle, native, bandwidth)
            print(native.backend.memory())  # type: ignore[attr-defined]
        note("tensorrt", bundle, results, bandwidth)
        assert all(0 < one.share_of_ceiling < 1.5 or one.name != "decode" for one in results)
        assert results[-1].milliseconds < results[0].milliseconds, "a step costs less than a prompt"


def _patch_shape(bundle: Bundle) -> tuple[int, int]:
    shape = bundle.manifest.graphs["vision"].inputs["pixel_values"].shape
    return int(shape[1]), int(shape[2])
