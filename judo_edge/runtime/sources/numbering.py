"""Frame numbers that rise by one a frame, from counters that wrap. Knows no device."""

from __future__ import annotations

_GIGE_LAST = 0xFFFF
"""GigE Vision 1 counts blocks 1..65535 and then starts again at 1: zero is never used."""
_HALF = _GIGE_LAST // 2


class Numbering:
    """Turns a camera's frame ids into rising numbers and says how many are missing between two."""

    def __init__(self) -> None:
        """Start before the first frame."""
        self._last_id: int | None = None
        self._offset = 0
        self._restarted = False

    def restart(self) -> None:
        """Expect a counter that begins anew: the next frame has the next number, and nothing is missing before it."""
        self._restarted = True

    def number(self, frame_id: int) -> tuple[int, int]:
        """Return the frame's rising number, and how many frames are missing since the last one.

        An id that falls from the upper half of 16 bits to the lower is a wrap (65535 is followed by 1). Any other
        fall, or the same id again, is a counter that began anew.
        """
        last, self._last_id = self._last_id, frame_id
        if last is None:
            self._restarted = False
            return frame_id, 0
        before = last + self._offset
        if not self._restarted and _HALF < last <= _GIGE_LAST and frame_id < _HALF:
            self._offset += _GIGE_LAST
        elif self._restarted or frame_id <= last:
            self._offset = before + 1 - frame_id
        self._restarted = False
        number = frame_id + self._offset
        return number, number - before - 1
