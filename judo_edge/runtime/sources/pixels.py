"""Pixels as cameras send them, to RGB. Knows the names and codes of GenICam's pixel formats and OpenCV's conversions.

Names and codes are those of the Pixel Format Naming Convention (PFNC) of the EMVA; a Bayer name gives the colours of
the first row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from judo_edge.core import Image
from judo_edge.errors import CameraError, CameraFault, ConfigError


@dataclass(frozen=True)
class PixelFormat:
    """One way to send a pixel, and OpenCV's way to RGB."""

    name: str
    code: int
    num_bytes: int
    """Bytes a pixel."""
    conversion: str
    """Name of OpenCV's conversion; empty when the pixels are RGB already."""


FORMATS = (
    PixelFormat("Mono8", 0x01080001, 1, "COLOR_GRAY2RGB"),
    PixelFormat("BayerGR8", 0x01080008, 1, "COLOR_BayerGRBG2RGB"),
    PixelFormat("BayerRG8", 0x01080009, 1, "COLOR_BayerRGGB2RGB"),
    PixelFormat("BayerGB8", 0x0108000A, 1, "COLOR_BayerGBRG2RGB"),
    PixelFormat("BayerBG8", 0x0108000B, 1, "COLOR_BayerBGGR2RGB"),
    PixelFormat("YUV422_8_UYVY", 0x0210001F, 2, "COLOR_YUV2RGB_UYVY"),
    PixelFormat("YUV422_8", 0x02100032, 2, "COLOR_YUV2RGB_YUY2"),
    PixelFormat("RGBa8", 0x02200016, 4, "COLOR_RGBA2RGB"),
    PixelFormat("RGB8", 0x02180014, 3, ""),
    PixelFormat("BGR8", 0x02180015, 3, "COLOR_BGR2RGB"),
)
_BY_NAME = {one.name: one for one in FORMATS} | {f"{one.name}Packed": one for one in FORMATS}
_BY_CODE = {one.code: one for one in FORMATS}


def format_of_name(name: str) -> PixelFormat:
    """Return the format with a PFNC name (`RGB8Packed`, the older spelling, counts too); ConfigError for any other."""
    if name in _BY_NAME:
        return _BY_NAME[name]
    raise _unknown(name)


def format_of_code(code: int) -> PixelFormat:
    """Return the format with a PFNC code; ConfigError for any other."""
    if code in _BY_CODE:
        return _BY_CODE[code]
    raise _unknown(f"0x{code:08x}")


def rgb_from_bytes(data: npt.NDArray[np.uint8], height: int, width: int, form: PixelFormat) -> Image:
    """Return a new (height, width, 3) RGB array of a frame's bytes; CameraError (incomplete) when there are too few.

    What follows the pixels, such as chunk data, is left out. `data` is not kept.
    """
    wanted = height * width * form.num_bytes
    if data.size < wanted or wanted == 0:
        raise CameraError(
            CameraFault.INCOMPLETE, f"a frame of {data.size} bytes", f"{width}x{height} {form.name}: {wanted}"
        )
    shape = (height, width) if form.num_bytes == 1 else (height, width, form.num_bytes)
    return rgb_from_array(data.reshape(-1)[:wanted].reshape(shape), form)


def rgb_from_array(pixels: npt.NDArray[np.uint8], form: PixelFormat) -> Image:
    """Return a new RGB array of (height, width) or (height, width, bytes) pixels."""
    if not form.conversion:
        return np.array(pixels, dtype=np.uint8)
    import cv2

    return np.asarray(cv2.cvtColor(pixels, getattr(cv2, form.conversion)), dtype=np.uint8)


def _unknown(name: str) -> ConfigError:
    known = ", ".join(one.name for one in FORMATS)
    return ConfigError(f"pixel format {name}", f"one of {known}", "set PixelFormat among the camera's features")
