"""The vocabulary of judo-edge: small frozen values that every room shares.

Each field states its unit and who fills it. Nothing here knows of files, models or engines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
"""A photo: (height, width, 3), RGB, uint8."""

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class CellMask:
    """The defective cells of a grid; cell (1, 1) is top left, counted (row, column) from one as JUDO writes them."""

    rows: int
    cols: int
    cells: frozenset[tuple[int, int]] = frozenset()

    def __post_init__(self) -> None:
        """Refuse a cell outside the grid (ValueError): masks are built by code, never from raw text."""
        for row, col in self.cells:
            if not (1 <= row <= self.rows and 1 <= col <= self.cols):
                raise ValueError(f"cell ({row},{col}) lies outside the {self.rows}x{self.cols} grid")

    @classmethod
    def from_array(cls, array: Bools) -> CellMask:
        """Build a mask from a (rows, cols) boolean array."""
        rows, cols = array.shape
        return cls(rows, cols, frozenset((int(r) + 1, int(c) + 1) for r, c in np.argwhere(array)))

    @classmethod
    def of(cls, rows: int, cols: int, cells: Iterable[tuple[int, int]]) -> CellMask:
        """Build a mask from any iterable of 1-based cells."""
        return cls(rows, cols, frozenset(cells))

    def to_array(self) -> Bools:
        """Return the mask as a (rows, cols) boolean array."""
        array = np.zeros((self.rows, self.cols), dtype=np.bool_)
        for row, col in self.cells:
            array[row - 1, col - 1] = True
        return array

    def __len__(self) -> int:
        """Count the defective cells."""
        return len(self.cells)


class Decision(str, Enum):
    """What the line does with a part."""

    OK = "OK"
    NOK = "NOK"
    NOT_DECIDABLE = "NOT_DECIDABLE"


@dataclass(frozen=True)
class Frame:
    """One photo of one part, as a source delivers it."""

    frame_id: str
    """Name that the source gave, unique within a run."""
    part: str
    """Part number, chosen by the user or the PLC."""
    image: Image
    """RGB pixels, filled by the source."""
    captured_ns: int
    """Monotonic clock at capture, nanoseconds, filled by the source."""
    path: str = ""
    """File that the photo came from, empty for a camera."""


@dataclass(frozen=True)
class Reply:
    """What the model wrote, read by `protocol.reply`."""

    text: str
    """The reply as generated, without the end token."""
    mask: CellMask | None
    """Cells read from `<seg>`; None when the tag is missing or broken, which is not the same as empty."""
    think: str | None
    """Reason, None when its tag is missing."""
    answer: str | None
    """Letter from `<answer>`, None when the tag is missing: stray letters never count."""
    problems: tuple[str, ...] = ()
    """What is wrong with the format, in words; empty for a valid reply."""

    @property
    def is_valid(self) -> bool:
        """Tell whether mask, reason and answer were all read without a problem."""
        return not self.problems


@dataclass(frozen=True)
class Timing:
    """Seconds spent in each stage of one frame, by a monotonic clock."""

    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """Return the sum over all stages, in seconds."""
        return float(sum(self.seconds.values()))


@dataclass(frozen=True)
class Verdict:
    """The one outcome of one frame, filled by the inspector."""

    frame_id: str
    part: str
    decision: Decision
    reason: str
    """Why, in words: the model's reason, or the fault."""
    score: float | None
    """Anomaly score, larger is worse: logits where JUDO's words decided, nats of surprise where a calibrated rule did.

    None when nothing was decided."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """The named logit margins that the score was made from."""
    reply: Reply | None = None
    reference_id: str | None = None
    timing: Timing = field(default_factory=Timing)
    num_tokens: int = 0
    """Tokens that the model generated."""
    num_held: int = 0
    """Tokens of the mask that the grammar chose because the model's own would have spoilt it."""
    path: str = ""
    """File that the photo came from, empty for a camera."""
    num_passes: int = 0
    """Decoder passes that the reply took, the reading of the prompt included."""
    num_drafted: int = 0
    """Tokens that were guessed and checked."""
    num_accepted: int = 0
    """Guessed tokens that greedy decoding would have written too."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """Named signs of a defect, larger is worse: JUDO's margins, `cell_probe`, `feature_distance`."""
    judo: Decision | None = None
    """What JUDO's own words say; differs from `decision` where a calibrated rule decided."""
    threshold: float | None = None
    """What `score` was compared with; None when JUDO's words decided."""


class EventKind(str, Enum):
    """What becomes known of a frame, in the order in which it does."""

    EARLY_VERDICT = "verdict?"
    """Provisional, from the first token of the mask."""
    CELLS = "cells"
    """Some cells of the mask, provisional until `mask`."""
    MASK = "mask"
    REASON = "reason"
    ANSWER = "answer"
    VERDICT = "verdict"
    """The one outcome; always the last event of a frame."""


EventValue = Decision | CellMask | Verdict | str | tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Event:
    """Something that became known of a frame while it was inspected, filled by the inspector."""

    kind: EventKind
    frame_id: str
    seconds: float
    """Time since `Frame.captured_ns`, by the same clock."""
    num_passes: int
    """Decoder passes so far."""
    value: EventValue
    """Decision for `verdict?`, cells, the whole mask, text, the letter, or the Verdict."""
