"""From measured rounds to a row of the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

from judo_edge.bench.counting import PassKind
from judo_edge.bench.events import MILESTONES, EventTally, milestones
from judo_edge.bench.lane import Looked
from judo_edge.bench.report import Equality, PassFigures, Row
from judo_edge.bench.rounds import Round
from judo_edge.bench.statistics import Summary, median_of_ratios, ratio_of_means, summary_from_values
from judo_edge.bundle import Bundle
from judo_edge.core import Decision, Verdict
from judo_edge.runtime.inspection import Inspection
from judo_edge.runtime.stopwatch import STAGES

REST = "rest"
"""Time that no stage counts: between the stages, and until the verdict is handed over."""
_MS = 1e3
_KEPT = 5
_AFTER_PROMPT = frozenset({"verify", "decode", "parse"})


def row_from_rounds(
    bundle: Bundle, prompt_tokens: int, rounds: Sequence[Round], peak_rss_bytes: int | None = None
) -> Row:
    """Return the figures of one bundle; there must be at least one round."""
    drafted, greedy = [entry.drafted for entry in rounds], [entry.greedy for entry in rounds]
    latency = _summary([looked.seconds for looked in drafted])
    verdicts = [inspection.verdict for inspection in _inspections(drafted)]
    assert latency
    return Row(
        bundle=bundle.manifest.name,
        digest=bundle.digest,
        prompt_tokens=prompt_tokens,
        **_comparisons(rounds),
        **_work(drafted),
        **_replies(verdicts),
        **_times(drafted, greedy),
        **_checks(rounds),
        speedup_vs_best_peer=None,
        p50_ms=latency.p50,
        p99_ms=latency.p99,
        latency=latency,
        joules_per_part=_joules(drafted),
        peak_rss_bytes=peak_rss_bytes,
    )


def stage_seconds(looked: Iterable[Looked]) -> dict[str, list[float]]:
    """Return the seconds of each stage of each part, in order: those before the frame first, `rest` last."""
    found: dict[str, list[float]] = {}
    for one in looked:
        timings = [inspection.verdict.timing for inspection in one.inspections]
        for timing in timings:
            for name, seconds in timing.seconds.items():
                found.setdefault(name, []).append(seconds)
        rest = (one.seconds - sum(timing.total for timing in timings)) / len(timings)
        found.setdefault(REST, []).extend([rest] * len(timings))
    order = [*(name for name in found if name not in (*STAGES, REST)), *STAGES, REST]
    return {name: found[name] for name in order if name in found}


def _comparisons(rounds: Sequence[Round]) -> dict[str, object]:
    """Compare with the limit, where it could be measured, and with plain greedy."""
    limited = [entry for entry in rounds if entry.limits is not None]
    limits = [sum(limit.seconds for limit in entry.limits or ()) for entry in limited]
    with_limit = [entry.drafted.seconds for entry in limited]
    drafted, greedy = [entry.drafted.seconds for entry in rounds], [entry.greedy.seconds for entry in rounds]
    return {
        "limit": _summary(limits),
        "greedy": _summary(greedy),
        "limit_ratio": ratio_of_means(with_limit, limits),
        "limit_ratio_median": median_of_ratios(with_limit, limits),
        "speedup_vs_greedy": ratio_of_means(greedy, drafted),
        "speedup_vs_greedy_median": median_of_ratios(greedy, drafted),
        "limit_parts": sum(len(entry.limits or ()) for entry in limited),
        "limit_agrees": sum(limit.agrees for entry in limited for limit in entry.limits or ()),
    }


def _work(drafted: Sequence[Looked]) -> dict[str, object]:
    """Count passes and vision at the engine."""
    num_parts = sum(len(looked.inspections) for looked in drafted)
    passes = [one for looked in drafted for one in looked.work.passes]
    kinds = {kind: [one for one in passes if one.kind is kind] for kind in PassKind}
    return {
        "passes_per_part": len(passes) / num_parts,
        "vision_passes_per_part": sum(looked.work.num_images for looked in drafted) / num_parts,
        "passes": {
            kind.value: PassFigures(
                per_part=len(those) / num_parts,
                rows=_mean(one.new for one in those),
                wanted=_mean(one.wanted for one in those),
                kept=_mean(one.kept for one in those),
            )
            for kind, those in kinds.items()
            if those
        },
    }


def _replies(verdicts: Sequence[Verdict]) -> dict[str, object]:
    return {
        "tokens_per_reply": _mean(verdict.num_tokens for verdict in verdicts),
        "drafted_per_reply": _mean(verdict.num_drafted for verdict in verdicts),
        "accepted_per_reply": _mean(verdict.num_accepted for verdict in verdicts),
        "undecidable": sum(verdict.decision is Decision.NOT_DECIDABLE for verdict in verdicts),
    }


def _times(drafted: Sequence[Looked], greedy: Sequence[Looked]) -> dict[str, object]:
    """Sum up stages and milestones; the first verdict is compared with reading the prompt alone."""
    plain = stage_seconds(greedy)
    reached = [milestones(events) for looked in drafted for events in looked.events]
    times = {name: [one[name] for one in reached if name in one] for name in MILESTONES}
    reading = sum(_mean(values) for name, values in plain.items() if name not in (*_AFTER_PROMPT, REST))
    first = times["first_verdict"]
    return {
        "stages": _summaries(stage_seconds(drafted)),
        "greedy_stages": _summaries(plain),
        "milestones": _summaries(times),
        "first_verdict_ratio": _mean(first) / reading if first and reading else None,
    }


def _checks(rounds: Sequence[Round]) -> dict[str, object]:
    """Compare replies, and look at the order of events."""
    differences = list(chain.from_iterable(map(_differences, rounds)))
    compared = sum(len(entry.frame_ids) for entry in rounds)
    tally = EventTally()
    for entry in rounds:
        for name, events, inspection in zip(
            entry.frame_ids, entry.drafted.events, entry.drafted.inspections, strict=True
        ):
            tally.add(name, events, inspection.verdict)
    return {
        "equality": Equality(
            equal=compared - len(differences), compared=compared, differences=tuple(differences[:_KEPT])
        ),
        "event_violations": tuple(tally.examples),
        "num_event_violations": tally.num_violations,
    }


def _differences(entry: Round) -> list[str]:
    pairs = zip(entry.frame_ids, entry.drafted.inspections, entry.greedy.inspections, strict=True)
    return [f"frame {name}: {place}" for name, one, other in pairs if (place := _first_difference(one, other))]


def _first_difference(drafted: Inspection, greedy: Inspection) -> str:
    """Return in words where two replies part; empty when they are equal."""
    if drafted.ids == greedy.ids and drafted.verdict.decision is greedy.verdict.decision:
        return ""
    pairs = zip(drafted.ids, greedy.ids, strict=False)
    place = next((i for i, (one, other) in enumerate(pairs) if one != other), None)
    if place is not None:
        return f"token {place} is {drafted.ids[place]} with drafts, {greedy.ids[place]} without"
    if len(drafted.ids) != len(greedy.ids):
        return f"{len(drafted.ids)} tokens with drafts, {len(greedy.ids)} without"
    return f"{drafted.verdict.decision.value} with drafts, {greedy.verdict.decision.value} without"


def _joules(drafted: Sequence[Looked]) -> float | None:
    """Return the energy of one part; None when the device did not tell for every one."""
    told = [looked.joules for looked in drafted if looked.joules is not None]
    num_parts = sum(len(looked.inspections) for looked in drafted)
    return sum(told) / num_parts if len(told) == len(drafted) else None


def _inspections(looked: Iterable[Looked]) -> Iterable[Inspection]:
    return chain.from_iterable(one.inspections for one in looked)


def _summaries(series: dict[str, list[float]]) -> dict[str, Summary]:
    found = {name: _summary(values) for name, values in series.items()}
    return {name: summary for name, summary in found.items() if summary is not None}


def _summary(seconds: Sequence[float]) -> Summary | None:
    return summary_from_values(seconds, _MS)


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
