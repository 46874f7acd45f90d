"""Exported results: every field typed, in batches, whole files or none; CSV that a spreadsheet can open safely."""

import csv
import json
from datetime import datetime, timezone

import pytest

from judo_edge.core import Decision
from judo_edge.errors import OutputError
from judo_edge.station import parquet
from judo_edge.station.results import Cells, Code, LateResult, Result, ResultState
from judo_edge.station.tables import Exported, columns

AT = "2026-11-25T01:02:03.456789+00:00"


def result(number=1, **changed):
    return Result(**{
        "number": number, "result_id": f"r-{number}", "job_id": "j", "state": ResultState.COMPLETED,
        "code": Code.INSPECTED, "decision": Decision.NOK, "reason": "a scratch", "created": AT, "triggered": AT,
        "score": 1.5, "evidence": {"feature_distance": 0.25},
        "mask": Cells(rows=16, cols=16, cells=((1, 2), (3, 4))), **changed,
    })  # fmt: skip


FULL = Exported(
    result(review="OK", judo=Decision.OK), "eva", "only dust", AT,
    LateResult(job_id="j", arrived=AT, seconds_late=0.5, decision=Decision.NOK, reason="late", score=2.0),
)  # fmt: skip
BARE = Exported(result(2, score=None, evidence={}, mask=None, code=Code.DEADLINE, decision=Decision.NOT_DECIDABLE))


def test_every_field_of_a_result_has_a_column():
    names = [column.name for column in columns()]
    assert set(Result.model_fields) - {"mask"} <= set(names)
    assert len(set(names)) == len(names)


def test_parquet_is_typed_and_whole(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow.parquet import read_table

    out = tmp_path / "results.parquet"
    assert parquet.write_parquet(iter([FULL, BARE]), out) == 2
    table = read_table(out)
    types = {field.name: field.type for field in table.schema}
    assert types["created"] == pyarrow.timestamp("us", "UTC")
    assert (types["number"], types["score"]) == (pyarrow.int64(), pyarrow.float64())
    full, bare = table.to_pylist()
    assert full["created"] == datetime(2026, 11, 25, 1, 2, 3, 456789, timezone.utc)
    assert dict(full["evidence"]) == {"feature_distance": 0.25}
    assert full["mask_cells"] == [{"row": 1, "col": 2}, {"row": 3, "col": 4}]
    assert (full["decision"], full["judo"], full["review"]) == ("NOK", "OK", "OK")
    assert (full["reviewer"], full["review_note"], full["late_seconds"]) == ("eva", "only dust", 0.5)
    assert (full["code"], full["code_name"]) == (0, "INSPECTED")
    nothing = ("score", "judo", "mask_cells", "acquired", "reviewed", "late_arrived", "decision_version")
    assert {name: bare[name] for name in nothing} == dict.fromkeys(nothing)
    assert list(tmp_path.iterdir()) == [out]


def test_parquet_is_streamed_in_batches(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow.parquet import ParquetFile

    monkeypatch.setattr(parquet, "BATCH", 100)
    out, taken = tmp_path / "results.parquet", []

    def rows():
        for number in range(1, 251):
            taken.append(number)
            yield Exported(result(number))

    parquet.write_parquet(rows(), out)
    file = ParquetFile(out)
    assert [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)] == [100, 100, 50]
    assert file.read(["number"])["number"].to_pylist() == taken


@pytest.mark.parametrize("write", [parquet.write_parquet, parquet.write_csv])
def test_what_was_there_stays_until_all_is_written(tmp_path, write):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    out = tmp_path / "results"
    out.write_bytes(b"earlier")
    with pytest.raises(OutputError, match="--force"):
        write([FULL], out)

    def broken():
        yield FULL
        raise RuntimeError("the ledger broke")

    with pytest.raises(RuntimeError):
        write(broken(), out, force=True)
    assert out.read_bytes() == b"earlier"
    with pytest.raises(OutputError, match="parent folder"):
        write([FULL], tmp_path / "none" / "results")
    assert write([FULL], out, force=True) == 1
    assert list(tmp_path.iterdir()) == [out]


def test_csv_opens_in_a_spreadsheet(tmp_path):
    out = tmp_path / "results.csv"
    rows = [FULL, BARE, Exported(result(3, part_id='=HYPERLINK("x")', reason='says "no", twice\n', score=-1.5))]
    assert parquet.write_csv(rows, out) == 3
    with out.open(encoding="utf-8", newline="") as stream:
        full, bare, third = csv.DictReader(stream)
    assert (full["created"], full["mask_cells"]) == (AT, "[[1, 2], [3, 4]]")
    assert json.loads(full["evidence"]) == {"feature_distance": 0.25}
    assert bare["score"] == ""
    assert (third["part_id"], third["score"]) == ('\'=HYPERLINK("x")', "-1.5")
    assert third["reason"] == 'says "no", twice\n'
