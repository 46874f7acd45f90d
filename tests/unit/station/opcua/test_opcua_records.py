"""Results as tags and as structures: the verdict in every place, and no OK by fault."""

import math

import pytest

pytest.importorskip("asyncua")

from asyncua import ua

from judo_edge.core import Decision
from judo_edge.station.opcua.basetypes import EPOCH, ResultEvaluationEnum
from judo_edge.station.opcua.records import (
    CONTENT,
    content_from_result,
    internal_id,
    machinery_from_result,
    time_from_text,
    vision_from_result,
)
from judo_edge.station.opcua.taglist import TAGS, fields_of_result
from judo_edge.station.opcua.types import ConfigurationIdDataType
from judo_edge.station.results import Cells, Code, Result, ResultState

CONFIGURATION = ConfigurationIdDataType(Id="c1")


def result(**changed):
    now = "2026-11-25T01:02:03.000004+00:00"
    given = {
        "number": 5, "result_id": "r5", "job_id": "j5", "state": ResultState.COMPLETED, "decision": Decision.NOK,
        "code": Code.INSPECTED, "reason": "a scratch", "part_id": "p5", "meas_id": "m5", "score": 2.5,
        "mask": Cells(rows=16, cols=16, cells=((2, 3), (4, 5))), "created": now, "triggered": now,
    }  # fmt: skip
    return Result(**(given | changed))


@pytest.mark.parametrize("decision", Decision)
@pytest.mark.parametrize("code", Code)
@pytest.mark.parametrize("state", ResultState)
def test_only_a_completed_inspection_sets_ok(decision, code, state):
    tags = fields_of_result(result(decision=decision, code=code, state=state))
    is_sound = code is Code.INSPECTED and state is ResultState.COMPLETED
    assert tags["Ok"] == (is_sound and decision is Decision.OK)
    assert [tags["Ok"], tags["Nok"], tags["NotDecidable"]].count(True) == 1
    assert tags["Error"] is not is_sound
    assert not (tags["Ok"] and tags["Error"])


def test_tags_of_a_result_are_tags():
    assert fields_of_result(result()).keys() <= {tag.name for tag in TAGS}
    assert len({tag.name for tag in TAGS}) == len(TAGS)


def test_content_is_in_the_documented_order():
    content = dict(zip(CONTENT, content_from_result(result()), strict=True))
    assert content["Verdict"].Value == "NOK" and content["Evaluation"].Value == 2
    assert content["Cells"].Value == [2, 3, 4, 5] and content["Cells"].VariantType is ua.VariantType.UInt16
    assert (content["NumCells"].Value, content["Rows"].Value) == (2, 16)
    assert content["Score"].Value == 2.5 and math.isnan(content["Threshold"].Value)
    assert all(one.Value is not None for one in content.values())


def test_a_verdict_is_the_standards_evaluation():
    for decision, wanted in (
        (Decision.OK, ResultEvaluationEnum.OK),
        (Decision.NOK, ResultEvaluationEnum.NotOK),
        (Decision.NOT_DECIDABLE, ResultEvaluationEnum.NotDecidable),
    ):
        meta = machinery_from_result(result(decision=decision, code=Code.DEADLINE), "c1").ResultMetaData
        assert (meta.ResultEvaluation, meta.ResultEvaluationCode) == (wanted, 310)


def test_ids_and_times_arrive():
    found = vision_from_result(result(internal_recipe_id="00ff"), CONFIGURATION)
    assert found.InternalRecipeId.Hash == b"\x00\xff"
    assert (found.PartId.Id, found.MeasId.Id, found.JobId.Id) == ("p5", "m5", "j5")
    assert found.CreationTime.isoformat() == "2026-11-25T01:02:03.000004+00:00"
    assert internal_id("no digest").Hash is None
    assert time_from_text("") == EPOCH


@pytest.mark.parametrize("decision", Decision)
def test_what_is_simulated_never_sets_ok_and_says_so(decision):
    tags = fields_of_result(result(decision=decision, is_simulated=True))
    assert tags["Simulated"] and not tags["Ok"]
    assert [tags["Nok"], tags["NotDecidable"]].count(True) == 1
    assert fields_of_result(result())["Simulated"] is False
