"""Fitting a cell probe: drawn defects are what their masks say, the regression is exact, unseen defects are found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `adapt` (torch)")
pytest.importorskip("transformers", reason="needs the extra `adapt` (transformers)")

from PIL import Image
from safetensors import safe_open
from torch.nn import functional as F

from judo_edge.adapt.drawing.defects import VISIBLE, with_defect
from judo_edge.adapt.drawing.pairs import _photo
from judo_edge.adapt.drawing.parts import DRAWERS, SIZE
from judo_edge.adapt.probe.fit import ProbeFit, fit_probe, taps_of
from judo_edge.adapt.probe.logistic import regression
from judo_edge.adapt.probe.pairs import Settings, drawn_pairs, photos_from_paths
from judo_edge.calibration.run import CalibrationProgress
from judo_edge.cli import main
from judo_edge.cli.calibrating import subject_from_checkpoint
from judo_edge.errors import InputError, OutputError
from judo_edge.export.checkpoint import open_checkpoint
from judo_edge.export.graphs.fake import config_from
from judo_edge.export.probe import check_source, open_probe
from judo_edge.shipped import _assets
from tests.checkpoints import complete_checkpoint

NANO = _assets() / "judo-nano"
SMALL = Settings(pairs=48, taps=(3,), tokens=4000)
BOUND = 0.8
"""Cell AUROC on held-out photos: above what random weights reach, below what JUDO-nano does."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good photos of one drawn part."""
    folder, rng = tmp_path_factory.mktemp("good"), np.random.default_rng(4)
    scene = DRAWERS["machined"](rng)
    for number in range(12):
        image, _ = _photo(rng, scene, scene.painted(scene.features), np.zeros((SIZE, SIZE), np.bool_))
        Image.fromarray(image).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ProbeFit]:
    out = tmp_path_factory.mktemp("fit") / "probe.safetensors"
    return out, fit_probe(subject_from_checkpoint(str(NANO), [], None), photos_from_paths([photos]), out, SMALL)


@pytest.mark.parametrize("shape", [(224, 224, 3), (97, 310, 3), (33, 40, 3)])
def test_a_defect_is_where_its_mask_says(shape: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(1)
    photo = rng.integers(90, 110, shape, np.uint8)
    for _ in range(20):
        drawn = with_defect(rng, photo, rng.integers(0, 255, (64, 64, 3), np.uint8))
        changed = np.abs(drawn.image.astype(int) - photo).max(axis=2)
        assert drawn.image.shape == shape and drawn.mask.any()
        assert np.array_equal(drawn.mask, changed >= VISIBLE)
        assert drawn.mask.mean() < 0.3


def test_the_regression_is_where_the_gradient_vanishes() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, 6, generator=generator) * torch.tensor([1, 5, 0.1, 1, 1, 1]) + 3
    labels = (features[:, :1] - 3 + torch.randn(400, 2, generator=generator) > 0.5).float()
    counts = torch.randint(1, 9, (400,), generator=generator).float()
    fit, deviation = regression(features.clone(), labels, counts, 0.01), features.std(0, unbiased=False)
    share, error = counts / counts.sum(), torch.sigmoid(fit.logits(features)) - labels
    mean = (features * share[:, None]).sum(0)
    deviation = ((features - mean).square() * share[:, None]).sum(0).sqrt()
    gradient = (error * share[:, None]).T @ ((features - mean) / deviation) + 0.01 * fit.weight * deviation
    assert gradient.abs().max() < 1e-3 and ((error * share[:, None]).sum(0)).abs().max() < 1e-3
    assert F.binary_cross_entropy_with_logits(fit.logits(features), labels) < 0.6


def test_no_photo_is_on_both_sides(photos: Path) -> None:
    drawn = drawn_pairs(photos_from_paths([photos]), SMALL)
    used = {
        held: {
            photo.sha256
            for p in drawn.pairs
            if p.held_out is held
            for photo in (p.query.base, p.query.other, p.reference)
        }
        for held in (True, False)
    }
    assert (len(used[True]), len(used[False])) == (3, 9) and not used[True] & used[False]
    assert all(pair.query.base.sha256 != pair.reference.sha256 for pair in drawn.pairs)
    assert {pair.query.has_defect for pair in drawn.pairs if pair.held_out} == {True, False}


def test_the_truth_is_in_the_order_of_tokens(photos: Path) -> None:
    pair = next(p for p in drawn_pairs(photos_from_paths([photos]), SMALL).pairs if p.query.has_defect)
    truth, mask = pair.truth(8, 2), pair.query.drawn().mask
    token = int(np.flatnonzero(truth.any(axis=1))[0])
    row, col = divmod(token, 8)
    block = mask[row * 28 : row * 28 + 28, col * 28 : col * 28 + 28]
    share = block.reshape(2, 14, 2, 14).mean(axis=(1, 3))
    assert np.array_equal(truth[token].reshape(2, 2), share >= 0.02)


def test_unseen_defects_are_found(fitted: tuple[Path, ProbeFit]) -> None:
    _, fit = fitted
    assert (fit.photos, fit.pairs, fit.held_out) == (12, 48, 12)
    assert fit.best.tap == 3 and fit.best.cell_auroc > BOUND


def test_random_weights_do_not_find_them(photos: Path, tmp_path: Path) -> None:
    folder = complete_checkpoint(tmp_path / "random", 224, layers=3, hidden_size=64, mrope_section=(2, 3, 3))
    subject = subject_from_checkpoint(str(folder), [], None)
    fit = fit_probe(subject, photos_from_paths([photos]), tmp_path / "probe.safetensors", SMALL)
    assert fit.best.cell_auroc < BOUND - 0.05


def test_the_file_fits_its_checkpoint_and_says_where_it_comes_from(fitted: tuple[Path, ProbeFit]) -> None:
    out, fit = fitted
    checkpoint = open_checkpoint(NANO)
    probe = open_probe(out, config_from(checkpoint.config).text_config)
    check_source(probe, checkpoint, [])
    assert (probe.form.tap, probe.form.values) == (3, 4)
    with safe_open(out, framework="numpy") as file:
        metadata = file.metadata()
    assert metadata["checkpoint_sha256"] == checkpoint.digest() and metadata["adapters_sha256"] == ""
    assert (metadata["photos"], metadata["pairs"]) == ("12", "48")
    assert float(metadata["cell_auroc"]) == pytest.approx(fit.best.cell_auroc, abs=1e-4)


def test_an_interrupted_fit_goes_on_to_the_same_bytes(
    fitted: tuple[Path, ProbeFit], photos: Path, tmp_path: Path
) -> None:
    def stop(state: CalibrationProgress) -> None:
        if state.step == "model.layers.1":
            raise KeyboardInterrupt

    subject, out = subject_from_checkpoint(str(NANO), [], None), tmp_path / "probe.safetensors"
    chosen = photos_from_paths([photos])
    with pytest.raises(KeyboardInterrupt):
        fit_probe(subject, chosen, out, SMALL, progress=stop)
    assert not out.exists() and (tmp_path / "probe.safetensors.partial").is_dir()
    seen: list[CalibrationProgress] = []
    fit_probe(subject, chosen, out, SMALL, progress=seen.append)
    assert out.read_bytes() == fitted[0].read_bytes()
    assert seen[0].step == "finished before" and "photos" not in {state.step for state in seen}
    assert [path.name for path in tmp_path.iterdir()] == ["probe.safetensors"]
    with pytest.raises(OutputError, match=r"exists already.*--force"):
        fit_probe(subject, chosen, out, SMALL)


def test_too_few_photos_and_unknown_taps_are_refused(photos: Path, tmp_path: Path) -> None:
    some = sorted(photos.iterdir())[:7]
    with pytest.raises(InputError, match="7 different good photos; wanted: at least 8"):
        photos_from_paths([*some, some[0]])
    with pytest.raises(InputError, match="tap 7; wanted: 1 to 6"):
        taps_of(6, (3, 7))
    assert taps_of(28, ()) == (7, 10, 14, 18, 21) and taps_of(2, ()) == (1, 2)


def test_the_command_refuses_in_one_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "probe.safetensors")
    assert main(["fit-probe", "judo-nano", "--images", str(photos), "--out", out, "--taps", "3,x"]) == 2
    assert main(["fit-probe", "judo-nano", "--images", str(photos / "00.png"), "--out", out]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("judo-edge: --taps '3,x'") and "1 different good photos" in lines[1]
