"""What a bench shows, as rows of text under a header. Printing is left to the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from judo_edge.bench.events import MILESTONES
from judo_edge.bench.prediction import Prediction
from judo_edge.bench.report import Report, Row, Score
from judo_edge.bench.soak import SoakReport
from judo_edge.bench.statistics import Summary

Table = tuple[tuple[str, ...], Sequence[tuple[str, ...]]]
"""Header and rows."""
UNMEASURED = "not measured"
STAGE_HEADER = ("stage, ms", "p50", "p90", "p99", "max", "jitter p99-p50", "jitter step to step", "without drafts p50")


def comparison_table(report: Report) -> Table:
    """Return the bundles side by side, a figure in each row."""
    header = ("", *(row.bundle for row in report.rows))
    columns = [dict(_figures(row)) for row in report.rows]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    if report.peers:
        rows.append(("times faster than best rival", *(_number(row.speedup_vs_best_peer) for row in report.rows)))
    return header, rows


def stage_table(row: Row) -> Table:
    """Return the stages of one bundle."""
    rows = [_stage(name, summary, row.greedy_stages.get(name)) for name, summary in row.stages.items()]
    rows.append(_stage("total", row.latency, row.greedy))
    return STAGE_HEADER, rows


def peer_table(report: Report) -> Table:
    """Return the rivals."""
    header = ("rival, ms", "mean", "p50", "p90", "p99", "max", "replies as plain greedy")
    count = report.rows[0].equality.compared
    rows = [
        (name, *map(_number, (one.mean, one.p50, one.p90, one.p99, one.max)), f"{report.peers_equal[name]} of {count}")
        for name, one in report.peers.items()
    ]
    return header, rows


def soak_table(report: SoakReport) -> Table:
    """Return the figures of a long run."""
    rows = [
        ("frames", str(report.frames)),
        ("lost", str(report.lost)),
        ("events out of order or wrong", str(report.event_violations)),
        ("not decidable", str(report.undecidable)),
        ("p50 / p99 / max, ms", f"{report.p50_ms:.1f} / {report.p99_ms:.1f} / {report.max_ms:.1f}"),
        ("decoder passes per part", f"{report.passes_per_part:.2f}"),
        ("vision passes per part", f"{report.vision_passes_per_part:.2f}"),
        ("resident memory, first and last, MB", f"{_number(report.rss_first_mb)} / {_number(report.rss_last_mb)}"),
        ("its slope, second half, MB per 1,000 frames", _number(report.rss_slope_mb_per_1000, 3)),
    ]
    return ("", report.bundle), rows


def prediction_table(prediction: Prediction) -> Table:
    """Return the stages of a prediction."""
    header = ("stage", "per part", "rows", "GB", "10^9 operations", "waits for", "ms per part")
    rows = [
        (
            stage.stage,
            f"{stage.per_part:.2f}",
            f"{stage.rows:.0f}",
            f"{stage.gigabytes:.4g}",
            f"{stage.gigaoperations:.4g}",
            stage.bound,
            f"{stage.milliseconds:.4g}",
        )
        for stage in prediction.stages
    ]
    total = ("total", "", "", "", "", "", f"{prediction.total_ms:.4g}")
    greedy = "-" if prediction.greedy_ms is None else f"{prediction.greedy_ms:.4g}"
    return header, [*rows, total, ("without drafts", "", "", "", "", "", greedy)]


def formula_table(prediction: Prediction) -> Table:
    """Return the formula beside published figures."""
    rows = [
        (
            held.device,
            held.model,
            held.what,
            f"{held.published_ms:.1f}",
            f"{held.predicted_ms:.1f}",
            "fitted" if held.is_fitted else f"{100 * held.error:+.0f} %",
        )
        for held in prediction.formula
    ]
    return ("device", "model", "what", "published ms", "formula ms", "error"), rows


def score_text(score: Score) -> str:
    """Say the figure that a mode stands for."""
    return f"{score.name}: {score.metric} {score.milliseconds:.1f} ms ({score.differs})"


def equality_text(row: Row) -> str:
    """Say on one line whether drafts changed a reply."""
    equality = row.equality
    text = f"{equality.equal} of {equality.compared} replies equal plain greedy token for token"
    return f"{row.bundle}: {text}" + "".join(f"; {difference}" for difference in equality.differences)


def _figures(row: Row) -> Iterator[tuple[str, str]]:
    one = row.latency
    yield "ms per moment: p50", f"{one.p50:.1f}"
    yield "p90 / p99 / max", f"{one.p90:.1f} / {one.p99:.1f} / {one.max:.1f}"
    yield "jitter: p99-p50 / step to step", f"{one.jitter:.1f} / {one.jitter_successive:.1f}"
    yield "decoder passes per part", f"{row.passes_per_part:.2f}"
    for kind, passes in row.passes.items():
        yield f"  {kind}: passes x rows", f"{passes.per_part:.2f} x {passes.rows:.0f}"
    yield (
        "tokens / drafted / accepted per reply",
        " / ".join(f"{value:.1f}" for value in (row.tokens_per_reply, row.drafted_per_reply, row.accepted_per_reply)),
    )
    yield "vision passes per part", f"{row.vision_passes_per_part:.2f}"
    yield "time over the engine's limit", _number(row.limit_ratio, 3)
    yield "times faster than plain greedy", _number(row.speedup_vs_greedy, 2)
    for name in MILESTONES:
        yield f"{name.replace('_', ' ')}: p50 / p99", _pair(row.milestones.get(name))
    yield "first verdict over reading the prompt", _number(row.first_verdict_ratio, 2)
    yield "J per part", _number(row.joules_per_part, 2)
    yield "peak memory, MB", _number(row.peak_rss_bytes / 1e6 if row.peak_rss_bytes else None)
    yield "replies equal plain greedy", f"{row.equality.equal} of {row.equality.compared}"
    yield "limit passes that give the reply", _agreement(row)
    yield "not decidable / wrong events", f"{row.undecidable} / {row.num_event_violations}"


def _agreement(row: Row) -> str:
    return UNMEASURED if row.limit is None else f"{row.limit_agrees} of {row.limit_parts}"


def _stage(name: str, summary: Summary, greedy: Summary | None) -> tuple[str, ...]:
    values = (summary.p50, summary.p90, summary.p99, summary.max, summary.jitter, summary.jitter_successive)
    return (name, *(f"{value:.2f}" for value in values), "-" if greedy is None else f"{greedy.p50:.2f}")


def _pair(summary: Summary | None) -> str:
    return UNMEASURED if summary is None else f"{summary.p50:.1f} / {summary.p99:.1f}"


def _number(value: float | None, digits: int = 1) -> str:
    return UNMEASURED if value is None else f"{value:.{digits}f}"
