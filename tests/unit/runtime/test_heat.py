"""The heat map: clear where a part is like good ones, hot elsewhere, and in its place after an alignment."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
from PIL import Image as PillowImage

from judo_edge.core import CellMask
from judo_edge.runtime.align import Alignment
from judo_edge.runtime.heat import heat_from_inspection, png_from_heat
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.outputs import RunOutput
from judo_edge.runtime.partfeatures import FeatureMap
from tests.unit.runtime.test_outputs import FACTS, frame, reference, verdict


def spot(row, col, value=9.0, side=20):
    """A map of 0.5, as of good parts, with one hot place."""
    values = np.full((side, side), 0.5, np.float32)
    values[row, col] = value
    return FeatureMap(values)


def inspected(features, alignment=None):
    return replace(Inspection(verdict(), reference()), features=features, alignment=alignment)


def picture(png):
    return np.asarray(PillowImage.open(io.BytesIO(png)).convert("RGBA"))


def hottest(heat):
    row, col = np.unravel_index(np.argmax(heat), heat.shape)
    return (row + 0.5) / heat.shape[0], (col + 0.5) / heat.shape[1]


def test_the_hot_place_is_where_it_is_in_the_photo():
    heat = heat_from_inspection(inspected(spot(4, 15)), 300, 600)
    assert heat.shape == (80, 160)
    np.testing.assert_allclose(hottest(heat), (4.5 / 20, 15.5 / 20), atol=0.02)


def test_good_places_are_clear_and_bad_ones_red():
    drawn = picture(png_from_heat(heat_from_inspection(inspected(spot(4, 15)), 400, 400)))
    assert drawn[120:, :, 3].max() == 0
    red, green, blue, opacity = drawn[36, 124]
    assert red > 200 and green < 60 and blue < 60 and opacity > 150


def test_an_aligned_frame_shows_its_heat_where_it_lies_in_the_frame():
    matrix = np.array([[1, 0, 60.0], [0, 1, -40.0]])  # place in the frame = place in the aligned photo + (60, -40)
    aligned = Alignment(np.zeros((400, 400, 3), np.uint8), matrix=matrix)
    heat = heat_from_inspection(inspected(spot(8, 8), aligned), 400, 400)
    np.testing.assert_allclose(hottest(heat), ((170 - 40) / 400, (170 + 60) / 400), atol=0.02)


def test_without_features_there_is_none():
    assert heat_from_inspection(Inspection(verdict()), 10, 10) is None


def test_the_report_holds_the_heat_and_the_mask_where_the_part_lay(tmp_path):
    matrix = np.array([[1, 0, 8.0], [0, 1, 0.0]])
    shown = frame()
    aligned = Alignment(shown.image, matrix=matrix)
    looked = inspected(spot(4, 15), aligned)
    with RunOutput(tmp_path / "out", FACTS) as output:
        output.add(shown, looked)
    page = (tmp_path / "out" / "report.html").read_text()
    (data,) = re.findall(r'<img alt="" src="data:image/png;base64,([^"]+)"', page)
    assert picture(base64.b64decode(data))[..., 3].max() > 0
    marked = looked.marked
    assert isinstance(marked, CellMask) and marked != looked.verdict.reply.mask
    assert f"{len(marked)} of" in page
