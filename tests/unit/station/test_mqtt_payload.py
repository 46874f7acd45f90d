"""What is published: typed metrics that say all of a result, state and condition; unsafe settings are refused."""

import json

import pytest

from judo_edge.core import Decision
from judo_edge.errors import ConfigError
from judo_edge.station.config import MqttTable
from judo_edge.station.mqtt.link import check_table
from judo_edge.station.mqtt.payload import payload_of_condition, payload_of_result, payload_of_state, payload_offline
from judo_edge.station.results import (
    Cells,
    Code,
    Condition,
    Counters,
    Recipe,
    Result,
    ResultState,
    Severity,
    Status,
)
from judo_edge.station.states import State

AT = "2026-11-25T01:02:03.456789+00:00"
MILLISECONDS = 1795568523457


def read(payload):
    content = json.loads(payload)
    metrics = {metric["name"]: metric for metric in content["metrics"]}
    assert len(metrics) == len(content["metrics"])
    return content, metrics


def test_a_result_is_told_whole():
    result = Result(
        number=7, result_id="r-7", job_id="j", state=ResultState.COMPLETED, decision=Decision.NOK, code=Code.INSPECTED,
        reason="Kratzer ä", part_id="S1", score=2.5, evidence={"feature_distance": 0.25}, created=AT, triggered=AT,
        mask=Cells(rows=16, cols=16, cells=((1, 2), (3, 4))),
    )  # fmt: skip
    content, metrics = read(payload_of_result(result, 255))
    assert (content["timestamp"], content["seq"], content["result_id"]) == (MILLISECONDS, 255, "r-7")
    assert metrics["decision"] == {"name": "decision", "dataType": "String", "value": "NOK"}
    assert metrics["number"] == {"name": "number", "dataType": "Int64", "value": 7}
    assert metrics["is_simulated"]["dataType"] == "Boolean"
    assert metrics["evidence/feature_distance"] == {
        "name": "evidence/feature_distance", "dataType": "Double", "value": 0.25,
    }  # fmt: skip
    assert metrics["mask/cells"]["value"] == "[[1,2],[3,4]]"
    assert metrics["threshold"] == {"name": "threshold", "dataType": "String", "isNull": True}
    assert metrics["reason"]["value"] == "Kratzer ä"
    scalars = set(Result.model_fields) - {"evidence", "seconds", "mask"}
    assert scalars <= set(metrics) | {"mask"}


def test_a_state_and_a_condition():
    lid = Recipe(
        external_id="lid", internal_id="a1", part="lid", bundle="b", bundle_digest="", references_digest="",
        reference_ids=(),
    )  # fmt: skip
    condition = Condition(name="disk", severity=Severity.WARNING, code=9, text="full", since=AT)
    status = Status(
        station="line-1", state=State.READY, recipes=(lid,), counters=Counters(ok=3), conditions=(condition,)
    )
    content, metrics = read(payload_of_state(status, 0, AT))
    assert content["state"] == "Ready"
    assert (metrics["counters/ok"]["value"], metrics["recipes/lid"]["value"]) == (3, "a1")
    assert metrics["num_conditions"]["value"] == 1
    content, metrics = read(payload_of_condition(condition, 1, AT))
    assert (content["condition"], metrics["severity"]["value"], metrics["is_active"]["value"]) == ("disk", 400, True)
    assert read(payload_offline(3, AT))[0]["state"] == "Offline"


def test_a_password_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "password"
    path.write_text("secret\n")
    path.chmod(0o640)
    table = MqttTable(user="line", password_file=path)
    with pytest.raises(ConfigError, match="others may read") as caught:
        check_table(table)
    assert "secret" not in str(caught.value)
    path.chmod(0o600)
    assert check_table(table) == "secret"
    with pytest.raises(ConfigError, match="cannot be read"):
        check_table(MqttTable(user="line", password_file=tmp_path / "none"))


def test_a_password_does_not_leave_the_machine_without_tls(tmp_path):
    with pytest.raises(ConfigError, match="readable on the way"):
        check_table(MqttTable(user="line", host="broker.example"))
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"mqtt\.ca"):
        check_table(MqttTable(host="broker.example", ca=tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match="forged on the way"):
        check_table(MqttTable(host="broker.example"))
    assert check_table(MqttTable(host="broker.example", is_plain=True)) == ""
    with pytest.raises(ConfigError, match="readable on the way"):
        check_table(MqttTable(user="line", host="broker.example", is_plain=True))
