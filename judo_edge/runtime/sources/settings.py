"""What a station's file says of a camera. Knows no camera."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from judo_edge.config import Frozen


class FolderCamera(Frozen):
    """Photos that appear in a folder."""

    kind: Literal["folder"]
    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9_-]+$")]
    folder: str
    trigger: Literal["software", "hardware", "free-run"] = "hardware"


CameraSettings = FolderCamera
