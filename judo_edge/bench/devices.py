"""The table of devices, and published figures to hold the formula of `model` against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from judo_edge.config import Frozen, model_from_toml
from judo_edge.errors import ConfigError

SHIPPED = Path(__file__).with_name("devices.toml")
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
_EntryT = TypeVar("_EntryT")
Count = Annotated[int, Field(gt=0)]


class Device(Frozen):
    """One device."""

    name: str
    title: str
    memory_gb: Positive
    bandwidth_gb_s: Positive
    """10^9 bytes a second."""
    float16_tflops: Positive
    """10^12 operations a second, dense."""
    int8_tops: Positive | None = None
    """None where nobody says; int8 activations are then counted as float16."""
    bandwidth_share: Share
    """Part of the bandwidth that is reached."""
    arithmetic_share: Share
    """Part of the arithmetic that is reached."""
    source: str


class DecoderShape(Frozen):
    """Shape of a language model."""

    name: str
    hidden: Count
    layers: Count
    heads: Count
    kv_heads: Count
    head_dim: Count
    intermediate: Count
    vocabulary: Count


class TowerShape(Frozen):
    """Shape of a vision tower."""

    name: str
    hidden: Count
    depth: Count
    intermediate: Count
    merged: Count
    """Width of the rows that it makes: the decoder's."""
    window_patches: Count


class Published(Frozen):
    """A figure that somebody published."""

    what: str
    device: str
    model: str
    weights: str
    """Form of the linear layers, as in a bundle's manifest; the LM head and scales are float16."""
    rows: Count
    """New positions of a pass, or merged tokens of a photo."""
    milliseconds: Positive
    fits: Literal["", "bandwidth_share", "arithmetic_share"] = ""
    """The share that was fitted on this figure: it says nothing about how good the formula is."""
    source: str


class DeviceTable(Frozen):
    """The whole file."""

    device: tuple[Device, ...]
    published: tuple[Published, ...] = ()
    decoder: tuple[DecoderShape, ...] = ()
    tower: tuple[TowerShape, ...] = ()

    def named(self, name: str) -> Device:
        """Return a device; ConfigError lists the choices."""
        return _chosen({device.name: device for device in self.device}, name, "device")

    def shape(self, name: str) -> DecoderShape | TowerShape:
        """Return a model's shape; ConfigError lists the choices."""
        shapes: list[DecoderShape | TowerShape] = [*self.decoder, *self.tower]
        return _chosen({shape.name: shape for shape in shapes}, name, "shape")


def device_table(path: Path | None = None) -> DeviceTable:
    """Read a table, the shipped one if none is given; ConfigError names the key at fault."""
    return model_from_toml(DeviceTable, path or SHIPPED)


def _chosen(entries: Mapping[str, _EntryT], name: str, kind: str) -> _EntryT:
    if name not in entries:
        raise ConfigError(f"{kind} {name!r}", f"one of {', '.join(entries)}", f"choose a {kind} from the list")
    return entries[name]
