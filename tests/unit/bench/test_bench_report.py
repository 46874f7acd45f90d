"""The report: its keys, its file, how rivals and modes enter, and what tables and plot say of it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from judo_edge.bench.plot import svg_from_report
from judo_edge.bench.report import (
    HEADLINE,
    Equality,
    Mode,
    PassFigures,
    Report,
    Row,
    Setting,
    report_from_file,
    report_from_rows,
)
from judo_edge.bench.statistics import Summary, summary_from_values
from judo_edge.bench.table import comparison_table, equality_text, peer_table, score_text, stage_table
from judo_edge.errors import ConfigError, InputError

SVG = "{http://www.w3.org/2000/svg}"


def summary(*values: float) -> Summary:
    found = summary_from_values(values)
    assert found is not None
    return found


def row(name: str = "nano", **changes: object) -> Row:
    plain = Row(
        passes_per_part=1.5, limit_ratio=1.2, speedup_vs_greedy=3.0, speedup_vs_best_peer=None, p50_ms=20.0,
        p99_ms=29.8, bundle=name, digest="d" * 64, latency=summary(10, 20, 30), greedy=summary(60, 60),
        limit=summary(15, 15),
        limit_ratio_median=1.2, speedup_vs_greedy_median=3.0,
        stages={"vision": summary(8, 8), "prefill": summary(11, 11), "rest": summary(1, 1)},
        greedy_stages={"vision": summary(8, 8), "decode": summary(52, 52)}, milestones={"mask": summary(12, 14)},
        first_verdict_ratio=None, passes={"prefill": PassFigures(per_part=1, rows=260, wanted=70, kept=0)},
        prompt_tokens=191, tokens_per_reply=70, drafted_per_reply=80, accepted_per_reply=66.5, vision_passes_per_part=1,
        equality=Equality(equal=3, compared=3), limit_parts=3, limit_agrees=3, undecidable=0, event_violations=(),
        num_event_violations=0, joules_per_part=None, peak_rss_bytes=182_000_000,
    )  # fmt: skip
    return plain.model_copy(update=changes)


def setting(**changes: object) -> Setting:
    plain = Setting(
        workload="good-line", mode=Mode.LATENCY, source="drawn: board-0", seed=0, cameras=1, rounds=3, warm_up=1,
        repeated_photos=0, engine="onnxruntime", threads=1, energy="not measured", version="0", machine="a <b>",
    )  # fmt: skip
    return plain.model_copy(update=changes)


PEERS = {"slow & sure": summary(90, 90), "quick": summary(50, 50)}
EQUAL = {"slow & sure": 3, "quick": 2}
"""Photos to which they wrote the plain greedy reply."""


def test_the_line_of_json_begins_with_the_headline() -> None:
    content = json.loads(report_from_rows(setting(), (row(), row("other"))).to_json())
    assert tuple(content)[: len(HEADLINE)] == HEADLINE
    assert [content[key] for key in HEADLINE] == [1.5, 1.2, 3.0, None, 20.0, 29.8]
    assert [one["bundle"] for one in content["rows"]] == ["nano", "other"] and content["rows"][0][
        "joules_per_part"
    ] is None


def test_rows_are_compared_with_the_fastest_rival() -> None:
    report = report_from_rows(setting(), (row(), row("other", latency=summary(25, 25))), PEERS, EQUAL)
    assert [one.speedup_vs_best_peer for one in report.rows] == [2.5, 2.0] and report.speedup_vs_best_peer == 2.5


@pytest.mark.parametrize(
    ("mode", "metric", "milliseconds"), [(Mode.SINGLE_STREAM, "p90", 28.0), (Mode.MULTI_STREAM, "p99", 29.8)]
)
def test_a_mode_scores_its_own_quantile_and_says_what_differs(mode: Mode, metric: str, milliseconds: float) -> None:
    score = report_from_rows(setting(mode=mode, cameras=4), (row(),)).score
    assert score is not None and (score.metric, score.milliseconds) == (metric, pytest.approx(milliseconds))
    assert score_text(score).startswith(f"MLPerf-style {mode.value}, 4 photo(s) a query: {metric} ")
    assert "no LoadGen" in score_text(score)


def test_the_plain_mode_has_no_score() -> None:
    assert report_from_rows(setting(), (row(),)).score is None


def test_a_report_knows_whether_it_is_fine() -> None:
    fine = report_from_rows(setting(), (row(), row("other")))
    lossy = report_from_rows(
        setting(), (row(), row("other", equality=Equality(equal=2, compared=3, differences=("x",))))
    )
    wrong = report_from_rows(setting(), (row(num_event_violations=1),))
    assert fine.is_lossless and fine.is_orderly and not lossy.is_lossless and not wrong.is_orderly
    assert equality_text(lossy.rows[1]) == "other: 2 of 3 replies equal plain greedy token for token; x"


def test_a_report_is_read_from_a_file_or_the_end_of_an_output(tmp_path: Path) -> None:
    report = report_from_rows(setting(mode=Mode.SINGLE_STREAM), (row(),), PEERS, EQUAL)
    path = tmp_path / "out.txt"
    path.write_text(f"a table\n{report.to_json()}\n")
    assert report_from_file(path) == report


@pytest.mark.parametrize("content", ["", "no json", "[1]", "\xff"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"r\.json.*wanted: a report of judo-edge bench; do: write one with --json"):
        report_from_file(path)


def test_a_report_with_another_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({**json.loads(report_from_rows(setting(), (row(),)).to_json()), "speed": 1}))
    with pytest.raises(ConfigError, match="unknown key 'speed'"):
        report_from_file(path)


def test_the_table_puts_bundles_side_by_side_and_says_what_was_not_measured() -> None:
    report = report_from_rows(setting(), (row(), row("other", limit_ratio=None, limit=None)), PEERS, EQUAL)
    header, rows = comparison_table(report)
    cells = {name: values for name, *values in rows}
    assert header == ("", "nano", "other") and all(len(line) == 3 for line in rows)
    assert cells["time over the engine's limit"] == ["1.200", "not measured"]
    assert cells["limit passes that give the reply"] == ["3 of 3", "not measured"]
    assert cells["J per part"] == ["not measured"] * 2 and cells["mask: p50 / p99"] == ["13.0 / 14.0"] * 2
    assert cells["first verdict: p50 / p99"] == ["not measured"] * 2
    assert cells["times faster than best rival"] == ["2.5", "2.5"] and cells["peak memory, MB"] == ["182.0"] * 2


def test_the_tables_of_stages_and_rivals() -> None:
    report = report_from_rows(setting(), (row(),), PEERS, EQUAL)
    rows = {line[0]: line[1:] for line in stage_table(report.rows[0])[1]}
    assert rows["vision"] == ("8.00", "8.00", "8.00", "8.00", "0.00", "0.00", "8.00")
    assert rows["prefill"][-1] == "-" and rows["total"][0] == "20.00" and rows["total"][-1] == "60.00"
    assert peer_table(report)[1][1] == ("quick", "50.0", "50.0", "50.0", "50.0", "50.0", "2 of 3")


@pytest.fixture
def report() -> Report:
    return report_from_rows(setting(cameras=2), (row(), row("a <b> & c")), PEERS, EQUAL)


def test_the_plot_names_bundles_stages_and_rivals_and_says_numbers(report: Report) -> None:
    root = ElementTree.fromstring(svg_from_report(report))
    shown = [str(item.text) for item in root.iter(f"{SVG}text")]
    hints = [str(item.text) for item in root.iter(f"{SVG}title")]
    for wanted in (
        "nano",
        "nano, no drafts",
        "nano, limit",
        "a <b> & c",
        "slow & sure",
        "vision",
        "decode",
        "rest",
        "ms",
    ):
        assert wanted in shown
    assert "nano, prefill: 22 ms" in hints and "nano, p99: 29.8 ms" in hints and "quick, rival: 50 ms" in hints


def test_bars_are_as_long_as_their_times_and_lie_inside(report: Report) -> None:
    root = ElementTree.fromstring(svg_from_report(report))
    _, _, width, height = (float(value) for value in root.attrib["viewBox"].split())
    bars = {str(item[0].text): item for item in root.iter(f"{SVG}rect") if len(item)}
    vision, prefill = bars["nano, vision: 16 ms"], bars["nano, prefill: 22 ms"]
    assert float(prefill.attrib["x"]) == pytest.approx(float(vision.attrib["x"]) + float(vision.attrib["width"]))
    assert float(prefill.attrib["width"]) / float(vision.attrib["width"]) == pytest.approx(22 / 16, rel=1e-3)
    for item in bars.values():
        assert float(item.attrib["x"]) + float(item.attrib["width"]) <= width and float(item.attrib["y"]) <= height - 50
