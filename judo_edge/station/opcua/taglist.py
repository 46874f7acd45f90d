"""The flat tags for PLCs: names, types, meanings, and how a result fills them.

Handshake: write TriggerPartId (and TriggerMeasId), then Trigger true; TriggerAck follows it when the part was taken or
refused, and false again when Trigger is false. Ok, Nok and NotDecidable are false from the trigger on until all fields
of a result are written; then Done toggles. A refused trigger has no result: Error and NotDecidable are raised,
ErrorCode says why, ResultId is empty, and Done toggles too, so every trigger has its answer. Ok is only ever true with
Error and Simulated false. Where a part is triggered before the one before it has its answer, Busy stays true, answers
come in any order, and PartId tells whose one is. Write a result's id to Ack when it was read; Overwritten counts
results that were replaced before that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from asyncua import ua

from judo_edge.core import Decision
from judo_edge.station.opcua.records import number_or_nan
from judo_edge.station.results import Code, Result, ResultState

_V = ua.VariantType


class Tag(NamedTuple):
    """One tag."""

    name: str
    variant: ua.VariantType
    meaning: str
    is_writable: bool = False


TAGS = (
    Tag("Ready", _V.Boolean, "The station takes a trigger"),
    Tag("Busy", _V.Boolean, "A part was triggered and has no verdict yet"),
    Tag("Done", _V.Boolean, "Toggles when a result, or the refusal of a trigger, is complete"),
    Tag("Ok", _V.Boolean, "The part is good; false as soon as the next one is triggered"),
    Tag("Nok", _V.Boolean, "The part is bad"),
    Tag("NotDecidable", _V.Boolean, "Nothing could be found out: treat the part as bad"),
    Tag("Error", _V.Boolean, "Something was wrong with the inspection or the trigger, see ErrorCode"),
    Tag("Simulated", _V.Boolean, "The result is only for trying, see SimulationMode; Ok then stays false"),
    Tag("ErrorCode", _V.Int32, "0; above 0 why the part could not be inspected; below 0 why the trigger was refused"),
    Tag("Number", _V.UInt32, "Counts results, also over restarts; a gap means that results were missed"),
    Tag("PartId", _V.String, "Serial number that the trigger gave"),
    Tag("MeasId", _V.String, "Measurement id that the trigger gave"),
    Tag("ResultId", _V.String, "Id of the result, to be acknowledged"),
    Tag("Score", _V.Double, "Anomaly score, larger is worse; NaN when there is none"),
    Tag("Threshold", _V.Double, "What Score was compared with; NaN when there is none"),
    Tag("Reason", _V.String, "Why, in words"),
    Tag("NumCells", _V.Int32, "Defective cells of the mask"),
    Tag("MissedTriggers", _V.UInt32, "Triggers that were missed or refused since the ledger began"),
    Tag("Overwritten", _V.UInt32, "Results that were replaced here before Ack was written"),
    Tag("State", _V.String, "State of the station after OPC 40100-1; empty while its core is away"),
    Tag("Heartbeat", _V.UInt32, "Counts up once a second while verdicts can be delivered"),
    Tag("PlcAlive", _V.Boolean, "PlcHeartbeat was written in time; true before it was first written"),
    Tag("TriggerAck", _V.Boolean, "Follows Trigger when it was seen"),
    Tag("Trigger", _V.Boolean, "Rising edge: inspect the part named in TriggerPartId", True),
    Tag("TriggerPartId", _V.String, "Serial number for the next trigger", True),
    Tag("TriggerMeasId", _V.String, "Measurement id for the next trigger", True),
    Tag("Ack", _V.String, "Write a ResultId when it was read", True),
    Tag("PlcHeartbeat", _V.UInt32, "Write another number at least once a second", True),
)


def fields_of_result(result: Result) -> dict[str, Any]:
    """Return the tags of a result; nothing but an inspected, completed part of the line that is OK sets Ok."""
    is_sound = result.code is Code.INSPECTED and result.state is ResultState.COMPLETED
    is_ok = result.decision is Decision.OK and is_sound and not result.is_simulated
    is_nok = result.decision is Decision.NOK
    return {
        "Nok": is_nok,
        "NotDecidable": not is_ok and not is_nok,
        "Error": not is_sound,
        "Simulated": result.is_simulated,
        "ErrorCode": int(result.code),
        "Number": result.number & 0xFFFFFFFF,
        "PartId": result.part_id,
        "MeasId": result.meas_id,
        "ResultId": result.result_id,
        "Score": number_or_nan(result.score),
        "Threshold": number_or_nan(result.threshold),
        "Reason": result.reason,
        "NumCells": len(result.mask.cells) if result.mask else 0,
        "Ok": is_ok,
    }
