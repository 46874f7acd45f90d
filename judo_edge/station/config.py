"""STATION.toml as frozen models: everything that an engineer sets at the line, unknown keys refused.

Paths are relative to the file's folder. Nothing here opens or starts anything.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from judo_edge.config import Frozen, model_from_toml
from judo_edge.core import Decision
from judo_edge.runtime.sources.camera import Trigger
from judo_edge.runtime.sources.settings import CameraSettings, FolderSettings
from judo_edge.runtime.sources.waiting import WaitingPolicy

Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Port = Annotated[int, Field(ge=0, le=65_535)]
"""0 lets the system choose; the port is then told in the log and in the run folder."""


class StationTable(Frozen):
    """What the core needs."""

    name: Name
    data: Path = Path("station-data")
    """Ledger, archive, certificates, users."""
    run_folder: Path | None = None
    """Socket and photos under way; None for a folder below XDG_RUNTIME_DIR, else below `data`."""
    store: Path = Path("references")
    """Enrolled good parts."""
    engine: str = "onnxruntime"
    threads: Annotated[int, Field(ge=0)] = 0
    deadline: Seconds = 2.0
    """From trigger to verdict: after it the part is what `on_fault` says."""
    on_fault: Literal[Decision.NOK, Decision.NOT_DECIDABLE] = Decision.NOT_DECIDABLE
    """What a part is of which nothing could be found out."""
    max_waiting: Annotated[int, Field(ge=1, le=1000)] = 8
    """Jobs without a verdict; one more is an overrun."""
    is_automatic: bool = True
    """Go to Ready by itself at start and after an error is over, with the recipes marked `prepare`."""
    late_alarm: Annotated[int, Field(ge=1)] = 3
    """So many late verdicts in a row raise a condition."""


class RecipeTable(Frozen):
    """One kind of part and what judges it."""

    id: Name
    """External id: what PLC and users call it."""
    part: Annotated[str, Field(min_length=1)] = ""
    """Part number in the reference store; by default the id."""
    bundle: Annotated[str, Field(min_length=1)]
    """Bundle folder, or the name of a shipped model."""
    product: str = ""
    prepare: bool = True
    """Whether it is made ready at start."""
    accept_failed: tuple[str, ...] = ()
    """Gates of the bundle's verification that may have failed."""
    public_key: Path | None = None
    """Key that must have signed the bundle; None accepts an unsigned one."""

    @model_validator(mode="after")
    def _named_part(self) -> RecipeTable:
        if not self.part:
            object.__setattr__(self, "part", self.id)
        return self


class RetentionTable(Frozen):
    """How long photos and masks are kept; verdicts are never removed."""

    max_days_ok: Annotated[float, Field(gt=0)] = 7.0
    max_days_nok: Annotated[float, Field(gt=0)] = 90.0
    max_megabytes: Annotated[int, Field(ge=1)] = 20_000
    keep_free_megabytes: Annotated[int, Field(ge=0)] = 1_000
    """Below this free space photos go, good parts' first."""
    reserve_megabytes: Annotated[int, Field(ge=1, le=1024)] = 16
    """Held back on the disk, so that verdicts can still be written when it is full."""
    photos: Literal["all", "not-ok", "none"] = "all"


class ChallengeTable(Frozen):
    """Known-bad and known-good parts that the station must judge right before it says OK."""

    masters: Path = Path("masters")
    """`<recipe id>/fail` and `<recipe id>/pass` hold photos."""
    is_required: bool = False
    """Whether a recipe without masters may say OK; with masters they must always pass."""
    shifts: tuple[Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")], ...] = ()
    """Local times of day at which masters are judged again."""


class DriftTable(Frozen):
    """When the scores of good parts have moved away from those of the first ones after a recipe's version was new."""

    window: Annotated[int, Field(ge=20, le=10_000)] = 200
    """Latest good parts that are compared."""
    alarm: Annotated[float, Field(gt=0, lt=1)] = 0.001
    """Probability of such a difference without any drift, below which the alarm goes off; each window is one look."""


class OpcuaTable(Frozen):
    """The OPC UA server."""

    is_on: bool = False
    host: str = "127.0.0.1"
    """Address it listens on."""
    advertised: str = ""
    """Host name or address that clients are told; by default `host`."""
    port: Port = 4840
    nodeset: Path | None = None
    """Opc.Ua.MachineVision.NodeSet2.xml; None builds the same browse names in code."""
    result_nodeset: Path | None = None
    """Opc.Ua.Machinery_Result.NodeSet2.xml."""
    policies: tuple[Literal["Basic256Sha256", "Aes128_Sha256_RsaOaep", "Aes256_Sha256_RsaPss"], ...] = (
        "Basic256Sha256",
        "Aes256_Sha256_RsaPss",
    )
    trust_all_clients: bool = False
    """Accept any client certificate; otherwise only those in `<data>/pki/trusted`."""
    plc_timeout: Seconds = 3.0
    """A PLC's heartbeat that stands still for so long raises a condition."""


class WebTable(Frozen):
    """The web page."""

    is_on: bool = False
    host: str = "127.0.0.1"
    port: Port = 8080
    certificate: Path | None = None
    key: Path | None = None
    """PEM files for HTTPS; needed for any address but loopback."""
    names: tuple[str, ...] = ()
    """Host names under which browsers reach it, besides `host` and this machine's own name."""
    session_hours: Annotated[float, Field(gt=0, le=168)] = 12.0
    """Without use, after which a user has to sign in again."""


class MqttTable(Frozen):
    """A broker that is told of every result."""

    is_on: bool = False
    host: str = "127.0.0.1"
    port: Port = 1883
    topic: Annotated[str, Field(pattern=r"^[^#+]+$")] = "judo-edge"
    user: str = ""
    password_file: Path | None = None
    ca: Path | None = None
    """PEM file of who vouches for the broker; with it the connection is TLS."""
    is_plain: bool = False
    """Send to a broker on another machine without TLS, in a network where nobody listens or lies; never a password."""


class StationConfig(Frozen):
    """The whole file."""

    station: StationTable
    recipes: Annotated[tuple[RecipeTable, ...], Field(min_length=1)]
    cameras: tuple[Annotated[CameraSettings, Field()], ...] = ()
    retention: RetentionTable = RetentionTable()
    challenge: ChallengeTable = ChallengeTable()
    drift: DriftTable = DriftTable()
    opcua: OpcuaTable = OpcuaTable()
    web: WebTable = WebTable()
    mqtt: MqttTable = MqttTable()
    folder: Path = Path()
    """Of the file itself; set by the reader."""

    @model_validator(mode="after")
    def _unique(self) -> StationConfig:
        for kind, names in (
            ("recipe", [one.id for one in self.recipes]),
            ("camera", [one.name for one in self.cameras]),
        ):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"{kind} {twice[0]!r} is given twice")
        return self

    @model_validator(mode="after")
    def _fresh(self) -> StationConfig:
        """Refuse frames in order from a camera that runs freely: a trigger would be given one from before it."""
        for one in self.cameras:
            if isinstance(one, FolderSettings) or one.trigger is not Trigger.FREE_RUN:
                continue
            if one.waiting is WaitingPolicy.WAIT:
                raise ValueError(f"camera {one.name!r} runs freely, so frames that wait are not those of a trigger")
        return self

    def path(self, path: Path) -> Path:
        """Return a path of the file as seen from here."""
        return path if path.is_absolute() else self.folder / path

    @property
    def data(self) -> Path:
        """Return the folder of ledger, archive, certificates and users."""
        return self.path(self.station.data)

    @property
    def archive(self) -> Path:
        """Return the folder of the photos and masks that are kept of results."""
        return self.data / "archive"

    @property
    def store(self) -> Path:
        """Return the folder of enrolled good parts."""
        return self.path(self.station.store)


def station_from_file(path: Path) -> StationConfig:
    """Read STATION.toml; ConfigError names the key at fault."""
    return model_from_toml(StationConfig, path).model_copy(update={"folder": path.resolve().parent})
