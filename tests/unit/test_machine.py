"""What the machine says of its processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from judo_edge.machine import cpu_flags


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        (
            "processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n\nprocessor\t: 1\nflags\t\t: fpu\n",
            {"fpu", "avx2", "avx_vnni"},
        ),
        ("processor\t: 0\nFeatures\t: asimd asimddp\n", set()),
        (None, set()),
    ],
)
def test_flags_are_those_of_the_first_x86_core(
    text: str | None, flags: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr("judo_edge.machine._PROC", tmp_path)
    assert cpu_flags() == flags
