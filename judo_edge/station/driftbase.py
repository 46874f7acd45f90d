"""What good parts looked like when a version of a recipe was new: a file per version, collected once.

Knows nothing of how it is compared.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from judo_edge.config import Frozen
from judo_edge.files import output_errors, write_atomic
from judo_edge.station.results import utc_now

_log = logging.getLogger(__name__)


class DriftBase(Frozen):
    """The signs of the first good parts of one version of a recipe."""

    format_version: Literal[1] = 1
    internal_id: str
    began: str = ""
    """When the first of them was judged; UTC, ISO 8601."""
    values: tuple[dict[str, float], ...] = ()
    """One mapping from sign to value per part."""

    def with_values(self, values: dict[str, float]) -> DriftBase:
        """Return the base with one part more."""
        return self.model_copy(update={"began": self.began or utc_now(), "values": (*self.values, values)})

    def shortened(self, size: int) -> DriftBase:
        """Return the base with at most its first `size` parts."""
        return self.model_copy(update={"values": self.values[:size]})


def base_from_file(path: Path, internal_id: str) -> DriftBase:
    """Read a base; an empty one when there is none, or when the file is damaged or of another version."""
    try:
        base = DriftBase.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return DriftBase(internal_id=internal_id)
    except (OSError, ValidationError) as error:
        _log.warning("%s cannot be read (%s): the base is collected anew", path, type(error).__name__)
        return DriftBase(internal_id=internal_id)
    return base if base.internal_id == internal_id else DriftBase(internal_id=internal_id)


def write_base(path: Path, base: DriftBase) -> None:
    """Replace the file; OutputError when it cannot be written."""
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, base.model_dump_json().encode() + b"\n", force=True)
