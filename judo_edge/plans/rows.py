"""The environments that plans are built for, as rows of a table, and the check of an environment against them.

A row says where a builder's version is known to exist, for which GPUs, and which graph dialect it reads. JetPack's
versions follow NVIDIA's release notes; that a row is listed does not say that it was measured here (see LOG.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from judo_edge.errors import PlanError
from judo_edge.plans.environment import Backend, Environment

Version = tuple[int, ...]
Dialects = tuple[str, ...]

_AMPERE_TO_HOPPER = ("8.0", "8.6", "8.9", "9.0")
_BLACKWELL = ("10.0", "12.0")
_BOTH: Dialects = ("legacy", "modern")
_LEGACY: Dialects = ("legacy",)


@dataclass(frozen=True)
class Row:
    """One supported environment."""

    name: str
    backend: Backend
    platform: str
    """Regular expression that the whole platform matches."""
    first: Version
    """Lowest version of the builder."""
    below: Version
    """First version that no longer belongs to the row."""
    cuda: str
    capabilities: tuple[str, ...]
    dialects: Dialects

    def __str__(self) -> str:
        """Say it for a reader."""
        versions = f"{'.'.join(map(str, self.first))} up to before {'.'.join(map(str, self.below))}"
        where = f"{self.name}: {self.backend} {versions}, CUDA {self.cuda}"
        return f"{where}, compute capability {'/'.join(self.capabilities)}, dialect {'/'.join(self.dialects)}"

    def fits(self, environment: Environment) -> bool:
        """Tell whether an environment belongs to this row, whatever the dialect."""
        return (
            self.backend == environment.backend
            and re.fullmatch(self.platform, environment.platform) is not None
            and self.first <= version_from_text(environment.version) < self.below
            and environment.compute_capability in self.capabilities
        )


ROWS: tuple[Row, ...] = (
    Row("JetPack 6.2 (Orin)", "tensorrt", r"jetson-36\..*", (10, 3), (10, 4), "12.6", ("8.7",), _LEGACY),
    Row("JetPack 7.0, 7.1 (Thor)", "tensorrt", r"jetson-38\..*", (10, 13), (10, 14), "13.0", ("11.0",), _LEGACY),
    Row("JetPack 7.2 (Orin, Thor)", "tensorrt", r"jetson-39\..*", (10, 16), (10, 17), "13.2", ("8.7", "11.0"), _BOTH),
    Row("JetPack 7.2.2", "tensorrt", r"jetson-39\..*", (11, 4, 1), (12,), "13.2", ("8.7", "11.0"), _BOTH),
    Row("workstation", "tensorrt", r"linux-x86_64", (10, 3), (10, 15), "12", _AMPERE_TO_HOPPER, _LEGACY),
    Row("workstation", "tensorrt", r"linux-x86_64", (10, 8), (10, 15), "12.8", _BLACKWELL, _LEGACY),
    Row("workstation", "tensorrt", r"linux-x86_64", (10, 15), (12,), "12-13", _AMPERE_TO_HOPPER + _BLACKWELL, _BOTH),
    Row(
        "RTX",
        "tensorrt_rtx",
        r"(linux|win32)-(x86_64|amd64|aarch64)",
        (1, 7),
        (2,),
        "12.9-13",
        ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1"),
        _BOTH,
    ),
)
"""Sources: NVIDIA's JetPack and TensorRT release notes; for RTX the compute capabilities that its builder lists."""


def check_environment(environment: Environment, dialect: str, rebuild: str, rows: tuple[Row, ...] = ROWS) -> Row:
    """Return the row of an environment whose builder reads `dialect`.

    Raises PlanError that names what was found, the rows of the same builder, and `rebuild`, the command to run where a
    row fits; for a dialect that the builder does not read, the dialects that it does.
    """
    fitting = [row for row in rows if row.fits(environment)]
    for row in fitting:
        if dialect in row.dialects:
            return row
    if fitting:
        wanted = f"a bundle of the dialect {' or '.join(fitting[0].dialects)}"
        raise PlanError(f"{environment} ({fitting[0].name}) does not read {dialect} graphs", wanted, "export it again")
    listed = "; ".join(str(row) for row in rows if row.backend == environment.backend)
    raise PlanError(f"no supported environment: {environment}", listed, f"on a supported one run: {rebuild}")


def version_from_text(text: str) -> Version:
    """Return the leading numbers of a version, e.g. (10, 13, 3, 9) of `10.13.3.9.post1`."""
    return tuple(int(part) for part in re.match(r"\d+(\.\d+)*", text)[0].split("."))  # type: ignore[index]
