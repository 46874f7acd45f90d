"""What GenICam cameras share: trigger, policy, features, the count of frames. Knows no library that drives them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from judo_edge.errors import CameraError, CameraFault
from judo_edge.runtime.sources.camera import Camera, Trigger
from judo_edge.runtime.sources.numbering import Numbering
from judo_edge.runtime.sources.waiting import WaitingPolicy

Feature = bool | int | float | str
"""The value of a GenICam feature."""


@dataclass(frozen=True)
class VisionSettings:
    """How a GenICam camera is used: frames of a software trigger, and of a free run that drops, are fresh."""

    device: str = ""
    """Which camera, in the words of its library; empty takes the first that is found."""
    trigger: Trigger = Trigger.SOFTWARE
    trigger_source: str = "Line1"
    """Input of a hardware trigger, by its GenICam name."""
    policy: WaitingPolicy = WaitingPolicy.DROP_OLDEST
    capacity: int = 8
    """Buffers: frames that can wait."""
    features: Mapping[str, Feature] = field(default_factory=dict)
    """GenICam features, set in this order."""


class TriggeredCamera(Camera):
    """The part of a GenICam camera that is the same for all libraries."""

    def __init__(self, use: VisionSettings) -> None:
        """Keep the settings and count from nothing; nothing is opened."""
        self.use = use
        self.num_incomplete = 0
        """Frames that came with a part missing since the camera was made."""
        self._numbering = Numbering()
        self._missed = 0
        self._trigger_open = False

    @property
    def fresh(self) -> bool:
        """Tell whether only a frame captured after the call counts."""
        free = self.use.trigger is Trigger.FREE_RUN and self.use.policy is WaitingPolicy.DROP_OLDEST
        return free or self.use.trigger is Trigger.SOFTWARE

    @property
    def name(self) -> str:
        """How messages call the camera."""
        return f"camera {self.use.device or '(first found)'}"

    @property
    def _trigger_source(self) -> str:
        """The trigger's source by its GenICam name."""
        return "Software" if self.use.trigger is Trigger.SOFTWARE else self.use.trigger_source

    def _restart(self) -> None:
        """Forget the trigger under way and expect frame numbers to begin anew."""
        self._trigger_open = False
        self._numbering.restart()

    def _number(self, frame_id: int) -> int:
        """Return the frame's rising number, and count those missing before it."""
        number, missing = self._numbering.number(frame_id)
        self._drop(missing)
        return number

    def _drop(self, count: int = 1) -> None:
        self._missed += count
        self.num_dropped += count

    def _take_missed(self) -> int:
        """Return how many frames were missed since it was last asked."""
        missed, self._missed = self._missed, 0
        return missed

    def _not_open(self) -> CameraError:
        return CameraError(CameraFault.UNPLUGGED, f"{self.name} is not open", "an open camera", "open it first")

    def _too_late(self, timeout: float) -> CameraError:
        return CameraError(CameraFault.TIMEOUT, f"no frame from {self.name} within {timeout:g} s")
