"""The errors of judo-edge. Each says what was found, what was wanted and what to do.

JudoEdgeError                 anything a user can act on; the CLI prints it on one line and exits with `exit_code`
├── InputError                a file, an image or an argument is not what it should be
│   ├── ImageError            a photo cannot be decoded
│   └── ItemsError            a labelled set (items.csv) cannot be used
├── ConfigError               a TOML or JSON setting is unknown, missing or out of range
├── CheckpointError           a model checkpoint is incomplete or of another shape
│   └── AdapterError          a LoRA adapter does not fit its base
├── BundleError               a bundle is incomplete, of another version, or was changed after export
├── OutputError               an output cannot be written (exists, disk full, no permission)
├── DependencyError           an optional part is not installed; names the extra that brings it
├── StationError              a station refuses what it is asked for in its state; carries a number for PLCs
├── CameraError               a camera gives no frame that may be judged; its `fault` says which kind
└── EngineError               an engine cannot be opened or fails at run time
    └── PlanError             a TensorRT plan cannot be built, or is not one that this machine made for itself
"""

from __future__ import annotations

from enum import Enum


class JudoEdgeError(Exception):
    """Base of every error that a user can act on."""

    exit_code = 2

    def __init__(self, found: str, wanted: str = "", action: str = "") -> None:
        """Store the three parts; `str()` joins those that are given on one line."""
        self.found, self.wanted, self.action = found, wanted, action
        parts = [found, f"wanted: {wanted}" if wanted else "", f"do: {action}" if action else ""]
        super().__init__("; ".join(" ".join(part.split()) for part in parts if part))


class InputError(JudoEdgeError):
    """A file, an image or an argument is not what it should be."""


class ImageError(InputError):
    """A photo cannot be decoded."""


class ItemsError(InputError):
    """A labelled set cannot be used."""


class ConfigError(JudoEdgeError):
    """A setting is unknown, missing or out of range."""


class CheckpointError(JudoEdgeError):
    """A model checkpoint is incomplete or of another shape."""


class AdapterError(CheckpointError):
    """A LoRA adapter does not fit its base."""


class BundleError(JudoEdgeError):
    """A bundle is incomplete, of another version, or was changed after export."""


class OutputError(JudoEdgeError):
    """An output cannot be written."""


class DependencyError(JudoEdgeError):
    """An optional part is not installed."""


class StationError(JudoEdgeError):
    """A station refuses what it is asked for in its state."""

    def __init__(self, found: str, wanted: str = "", action: str = "", number: int = -1) -> None:
        """Store the parts; `number` is what OPC UA methods return: negative, as OPC 40100-1 leaves to applications."""
        super().__init__(found, wanted, action)
        self.number = number


class CameraFault(str, Enum):
    """Why a source gave no frame that may be judged."""

    UNPLUGGED = "unplugged"
    """The device, stream or folder is gone."""
    TIMEOUT = "timeout"
    """No frame came in time; the device may still be there."""
    FROZEN = "frozen"
    """The same pixels came again and again: a driver that repeats its last frame."""
    STALE = "stale"
    """The frame was captured before it was asked for."""
    INCOMPLETE = "incomplete"
    """Part of the frame was lost on its way."""
    UNREADABLE = "unreadable"
    """A frame came whose pixels cannot be read."""


class CameraError(JudoEdgeError):
    """A camera gives no frame that may be judged.

    `part_id` and `path` name the part and the file where the source knows them: that part still gets its verdict.
    """

    def __init__(
        self, fault: CameraFault, found: str, wanted: str = "", action: str = "", part_id: str = "", path: str = ""
    ) -> None:
        """Store the fault beside the three parts of every error."""
        super().__init__(found, wanted, action)
        self.fault, self.part_id, self.path = fault, part_id, path


class EngineError(JudoEdgeError):
    """An engine cannot be opened or fails at run time."""


class PlanError(EngineError):
    """A TensorRT plan cannot be built, or is not one that this machine made for itself."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class when it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
