"""The records of a station: jobs, results, recipes, events and its status, as they are stored and as façades see them.

Times are UTC, ISO 8601 with microseconds, for people and PLCs; what is waited for is measured by monotonic clocks.
Models are frozen and refuse unknown keys, because they also come back from other processes and from the disk.
"""

from __future__ import annotations

from datetime import datetime, timezone
from enum import Enum, IntEnum
from typing import Annotated, Any

from pydantic import Field

from judo_edge.config import Frozen
from judo_edge.core import Decision
from judo_edge.station.states import State


class ResultState(IntEnum):
    """How far the processing of a job went, after OPC 40100-1 12.19; says nothing about the part."""

    UNDEFINED = 0
    COMPLETED = 1
    PROCESSING = 2
    ABORTED = 3
    FAILED = 4


class Code(IntEnum):
    """Why a result is what it is: the number a PLC reads. 0 is the only one under which a part can be OK."""

    INSPECTED = 0
    PHOTO_UNREADABLE = 110
    CAMERA_UNPLUGGED = 120
    CAMERA_TIMEOUT = 121
    CAMERA_FROZEN = 122
    CAMERA_STALE = 123
    FRAME_DROPPED = 124
    FRAME_MISSED = 125
    """The camera's or the line's counter shows a trigger of which no photo came."""
    REPLY_INVALID = 210
    """The model's reply cannot be read, or a part cannot be compared."""
    ENGINE_FAULT = 220
    INSPECTOR_LOST = 221
    """The process that inspects ended or does not answer."""
    DEADLINE = 310
    OVERRUN = 311
    """More parts waited than the station may hold."""
    ABORTED = 320
    NOT_READY = 321
    """A part passed while the station was not ready for it."""
    RESTARTED = 330
    """The station was restarted between trigger and verdict."""
    CHALLENGE_PENDING = 340
    """The challenge parts have not passed, so the station does not say OK."""
    INTERNAL = 390


class Cells(Frozen):
    """A mask of a grid; cells are (row, column) from one."""

    rows: int
    cols: int
    cells: tuple[tuple[int, int], ...] = ()


class Recipe(Frozen):
    """One version of how a part is judged: everything that can change a verdict, by digest."""

    external_id: str
    """What PLC and users call it; by default the part number."""
    internal_id: str
    """First 32 hex digits of the SHA-256 of what follows: two recipes that judge alike have the same."""
    part: str
    bundle: str
    """Folder or shipped name."""
    bundle_digest: str
    references_digest: str
    """SHA-256 of the sorted reference ids."""
    reference_ids: tuple[str, ...]
    decision_version: int | None = None
    """Of the calibrated decision in use; None where JUDO's words decide."""
    signer: str = ""
    """Who signed the bundle, as verified; empty for an unsigned one."""
    created: str = ""
    is_prepared: bool = False


CHALLENGE = "challenge"
"""`JobRequest.origin` of challenge parts: no part of the line, their results are simulated, and no gate holds them."""


class JobRequest(Frozen):
    """What a trigger asks for."""

    recipe: str = ""
    """External id of a prepared recipe; empty for the one that was prepared last."""
    part_id: str = ""
    """Serial number of the part, echoed in its result."""
    meas_id: str = ""
    product_id: str = ""
    camera: str = ""
    """Name of the camera; empty for the station's first."""
    key: str = ""
    """The caller's own name of this trigger: the same key again is the same job. Empty: every call is a new one."""
    origin: str = "api"
    """Who asks: `opcua`, `tags`, `http`, `camera`, `challenge`."""
    is_simulated: bool = False
    frame_number: int | None = None
    """Counter of a camera that triggers itself."""
    path: str = ""
    """File of a photo that waits already; empty when the camera is to take one."""


class Job(Frozen):
    """An accepted trigger: it is in the ledger, and its result will come."""

    job_id: str
    request: JobRequest
    recipe_id: str
    """Internal id of the recipe; empty when none was ready."""
    created: str
    deadline: float
    """Seconds from acceptance to the verdict."""


class Result(Frozen):
    """The one verdict on one job."""

    number: int
    """Counts the station's results without a gap, from one, over restarts."""
    result_id: str
    job_id: str
    state: ResultState
    decision: Decision
    code: Code
    reason: str
    part: str = ""
    part_id: str = ""
    meas_id: str = ""
    product_id: str = ""
    camera: str = ""
    external_recipe_id: str = ""
    internal_recipe_id: str = ""
    bundle_digest: str = ""
    references_digest: str = ""
    decision_version: int | None = None
    reference_id: str = ""
    """The reference that the part was compared with."""
    score: float | None = None
    threshold: float | None = None
    judo: Decision | None = None
    """What JUDO's own words say."""
    evidence: dict[str, float] = Field(default_factory=dict)
    mask: Cells | None = None
    reply: str = ""
    """The model's text."""
    seconds: dict[str, float] = Field(default_factory=dict)
    """Stages of the inspection."""
    created: str
    """When the verdict was made."""
    triggered: str
    acquired: str = ""
    total_seconds: float = 0.0
    """From trigger to verdict, by a monotonic clock where the station did not restart in between."""
    origin: str = ""
    is_simulated: bool = False
    missed_before: int = 0
    """Triggers that the station refused or missed so far: a PLC sees that one is lacking."""
    photo: str = ""
    """File of the photo, relative to the archive; empty when none is kept."""
    mask_file: str = ""
    review: str = ""
    """What a person said afterwards: a Decision's value, or empty."""


class LateResult(Frozen):
    """What the inspector found after the job already had its verdict; kept, and never put in its place."""

    job_id: str
    arrived: str
    seconds_late: float
    decision: Decision
    reason: str
    score: float | None = None


class EventKind(str, Enum):
    """What a station tells of itself, in the order in which it happens."""

    TRANSITION = "transition"
    """data: name, number, source, target, command."""
    JOB_STARTED = "job-started"
    """data: job_id, part_id."""
    ACQUISITION_DONE = "acquisition-done"
    """data: job_id. The part may leave the field of view."""
    READY = "ready"
    """data: job_id. Another job can be started."""
    PROGRESS = "progress"
    """data: job_id and what `runtime.records.record_from_event` says: provisional, never a verdict."""
    RESULT = "result"
    """data: a Result. It is on the disk."""
    LATE = "late"
    """data: a LateResult."""
    RECIPE_PREPARED = "recipe-prepared"
    """data: a Recipe."""
    CONDITION = "condition"
    """data: a Condition that was raised, changed or cleared."""
    ERROR = "error"
    """data: code, reason. The station entered Error."""
    ERROR_RESOLVED = "error-resolved"
    MISSED = "missed"
    """data: origin, reason, count."""
    REVIEW = "review"
    """data: result_id, decision, user, note."""
    REFERENCES = "references"
    """data: part, reference_id, change (enrolled or retired), user."""
    EVIDENCE = "evidence"
    """data: result_id, photo, mask_file. The files are in the archive."""
    HEARTBEAT = "heartbeat"
    """data: a Status, once a second from the loop that delivers verdicts."""


class StationEvent(Frozen):
    """One thing that a station tells of itself."""

    number: int
    """Counts events since the hub began; a gap says that some were lost on the way."""
    kind: EventKind
    at: str
    data: dict[str, Any] = Field(default_factory=dict)


class Severity(IntEnum):
    """How bad a condition is, as OPC UA counts it (1 to 1000)."""

    INFORMATION = 100
    WARNING = 400
    ERROR = 700
    PERSISTENT_ERROR = 900


class Condition(Frozen):
    """Something that is wrong and stays visible until it is over and acknowledged."""

    name: str
    """Such as `camera.top`, `process.inspector`, `disk`, `drift.lid-7`, `challenge.lid-7`, `late`."""
    severity: Severity
    code: int
    text: str
    since: str
    is_active: bool = True
    is_acknowledged: bool = False


class ProcessHealth(Frozen):
    """One process of the station."""

    name: str
    role: str
    pid: int = 0
    state: str = ""
    """`starting`, `ready`, `waiting` (to be started again), `stopped`."""
    restarts: int = 0
    since: str = ""
    detail: str = ""


class Counters(Frozen):
    """What the station has done since its ledger began."""

    triggers: int = 0
    ok: int = 0
    nok: int = 0
    not_decidable: int = 0
    late: int = 0
    missed: int = 0
    refused: int = 0


class Status(Frozen):
    """Everything a façade shows that is not a result."""

    station: str
    state: State
    is_simulating: bool = False
    recipes: tuple[Recipe, ...] = ()
    """Those that are prepared; the last one is used by a trigger that names none."""
    running_job: str = ""
    num_waiting: int = 0
    """Jobs without a verdict."""
    counters: Counters = Counters()
    processes: tuple[ProcessHealth, ...] = ()
    conditions: tuple[Condition, ...] = ()
    challenge: dict[str, str] = Field(default_factory=dict)
    """State per external recipe id: `passed`, `pending`, `failed`, `none` (no masters and none required)."""
    latency: dict[str, float] = Field(default_factory=dict)
    """Seconds from trigger to verdict of the last 500 results: p50, p90, p99, max."""
    last_number: int = 0
    """Number of the last result."""
    heartbeat: int = 0
    """Counts up once a second while verdicts can be delivered."""


class ResultQuery(Frozen):
    """Which results are wanted; empty fields do not restrict."""

    after: int = 0
    """Only results with a larger number."""
    state: ResultState | None = None
    decision: Decision | None = None
    meas_id: str = ""
    part_id: str = ""
    product_id: str = ""
    external_recipe_id: str = ""
    internal_recipe_id: str = ""
    job_id: str = ""
    is_unreviewed: bool = False
    newest_first: bool = False
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class ReferenceInfo(Frozen):
    """One enrolled good part."""

    reference_id: str
    part: str
    source: str
    enrolled: str
    retired: str = ""


def utc_now() -> str:
    """Return the time of day for records: UTC, ISO 8601, microseconds."""
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")
