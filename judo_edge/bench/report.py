"""The report of a bench as frozen models: what is printed as one line of JSON, and what `--from` reads again.

Times are milliseconds. What was not measured is null, never 0.
"""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from judo_edge.bench.statistics import Summary
from judo_edge.config import Frozen, model_from_data
from judo_edge.errors import InputError

HEADLINE = ("passes_per_part", "limit_ratio", "speedup_vs_greedy", "speedup_vs_best_peer", "p50_ms", "p99_ms")
"""The keys by which benches are compared."""
DIFFERENCES = (
    "no LoadGen, no accuracy run and no least duration; other measurements of the same photo run between two queries"
)
"""What an MLPerf-style mode is not."""


class Mode(str, Enum):
    """What is scored.

    MLPerf's single-stream sends one query after the other and scores p90 of their latency; its multi-stream sends
    several samples in each query (there always eight) and scores p99 of the time until the last is answered. These
    modes score the same; `DIFFERENCES` says what else the benchmark asks.
    """

    LATENCY = "latency"
    SINGLE_STREAM = "single-stream"
    MULTI_STREAM = "multi-stream"


class PassFigures(Frozen):
    """Decoder passes of one kind."""

    per_part: float
    rows: float
    """Mean of the new positions of one pass."""
    wanted: float
    """Mean of the positions whose logits were asked for."""
    kept: float
    """Mean of the positions that were there before."""


class Equality(Frozen):
    """Whether drafts change what is written."""

    equal: int
    """Replies that are the same token for token with drafts and without."""
    compared: int
    differences: tuple[str, ...] = ()
    """The first few that are not: frame and place."""


class Headline(Frozen):
    """The figures by which bundles are compared."""

    passes_per_part: float
    """Mean of the decoder passes of one part, counted at the engine."""
    limit_ratio: float | None
    """Mean time over the mean of the engine's own limit; None where no reply allowed to measure it."""
    speedup_vs_greedy: float | None
    """Mean time without drafts over mean time with them."""
    speedup_vs_best_peer: float | None
    """Mean time of the fastest rival over mean time; None without rivals."""
    p50_ms: float
    p99_ms: float


class Row(Headline):
    """One bundle."""

    bundle: str
    digest: str
    latency: Summary
    """From capture to the last verdict of what was captured together."""
    greedy: Summary | None
    limit: Summary | None
    limit_ratio_median: float | None
    """Median of the ratios frame by frame."""
    speedup_vs_greedy_median: float | None
    stages: dict[str, Summary]
    """Of one part; `rest` is what no stage counts."""
    greedy_stages: dict[str, Summary]
    milestones: dict[str, Summary]
    """Time since capture to the first verdict, the mask, the answer; absent where no event told."""
    first_verdict_ratio: float | None
    """Mean time to the first verdict over the mean time without drafts until the prompt is read."""
    passes: dict[str, PassFigures]
    prompt_tokens: int
    tokens_per_reply: float
    drafted_per_reply: float
    accepted_per_reply: float
    vision_passes_per_part: float
    """Photos encoded, counted at the engine."""
    equality: Equality
    limit_parts: int
    """Parts whose limit was measured."""
    limit_agrees: int
    """Those where every row of the limit pass predicts the token of the reply; where the grammar chose a token, or a
    row differs when computed among others, one does not."""
    undecidable: int
    event_violations: tuple[str, ...]
    """The first few."""
    num_event_violations: int
    joules_per_part: float | None
    peak_rss_bytes: int | None
    """Of the process; None where several bundles share it."""


class Score(Frozen):
    """The one figure of an MLPerf-style mode."""

    name: str
    metric: str
    milliseconds: float
    differs: str


class Setting(Frozen):
    """How it was measured."""

    workload: str
    mode: Mode
    source: str
    """Where the photos come from."""
    seed: int
    cameras: Annotated[int, Field(gt=0)]
    """Photos captured together."""
    rounds: int
    warm_up: int
    """Rounds before, left out."""
    repeated_photos: int
    """Measured photos that the stream had shown before: drafts from earlier replies find those easy."""
    engine: str
    threads: int
    """0 for as many as the backend likes."""
    pause_ms: float = 0.0
    """Before each contestant's turn."""
    energy: str
    """What was counted."""
    version: str
    """Of judo-edge."""
    machine: str


class Report(Headline):
    """A whole bench; the headline is that of the first bundle."""

    setting: Setting
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    peers: dict[str, Summary] = Field(default_factory=dict)
    peers_equal: dict[str, int] = Field(default_factory=dict)
    """Photos to which each rival wrote the plain greedy reply of the first bundle."""
    score: Score | None = None
    """Of the first bundle; None in the mode `latency`."""

    @property
    def is_lossless(self) -> bool:
        """Tell whether drafts changed no reply of any bundle."""
        return all(row.equality.equal == row.equality.compared for row in self.rows)

    @property
    def is_orderly(self) -> bool:
        """Tell whether every frame's events were as they must be."""
        return not any(row.num_event_violations for row in self.rows)

    def to_json(self) -> str:
        """Return the report on one line, headline first."""
        return self.model_dump_json()


def report_from_rows(
    setting: Setting,
    rows: tuple[Row, ...],
    peers: dict[str, Summary] | None = None,
    equal: dict[str, int] | None = None,
) -> Report:
    """Put a report together; rows learn how they stand against the fastest of the `peers`."""
    best = min((peer.mean for peer in (peers or {}).values()), default=None)
    compared = tuple(
        row.model_copy(update={"speedup_vs_best_peer": None if best is None else best / row.latency.mean})
        for row in rows
    )
    headline = {key: getattr(compared[0], key) for key in HEADLINE}
    score = _score(setting, compared[0].latency)
    return Report(**headline, setting=setting, rows=compared, peers=peers or {}, peers_equal=equal or {}, score=score)


def _score(setting: Setting, latency: Summary) -> Score | None:
    scored = {Mode.SINGLE_STREAM: ("p90", latency.p90), Mode.MULTI_STREAM: ("p99", latency.p99)}
    if setting.mode not in scored:
        return None
    metric, milliseconds = scored[setting.mode]
    name = f"MLPerf-style {setting.mode.value}, {setting.cameras} photo(s) a query"
    return Score(name=name, metric=metric, milliseconds=milliseconds, differs=DIFFERENCES)


def report_from_file(path: Path) -> Report:
    """Read a report that `--json` wrote, or an output whose last line it is; InputError, ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").strip().splitlines()
        content = json.loads(lines[-1]) if lines else None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}", "a report of judo-edge bench", "write one with --json") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no report", "a report of judo-edge bench", "write one with --json")
    return model_from_data(Report, content, str(path))
