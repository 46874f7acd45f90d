"""What the hub and its workers say to each other: methods of both sides, and what they carry.

Every worker connects to the hub's socket and calls `hello(role, name, pid)` first; then both sides may call.

A **camera** answers
    grab(job_id, timeout, after_ns) -> Spooled     a photo taken after the monotonic time `after_ns`; StationError whose
                                                   number is minus the `Code` says what is wrong with the camera
    live() -> str                                  newest photo as JPEG, base64; empty when there is none
and calls on the hub
    frame(camera, spooled, missed) -> job_id       a part that the camera saw by itself, and how many it missed before;
                                                   kept and offered again until this is answered
    camera_state(camera, code, text)               code 0: it works

An **inspector** answers
    prepare(external_id, internal_id) -> Recipe    open bundle, references, decision; warm up; "" for the newest version
    unprepare(internal_id)
    inspect(job_id, internal_id, spooled)          a stream: {"progress": record}, any number, then {"outcome": Outcome}
    keep(job_id, result_id, decision) -> Kept      write photo and mask of a frame into the archive, or nothing
    ask(photo, internal_id, question)              a stream of text
    enroll(part, photo, source, user), retire(part, reference_id, user), references(part), reference_file(part, id)
    masters(external_id) -> list[{path, wanted}]   challenge photos and what the station must say of them
    end()                                          close the engine and exit

A façade that hands results on calls
    sink_state(text)                               why it cannot; empty: it can

The **supervisor** answers restart(name). It calls processes(list of ProcessHealth) whenever that changes, and
stopping() before it ends everybody.
Times are of the monotonic clock, which all processes of a machine share.
"""

from __future__ import annotations

from pydantic import Field

from judo_edge.config import Frozen
from judo_edge.core import Decision
from judo_edge.station.results import Cells, Code

SOCKET_NAME, SPOOL_NAME = "hub.sock", "spool"
"""In the run folder: the hub's socket, and the photos under way (`.npy`, (H, W, 3) uint8 RGB, removed by the hub)."""


class Spooled(Frozen):
    """A photo on its way."""

    file: str
    """Name of the `.npy` file in the spool folder, the same for the same frame however often it is offered; empty
    where the inspector is to read `path` itself."""
    captured_ns: int
    captured: str
    """UTC, ISO 8601."""
    frame_number: int = 0
    path: str = ""
    """File that the photo came from, empty for a camera."""
    part_id: str = ""
    """Serial number that the source knows, such as from a file name."""
    problem: str = ""
    """Why there are no pixels, in the camera's words; empty where there are."""


class Outcome(Frozen):
    """What the inspector says of one photo; the hub makes the result of it."""

    decision: Decision
    code: Code
    """INSPECTED, PHOTO_UNREADABLE, REPLY_INVALID or ENGINE_FAULT."""
    reason: str
    reference_id: str = ""
    score: float | None = None
    threshold: float | None = None
    judo: Decision | None = None
    evidence: dict[str, float] = Field(default_factory=dict)
    mask: Cells | None = None
    reply: str = ""
    seconds: dict[str, float] = Field(default_factory=dict)


class Kept(Frozen):
    """What the archive now holds of a result; names are relative to its folder, empty when nothing is kept."""

    photo: str = ""
    mask_file: str = ""
    num_bytes: int = 0
