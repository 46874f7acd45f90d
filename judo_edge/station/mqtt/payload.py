"""What is published: JSON in the manner of Sparkplug B, with this station's own names.

Every payload is an object with `timestamp` (milliseconds since 1970, UTC), `seq` (0 to 255, then 0 again, over all
topics; 0 is the first after a connection was made) and `metrics`, a list of `{"name", "dataType", "value"}`. Names are
those of `results.Result`, `Status` and `Condition`; those inside a mapping are joined by a slash
(`evidence/feature_distance`). `dataType` is one of Sparkplug B's names: Boolean, Int64, Double, String; a metric
without a value has `"isNull": true` in place of `value`.

Beside that, a result carries `result_id`, by which a subscriber drops what comes a second time; a state carries
`state`, the name of a `states.State`, or "Offline"; a condition carries `condition`, its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from judo_edge.station.results import Condition, Result, Status

OFFLINE = {"state": "Offline"}
"""The last will: the broker publishes it when the station is gone without a word."""


def payload_of_result(result: Result, seq: int) -> bytes:
    """Write a result; its `timestamp` is when the verdict was made."""
    record = result.model_dump(mode="json", exclude={"mask"})
    if result.mask is not None:
        cells = json.dumps(result.mask.cells, separators=(",", ":"))
        record["mask"] = {"rows": result.mask.rows, "cols": result.mask.cols, "cells": cells}
    return _payload(seq, result.created, record, result_id=result.result_id)


def payload_of_state(status: Status, seq: int, at: str) -> bytes:
    """Write the station's state, counters, latency and what is prepared."""
    names = ("station", "is_simulating", "running_job", "num_waiting", "last_number", "heartbeat")
    record = status.model_dump(mode="json", include={*names, "counters", "latency", "challenge"})
    record["recipes"] = {recipe.external_id: recipe.internal_id for recipe in status.recipes}
    record["num_conditions"] = sum(condition.is_active for condition in status.conditions)
    return _payload(seq, at, record, state=status.state.value)


def payload_of_condition(condition: Condition, seq: int, at: str) -> bytes:
    """Write a condition that was raised, changed or cleared."""
    return _payload(seq, at, condition.model_dump(mode="json", exclude={"name"}), condition=condition.name)


def payload_offline(seq: int, at: str) -> bytes:
    """Write that the station is off, as the last will does."""
    return _payload(seq, at, {}, **OFFLINE)


def _payload(seq: int, at: str, record: Mapping[str, Any], **head: str) -> bytes:
    milliseconds = round(datetime.fromisoformat(at).timestamp() * 1000)
    content = {**head, "timestamp": milliseconds, "seq": seq, "metrics": list(_metrics(record))}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _metrics(record: Mapping[str, Any], above: str = "") -> Iterator[dict[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _metrics(value, f"{above}{name}/")
        elif value is None:
            yield {"name": above + name, "dataType": "String", "isNull": True}
        else:
            yield {"name": above + name, "dataType": _TYPES[type(value)], "value": value}


_TYPES = {bool: "Boolean", int: "Int64", float: "Double", str: "String"}
