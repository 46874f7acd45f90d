from __future__ import annotations

import numpy as np
import pytest

from judo_edge.core import Image
from judo_edge.errors import CameraError, CameraFault, ConfigError
from judo_edge.runtime.sources.pixels import FORMATS, format_of_code, format_of_name, rgb_from_bytes

RED, GREEN, BLUE = (200, 30, 60), (20, 180, 40), (10, 50, 220)
BAYER = {"BayerRG8": "RGGB", "BayerGR8": "GRBG", "BayerGB8": "GBRG", "BayerBG8": "BGGR"}


def _mosaic(colour: tuple[int, int, int], pattern: str) -> np.ndarray:
    """Return what a sensor of one pattern (two rows of two colours) sees of one colour."""
    cell = np.array(["RGB".index(letter) for letter in pattern]).reshape(2, 2)
    return np.array(colour, np.uint8)[np.tile(cell, (8, 8))]


def _rgb(name: str, data: np.ndarray, height: int = 16, width: int = 16) -> Image:
    return rgb_from_bytes(data.reshape(-1), height, width, format_of_name(name))


@pytest.mark.parametrize("colour", [RED, GREEN, BLUE])
@pytest.mark.parametrize("name", BAYER)
def test_a_bayer_name_gives_the_colours_of_its_first_row(name: str, colour: tuple[int, int, int]) -> None:
    image = _rgb(name, _mosaic(colour, BAYER[name]))
    assert image[8, 8].tolist() == list(colour)


def test_colours_and_grey_keep_their_places() -> None:
    assert _rgb("RGB8", np.array(RED, np.uint8), 1, 1).tolist() == [[list(RED)]]
    assert _rgb("BGR8", np.array(RED[::-1], np.uint8), 1, 1).tolist() == [[list(RED)]]
    assert _rgb("RGBa8", np.array([*RED, 255], np.uint8), 1, 1).tolist() == [[list(RED)]]
    assert _rgb("Mono8", np.array([7], np.uint8), 1, 1).tolist() == [[[7, 7, 7]]]
    assert _rgb("RGB8Packed", np.array(BLUE, np.uint8), 1, 1).tolist() == [[list(BLUE)]]


@pytest.mark.parametrize(("name", "order"), [("YUV422_8", "YUYV"), ("YUV422_8_UYVY", "UYVY")])
def test_yuv_orders_differ(name: str, order: str) -> None:
    values = {"Y": 81, "U": 90, "V": 240}  # red in BT.601
    red = _rgb(name, np.array([values[letter] for letter in order], np.uint8), 1, 2)[0, 0]
    assert red[0] > 200
    assert max(red[1], red[2]) < 40


def test_a_frame_is_a_copy_and_what_follows_it_is_left_out() -> None:
    data = np.arange(40, dtype=np.uint8)
    image = rgb_from_bytes(data, 2, 6, format_of_name("RGB8"))
    data[:] = 0
    assert image.reshape(-1).tolist() == list(range(36))


@pytest.mark.parametrize("size", [0, 11])
def test_too_few_bytes_are_incomplete(size: int) -> None:
    with pytest.raises(CameraError) as caught:
        rgb_from_bytes(np.zeros(size, np.uint8), 2, 2, format_of_name("RGB8"))
    assert caught.value.fault is CameraFault.INCOMPLETE


def test_names_and_codes_agree_with_the_bits_that_the_convention_puts_in_a_code() -> None:
    for one in FORMATS:
        assert format_of_code(one.code) is format_of_name(one.name) is one
        assert (one.code >> 16) & 0xFF == one.num_bytes * 8
    for unknown in (lambda: format_of_name("Mono12p"), lambda: format_of_code(0x010C0047)):
        with pytest.raises(ConfigError, match="Mono8"):
            unknown()
