"""The formula on numbers worked out by hand, on bundles, and held against what was published."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from judo_edge.bench.counting import PassKind
from judo_edge.bench.devices import Device, DeviceTable, device_table
from judo_edge.bench.model import (
    Cost,
    DecoderFacts,
    TowerFacts,
    bound_on,
    decoder_from_bundle,
    form_bytes,
    published_seconds,
    seconds_on,
    tower_from_bundle,
)
from judo_edge.bench.prediction import (
    held_figures,
    part_from_report,
    part_from_text,
    predicted,
    prompt_tokens_of,
)
from judo_edge.bench.report import PassFigures, report_from_rows
from judo_edge.bench.table import formula_table, prediction_table
from judo_edge.bundle import Bundle
from judo_edge.bundle.manifest import TensorDecision
from judo_edge.errors import ConfigError
from tests.unit.bench.test_bench_report import row, setting

DECODER = DecoderFacts(
    stored_bytes=1e9, layer_weights=1e9, head_weights=1e8, num_layers=10, attention_width=100, kv_bytes=1000.0
)
TOWER = TowerFacts(
    stored_bytes=4e8, block_weights=1e8, merger_weights=1e7, depth=16, hidden=1000, window_patches=64
)  # fmt: skip
DEVICE = Device(
    name="d", title="D", memory_gb=8, bandwidth_gb_s=100, float16_tflops=10, int8_tops=40, bandwidth_share=0.5,
    arithmetic_share=0.25, source="made up",
)  # fmt: skip


def test_a_decoder_pass() -> None:
    cost = DECODER.cost(new=4, wanted=2, kept=100)
    assert cost.num_bytes == 1e9 + 1000 * 104
    assert cost.operations == 2 * 1e9 * 4 + 2 * 1e8 * 2 + 4 * 10 * 100 * (4 * 100 + 1 + 2 + 3 + 4)


def test_vision_of_a_photo() -> None:
    cost = TOWER.cost(64)
    assert cost.num_bytes == 4e8
    products = 2 * 1e8 * 256 + 2 * 1e7 * 64
    assert cost.operations == products + 4 * 1000 * (2 * 256 * 256 + 14 * 256 * 64)


def test_a_pass_takes_the_longer_of_moving_and_computing() -> None:
    moving, computing = Cost(5e9, 1.0), Cost(1.0, 5e12)
    assert seconds_on(DEVICE, moving) == pytest.approx(0.1) and bound_on(DEVICE, moving) == "bandwidth"
    assert seconds_on(DEVICE, computing) == pytest.approx(2.0) and bound_on(DEVICE, computing) == "arithmetic"


def test_int8_products_run_at_int8_speed_where_it_is_known() -> None:
    assert seconds_on(DEVICE, Cost(1.0, 5e12, is_int8=True)) == pytest.approx(0.5)
    unknown = DEVICE.model_copy(update={"int8_tops": None})
    assert seconds_on(unknown, Cost(1.0, 5e12, is_int8=True)) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("form", "size"),
    [("float32", 4), ("int8-static", 1), ("int4-block128", 0.515625), ("int8-block32", 1.0625)],
)
def test_bytes_of_a_form(form: str, size: float) -> None:
    assert form_bytes(form, 2) == size


def test_a_decoder_is_read_from_its_bundle(bundle: Bundle) -> None:
    decoder, model = decoder_from_bundle(bundle), bundle.manifest.model
    assert decoder.stored_bytes == bundle.manifest.files["decoder.data"].bytes
    assert decoder.layer_weights == 2 * (2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 8)
    assert decoder.head_weights == 8 * model.vocab_size and decoder.kv_bytes == 2 * 2 * 4 * 4
    assert not decoder.is_int8


def with_forms(bundle: Bundle, forms: dict[str, str], dtype: str) -> Bundle:
    decisions = {name: TensorDecision(form=form, dtype="bfloat16") for name, form in forms.items()}
    update = {"decisions": decisions, "dtype": dtype}
    return Bundle(bundle.folder, bundle.manifest.model_copy(update=update), bundle.digest)


def test_forms_decide_width_of_keys_kind_of_products_and_weights_of_the_tower(bundle: Bundle) -> None:
    forms = {"model.layers.0.mlp.up_proj.weight": "int8-static", "visual.blocks.0.mlp.up_proj.weight": "int8-channel"}
    forms |= {f"visual.blocks.0.norm{i}.weight": "float16" for i in (1, 2)}
    changed = with_forms(bundle, forms, "float16")
    assert decoder_from_bundle(changed).is_int8 and decoder_from_bundle(changed).kv_bytes == 2 * 2 * 4 * 2
    plain, small = tower_from_bundle(with_forms(bundle, {}, "float16")), tower_from_bundle(changed)
    assert small.block_weights + small.merger_weights == 2 * (plain.block_weights + plain.merger_weights)
    assert plain.merger_weights == 32 * 32 + 32 * 8 and plain.window_patches == 64


def test_published_figures_are_all_computed_and_the_fitted_ones_fit() -> None:
    table = device_table()
    held = held_figures(table)
    assert len(held) == len(table.published) and all(math.isfinite(one.error) for one in held)
    fitted = [one for one in held if one.is_fitted]
    assert len(fitted) == 2 and all(abs(one.error) < 0.01 for one in fitted)
    decode = next(f for f in table.published if f.model == "qwen2.5-3b" and f.weights == "int8-channel")
    layer = 2 * 2048 * 2048 + 2 * 2048 * 256 + 3 * 2048 * 11008
    moved = 36 * layer + 2 * 2048 * 151936 + 2 * 36 * 256 * 2
    assert published_seconds(table, decode) == pytest.approx(moved / (204.8e9 * 0.75))


def test_orin_agx_is_predicted_within_an_eighth_where_nothing_was_fitted() -> None:
    errors = [one.error for one in held_figures(device_table()) if one.device == "agx-orin-64" and not one.is_fitted]
    assert len(errors) == 5 and max(map(abs, errors)) < 0.125


def test_assumptions_become_passes() -> None:
    part = part_from_text("vision=1, prefill=886+60,verify=32x1.5,decode=0,tokens=80")
    prefill, verify = part.passes
    assert (prefill.kind, prefill.count, prefill.new, prefill.wanted) == (PassKind.PREFILL, 1, 946, 61)
    assert (verify.kind, verify.count, verify.new, verify.kept) == (PassKind.VERIFY, 1.5, 32, 946)
    assert (part.num_images, part.prompt_tokens, part.tokens) == (1, 886, 80)


@pytest.mark.parametrize(
    "text", ["", "prefill", "prefill=8x2", "verify=3+2,prefill=5", "prefill=5,prefill=6", "passes=2", "prefill=-3"]
)
def test_unclear_assumptions_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"assumption .*wanted: entries as in vision=1,prefill=886\+60"):
        part_from_text(text)


def test_assumptions_need_the_prompt() -> None:
    with pytest.raises(ConfigError, match=r"assumptions without prefill.*do: add prefill=PROMPT\+DRAFT"):
        part_from_text("decode=3")


def test_a_prediction_adds_up_and_says_what_it_is(bundle: Bundle) -> None:
    part = part_from_text("vision=2,prefill=100+20,decode=10,tokens=31")
    found = predicted(bundle, DEVICE, device_table(), part, "assumed")
    tower, decoder = tower_from_bundle(bundle), decoder_from_bundle(bundle)
    vision, prefill = 2 * seconds_on(DEVICE, tower.cost(4)), seconds_on(DEVICE, decoder.cost(120, 21, 0))
    decode = 10 * seconds_on(DEVICE, decoder.cost(1, 1, 120))
    assert found.predicted and found.total_ms == pytest.approx(1e3 * (vision + prefill + decode))
    plain = vision + seconds_on(DEVICE, decoder.cost(100, 1, 0)) + 30 * seconds_on(DEVICE, decoder.cost(1, 1, 115.5))
    assert found.greedy_ms == pytest.approx(1e3 * plain) and found.passes_per_part == 11
    rows = {line[0]: line for line in prediction_table(found)[1]}
    assert list(rows) == ["vision", "prefill", "decode", "total", "without drafts"]
    errors = [line[-1] for line in formula_table(found)[1]]
    assert errors.count("fitted") == 2 and "-11 %" in errors


def test_without_the_length_of_the_reply_there_is_no_plain_greedy(bundle: Bundle) -> None:
    found = predicted(bundle, DEVICE, device_table(), part_from_text("prefill=9+1"), "assumed")
    assert found.greedy_ms is None and prediction_table(found)[1][-1][-1] == "-"


def test_measured_passes_are_taken_as_they_are_or_moved_to_another_prompt(bundle: Bundle) -> None:
    passes = {
        "prefill": PassFigures(per_part=1, rows=200, wanted=60, kept=0),
        "decode": PassFigures(per_part=2, rows=1, wanted=1, kept=200),
    }
    own = row(digest=bundle.digest, passes=passes, prompt_tokens=150)
    part, origin = part_from_report(report_from_rows(setting(), (row("other"), own)), bundle)
    assert [one.new for one in part.passes] == [200, 1] and "measured on this bundle" in origin
    other = row("nano", passes=passes, prompt_tokens=150)
    part, origin = part_from_report(report_from_rows(setting(), (other,)), bundle)
    more = prompt_tokens_of(bundle) - 150
    assert part.passes[0].new == 200 + more and part.passes[1].kept == 200 + more and part.passes[1].new == 1
    assert part.prompt_tokens == prompt_tokens_of(bundle) and "measured on nano" in origin and "moved" in origin


def test_an_unknown_device_lists_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"device 'tpu'; wanted: one of agx-orin-64, .*; do: choose a device"):
        device_table().named("tpu")


def test_an_own_table_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "devices.toml"
    lines = [f"{key} = {value!r}" for key, value in DEVICE.model_dump().items()]
    path.write_text("\n".join(["[[device]]", *lines]))
    assert device_table(path) == DeviceTable(device=(DEVICE,))
    path.write_text("\n".join(["[[device]]", *lines, "speed = 3"]))
    with pytest.raises(ConfigError, match=r"unknown key 'device\.0\.speed'"):
        device_table(path)
