"""Scales: the function they keep, the errors they lower where outliers are planted, and where ones stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from judo_edge.calibration import rounding, search, weights
from judo_edge.calibration.file import ERROR_FORMS, ErrorForm, Settings
from judo_edge.calibration.observe import group_result
from judo_edge.calibration.rounding import InputScales, int4_block, int8_channel, product, static_int8, static_scale
from judo_edge.calibration.search import chosen_scales, column_maxima, relative, smooth_vector, squared_errors
from judo_edge.calibration.statistics import InputStatistics, Record
from judo_edge.calibration.tokens import KIND
from judo_edge.calibration.weights import LoadedMatrix

WIDTH, OUT = 256, 48
KINDS = np.array([KIND["query"], KIND["mask"]] * 100, np.int8)


def seen_rows(rows: Tensor, held: Tensor | None = None) -> InputStatistics:
    statistics = InputStatistics(rows.shape[1])
    every = np.arange(len(rows))
    statistics.see(rows, Record(KINDS[: len(rows)], False, every))
    statistics.see(rows if held is None else held, Record(KINDS[: len(rows)], True, every))
    return statistics


def planted(seed: int, scale: float = 60.0, channels: int = 3) -> Tensor:
    """Return inputs (200, WIDTH) of which a few channels are much larger than the rest, as in large models."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(200, WIDTH, generator=generator)
    rows[:, 7 : 7 + channels] *= scale
    return rows


@pytest.fixture
def matrix() -> LoadedMatrix:
    return LoadedMatrix(torch.randn(OUT, WIDTH, generator=torch.Generator().manual_seed(9)) * 0.05)


def error(form: ErrorForm, matrix: LoadedMatrix, rows: Tensor, scales: InputScales) -> float:
    totals = squared_errors(form, matrix, rows, [scales])
    return relative(totals[0], totals[1])


def smoothed(matrix: LoadedMatrix, rows: Tensor, alpha: float | None) -> InputScales:
    ranges = rows.abs().amax(dim=0)
    ones = torch.ones(WIDTH)
    vector = ones if alpha is None else smooth_vector(ranges, column_maxima([matrix]), alpha)
    return InputScales(vector, static_scale(ranges / vector), ones)


def test_chosen_smoothing_beats_alpha_one_half_and_none_on_planted_outliers(matrix: LoadedMatrix) -> None:
    rows, held = planted(0), planted(1)
    chosen = chosen_scales([matrix], seen_rows(rows, held), Settings())
    assert chosen.alpha is not None
    found, half, none = (
        error("int8-static", matrix, held, scales)
        for scales in (chosen.scales, smoothed(matrix, rows, 0.5), smoothed(matrix, rows, None))
    )
    assert found <= half < none and found < 0.25 * none, (found, half, none)


def test_chosen_awq_beats_plain_rounding_on_planted_outliers(matrix: LoadedMatrix) -> None:
    rows, held = planted(0), planted(1)
    chosen = chosen_scales([matrix], seen_rows(rows, held), Settings())
    plain = InputScales(torch.ones(WIDTH), 1.0, torch.ones(WIDTH))
    found, ones = error("int4-block", matrix, held, chosen.scales), error("int4-block", matrix, held, plain)
    assert chosen.awq_power is not None and found < 0.7 * ones, (found, ones)


def test_ones_stay_where_no_scale_helps() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randint(0, 2, (200, WIDTH), generator=generator).float() * 2 - 1  # every channel alike
    flat = LoadedMatrix(torch.randint(0, 2, (OUT, WIDTH), generator=generator).float() * 2 - 1)
    chosen = chosen_scales([flat], seen_rows(rows), Settings())
    assert chosen.alpha is None and chosen.awq_power is None
    assert (chosen.scales.smooth == 1).all() and (chosen.scales.awq == 1).all()


def test_a_group_is_judged_by_all_its_matrices(matrix: LoadedMatrix) -> None:
    other = LoadedMatrix(
        torch.randn(OUT, WIDTH, generator=torch.Generator().manual_seed(4)) * torch.linspace(0, 3, WIDTH)
    )
    statistics = seen_rows(planted(0))
    both = chosen_scales([matrix, other], statistics, Settings())
    assert torch.equal(column_maxima([matrix, other]), torch.maximum(column_maxima([matrix]), column_maxima([other])))
    assert not torch.equal(both.scales.smooth, chosen_scales([matrix], statistics, Settings()).scales.smooth)


@pytest.mark.parametrize("alpha", [0.4, 0.7, 0.95])
def test_smoothing_keeps_the_float_function(matrix: LoadedMatrix, alpha: float) -> None:
    rows, weight = planted(0), matrix.rows(0, OUT)
    vector = smooth_vector(rows.abs().amax(dim=0), column_maxima([matrix]), alpha)
    assert float(vector.max() / vector.min()) > 5
    torch.testing.assert_close((rows / vector) @ (weight * vector).T, rows @ weight.T, atol=1e-4, rtol=1e-4)


def test_vectors_leave_channels_alone_that_are_always_zero(matrix: LoadedMatrix) -> None:
    rows = planted(0)
    rows[:, 20:40] = 0
    chosen = chosen_scales([matrix], seen_rows(rows), Settings())
    assert (chosen.scales.smooth[20:40] == 1).all() and (chosen.scales.awq[20:40] == 1).all()
    dead = chosen_scales([matrix], seen_rows(torch.zeros(200, WIDTH)), Settings())
    assert dead.scales.input_scale > 0 and torch.isfinite(dead.scales.smooth).all()


def test_vectors_stay_within_float16(matrix: LoadedMatrix) -> None:
    ranges = torch.logspace(-30, 5, WIDTH)
    vector = smooth_vector(ranges, column_maxima([matrix]), 0.95)
    assert float(vector.min()) >= 1 / 1024 and float(vector.max()) <= 1024


def test_errors_of_a_form_do_not_depend_on_the_chunks(matrix: LoadedMatrix, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = planted(0)
    scales = smoothed(matrix, rows, 0.6)
    whole = {form: error(form, matrix, rows, scales) for form in ERROR_FORMS}
    monkeypatch.setattr(weights, "CHUNK_BYTES", 5 * 4 * WIDTH)
    assert len(weights.chunks_of(matrix)) == 10
    for form in ERROR_FORMS:
        assert error(form, matrix, rows, scales) == pytest.approx(whole[form], rel=1e-6)


def test_errors_by_kind_of_token_are_told_apart(matrix: LoadedMatrix) -> None:
    rows = planted(0)
    held = planted(1)
    held[np.isin(KINDS, KIND["mask"])] *= 8  # beyond the range of static int8
    statistics = InputStatistics(WIDTH)
    statistics.see(rows, Record(KINDS, False, np.arange(200)))
    statistics.see(rows, Record(KINDS, True, np.arange(0)))
    statistics._rows[True], statistics._row_kinds[True] = [held], [KINDS]
    entry = group_result({"w": matrix}, statistics, Settings()).entries[0]
    assert entry.errors_text["int8-static"] > 10 * entry.errors_visual["int8-static"]
    assert entry.errors_visual["int8-static"] < entry.errors["int8-static"]


def test_unseen_range_tells_that_held_out_samples_need_more(matrix: LoadedMatrix) -> None:
    statistics = seen_rows(planted(0), planted(0) * 1.5)
    entry = group_result({"w": matrix}, statistics, Settings()).entries[0]
    assert entry.unseen_range == pytest.approx(1.5, rel=1e-5)


def test_forms_round_as_they_say() -> None:
    rows = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.0, 0.0, 0.0, 0.0]])
    step = 2.0 / 127
    expected = torch.tensor([[round(v / step) * step for v in (1.0, -2.0, 0.5, 0.0)], [0.0] * 4])
    torch.testing.assert_close(int8_channel(rows), expected)
    wide = torch.zeros(1, 200)
    wide[0, 0], wide[0, 1], wide[0, 150] = 7.0, 2.4, 70.0
    rounded = int4_block(wide)
    assert rounded.shape == (1, 200) and rounded[0, :2].tolist() == [7.0, 2.0] and rounded[0, 150] == 70.0
    assert static_int8(torch.tensor([5.0, -500.0, 500.0]), 2.0).tolist() == [4.0, -256.0, 254.0]


def test_simulated_forms_equal_those_that_export_stores(matrix: LoadedMatrix) -> None:
    quantize = pytest.importorskip("judo_edge.export.quantize", reason="needs the export room")
    rows = matrix.rows(0, OUT)
    for simulated, grid in ((int8_channel, quantize.Grid(8)), (int4_block, quantize.Grid(4, rounding.INT4_BLOCK))):
        codes, scales = quantize.quantized(rows.numpy(), grid)
        np.testing.assert_allclose(simulated(rows).numpy(), quantize.rows_from_codes(codes, scales, grid), atol=1e-6)


def test_product_applies_the_vectors_on_both_sides(matrix: LoadedMatrix) -> None:
    rows, weight = planted(0), matrix.rows(0, OUT)
    vector = torch.linspace(0.5, 2, WIDTH)
    scales = InputScales(vector, static_scale(rows.abs().amax(dim=0) / vector), vector)
    exact = rows @ weight.T
    for form in ERROR_FORMS:
        difference = float((product(form, rows, weight, scales) - exact).norm() / exact.norm())
        assert difference < 0.25, (form, difference)
        if form != "int8-channel":  # a vector on one side only is another function
            wrong = float((product(form, rows * vector, weight, scales) - exact).norm() / exact.norm())
            assert wrong > 0.4, (form, wrong)


def test_means_weigh_both_kinds_of_token_alike() -> None:
    statistics = InputStatistics(2)
    statistics.see(torch.full((9, 2), 4.0), Record(np.full(9, KIND["query"], np.int8), False, np.arange(0)))
    statistics.see(torch.full((1, 2), 2.0), Record(np.full(1, KIND["prose"], np.int8), False, np.arange(0)))
    assert statistics.mean_magnitude.tolist() == [3.0, 3.0]


def test_search_has_a_floor_for_gains(matrix: LoadedMatrix) -> None:
    statistics = seen_rows(planted(0, scale=1.0))
    assert chosen_scales([matrix], statistics, Settings(min_gain=0.9)).alpha is None
    assert search._REACH == 1024.0
