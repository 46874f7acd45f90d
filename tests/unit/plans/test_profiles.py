"""Profiles: every size that the runtime may ask for has one, and shapes follow from the graph's own inputs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judo_edge.errors import BundleError, PlanError
from judo_edge.plans import decoder_profiles, fixed_sizes, profiles_of, shapes_in

LEGACY = {
    "inputs_embeds": ("B", "S", 256),
    "positions": (3, "B", "S"),
    "mask": ("B", 1, "S", "P + S"),
    "past": ("P", 6, 2, "B", 2, 64),
    "rows": ("R",),
}
MODERN = {
    "inputs_embeds": ("B", "S", 256),
    "positions": (3, "B", "S"),
    "mask": ("B", 1, "S", "C"),
    "write": ("B",),
    "past_key_0": ("B", 2, "C", 64),
    "past_value_0": ("B", 2, "C", 64),
    "rows": ("R",),
}
VISION = {"pixel_values": ("N", 1296, 1176)}


@given(st.integers(1, 1536), st.integers(0, 1535))
def test_every_step_within_the_tokens_has_a_profile_or_can_be_cut(new: int, past: int) -> None:
    if new + past > 1536:
        new = 1536 - past
    profiles = decoder_profiles("legacy", 1536)
    assert any(p.fits(S=new, P=past) for p in profiles) or any(p.fits(S=64, P=past) for p in profiles)
    assert any(p.fits(S=new, C=1536) for p in decoder_profiles("modern", 1536))


def test_the_step_profile_covers_two_positions() -> None:
    """With exactly one the builder writes int8 weights out as floats; see tests/unit/export/test_tensorrt_layers.py."""
    for dialect in ("legacy", "modern"):
        decode = decoder_profiles(dialect)[-1]
        assert decode.name == "decode" and (decode.axes["S"].optimum, decode.axes["S"].maximum) == (1, 2)


def test_legacy_shapes() -> None:
    prefill, verify, decode = profiles_of(LEGACY, "legacy", 1536)
    assert shapes_in(verify, LEGACY, "legacy")["mask"] == ((1, 1, 2, 2), (1, 1, 32, 928), (1, 1, 64, 1600))
    assert shapes_in(prefill, LEGACY, "legacy")["past"][0] == (0, 6, 2, 1, 2, 64)
    assert shapes_in(decode, LEGACY, "legacy")["inputs_embeds"] == ((1, 1, 256), (1, 1, 256), (1, 2, 256))


def test_modern_shapes_fix_the_capacity_and_the_batch() -> None:
    profiles = profiles_of(MODERN, "modern", 1024)
    shapes = [shapes_in(profile, MODERN, "modern") for profile in profiles]
    assert all(s["past_key_0"] == ((1, 2, 1024, 64),) * 3 for s in shapes)
    assert fixed_sizes(MODERN, shapes) == {"B": 1, "C": 1024}


def test_vision_shapes() -> None:
    (profile,) = profiles_of(VISION, "modern")
    assert shapes_in(profile, VISION, "modern")["pixel_values"] == ((1, 1296, 1176), (1, 1296, 1176), (2, 1296, 1176))


@pytest.mark.parametrize("inputs", [{"strange": ("X",)}, {"rows": ("R", "S")}, {"pixel_values": ("N", "P", 1176)}])
def test_an_input_that_no_rule_describes_is_refused(inputs: dict[str, tuple[int | str, ...]]) -> None:
    with pytest.raises(BundleError, match=next(iter(inputs))):
        shapes_in(
            profiles_of(VISION, "modern")[0] if "pixel_values" in inputs else decoder_profiles("modern")[0],
            inputs,
            "modern",
        )


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(PlanError, match="--max-tokens 100"):
        decoder_profiles("legacy", 100)
