"""What commands print: tables of any width."""

from __future__ import annotations

import pytest

from judo_edge.terminal import print_table


def test_a_table_in_a_pipe_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    print_table(("name", "[meaning]"), [("one", long), (long, "[b]two")])
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{'name':<302}[meaning]", f"{'one':<302}{long}", f"{long}  [b]two"]
