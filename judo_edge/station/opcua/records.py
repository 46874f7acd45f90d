"""Records of a station as the structures of both companion specifications."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timezone

from asyncua import ua

from judo_edge.core import Decision
from judo_edge.station.opcua import machinerytypes, types
from judo_edge.station.opcua.basetypes import EPOCH, ResultEvaluationEnum
from judo_edge.station.results import Recipe, Result

EVALUATIONS = {
    Decision.OK: ResultEvaluationEnum.OK,
    Decision.NOK: ResultEvaluationEnum.NotOK,
    Decision.NOT_DECIDABLE: ResultEvaluationEnum.NotDecidable,
}
CONTENT = (
    *("Verdict", "Evaluation", "Code", "Reason", "Score", "Threshold", "Number", "MissedBefore", "NumCells"),
    *("Rows", "Cols", "Cells", "Camera", "ReferenceId", "BundleDigest", "ReferencesDigest"),
)
"""What ResultContent holds, in this order.

Verdict String (OK, NOK, NOT_DECIDABLE); Evaluation Int32 (1 OK, 2 NotOK, 3 NotDecidable); Code Int32 (0 inspected, see
`results.Code`); Reason String; Score and Threshold Double (NaN when there is none); Number UInt32 counts results;
MissedBefore UInt32; NumCells, Rows, Cols UInt16; Cells UInt16[] as row, column, row, column from one; the rest String.
"""
_U16 = ua.VariantType.UInt16


def content_from_result(result: Result) -> list[ua.Variant]:
    """Return the ResultContent; its order is `CONTENT`."""
    cells = [number for cell in result.mask.cells for number in cell] if result.mask else []
    rows, cols = (result.mask.rows, result.mask.cols) if result.mask else (0, 0)
    variant = ua.VariantType
    return [
        ua.Variant(result.decision.value, variant.String),
        ua.Variant(int(EVALUATIONS[result.decision]), variant.Int32),
        ua.Variant(int(result.code), variant.Int32),
        ua.Variant(result.reason, variant.String),
        ua.Variant(number_or_nan(result.score), variant.Double),
        ua.Variant(number_or_nan(result.threshold), variant.Double),
        ua.Variant(result.number & 0xFFFFFFFF, variant.UInt32),
        ua.Variant(result.missed_before & 0xFFFFFFFF, variant.UInt32),
        *(ua.Variant(number, _U16) for number in (len(cells) // 2, rows, cols)),
        ua.Variant(cells, _U16, is_array=True),
        *_strings(result.camera, result.reference_id, result.bundle_digest, result.references_digest),
    ]


def _strings(*texts: str) -> Sequence[ua.Variant]:
    return [ua.Variant(one, ua.VariantType.String) for one in texts]


def vision_from_result(result: Result, configuration: types.ConfigurationIdDataType) -> types.ResultDataType:
    """Return a result as OPC 40100-1 writes it."""
    return types.ResultDataType(
        ResultId=types.ResultIdDataType(Id=ua.String(result.result_id)),
        HasTransferableDataOnFile=False,
        IsPartial=False,
        IsSimulated=result.is_simulated,
        ResultState=ua.Int32(result.state),
        MeasId=types.MeasIdDataType(Id=ua.String(result.meas_id)),
        PartId=types.PartIdDataType(Id=ua.String(result.part_id)),
        ExternalRecipeId=external_id(result.external_recipe_id),
        InternalRecipeId=internal_id(result.internal_recipe_id),
        ProductId=types.ProductIdDataType(Id=ua.String(result.product_id)),
        ExternalConfigurationId=configuration,
        InternalConfigurationId=configuration,
        JobId=types.JobIdDataType(Id=ua.String(result.job_id)),
        CreationTime=time_from_text(result.created),
        ProcessingTimes=types.ProcessingTimesDataType(**_times(result)),
        ResultContent=content_from_result(result),
    )


def machinery_from_result(result: Result, configuration: str) -> machinerytypes.MachineryResultDataType:
    """Return a result as OPC 40001-101 writes it, with the verdict in ResultEvaluation."""
    meta = machinerytypes.ResultMetaDataType(
        ResultId=ua.String(result.result_id),
        HasTransferableDataOnFile=False,
        IsPartial=False,
        IsSimulated=result.is_simulated,
        ResultState=ua.Int32(result.state),
        StepId=ua.String(result.meas_id),
        PartId=ua.String(result.part_id),
        ExternalRecipeId=ua.String(result.external_recipe_id),
        InternalRecipeId=ua.String(result.internal_recipe_id),
        ProductId=ua.String(result.product_id),
        ExternalConfigurationId=ua.String(configuration),
        InternalConfigurationId=ua.String(configuration),
        JobId=ua.String(result.job_id),
        CreationTime=time_from_text(result.created),
        ProcessingTimes=machinerytypes.MachineryProcessingTimesDataType(**_times(result)),
        ResultEvaluation=EVALUATIONS[result.decision],
        ResultEvaluationCode=ua.Int64(result.code),
        ResultEvaluationDetails=ua.LocalizedText(result.reason),
    )
    content = content_from_result(result)
    return machinerytypes.MachineryResultDataType(ResultMetaData=meta, ResultContent=content)


def external_id(name: str) -> types.RecipeIdExternalDataType:
    """Return what PLC and users call a recipe."""
    return types.RecipeIdExternalDataType(Id=ua.String(name))


def internal_id(digest: str) -> types.RecipeIdInternalDataType:
    """Return a version of a recipe; its id is the beginning of a digest, which is Hash too."""
    found = types.RecipeIdInternalDataType(Id=ua.String(digest))
    if digest and not set(digest) - set("0123456789abcdef") and len(digest) % 2 == 0:
        found.Hash = ua.ByteString(bytes.fromhex(digest))
        found.HashAlgorithm = ua.String(f"SHA-256, first {len(digest) // 2} bytes")
    return found


def internal_id_of(recipe: Recipe) -> types.RecipeIdInternalDataType:
    """Return a recipe's version, with what it was made of as description."""
    found = internal_id(recipe.internal_id)
    if recipe.decision_version is not None:
        found.Version = ua.String(recipe.decision_version)
    found.Description = ua.LocalizedText(f"{recipe.external_id}: bundle {recipe.bundle_digest[:12]}")
    return found


def time_from_text(written: str) -> datetime:
    """Return a time of day of our records; OPC UA's zero when there is none."""
    try:
        found = datetime.fromisoformat(written)
    except ValueError:
        return EPOCH
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def number_or_nan(value: float | None) -> float:
    """Return a score or threshold; NaN when there is none."""
    return math.nan if value is None else float(value)


def _times(result: Result) -> dict[str, datetime | float]:
    start, end = time_from_text(result.triggered), time_from_text(result.created)
    times: dict[str, datetime | float] = {"StartTime": start, "EndTime": end}
    if result.acquired:
        seconds = (time_from_text(result.acquired) - start).total_seconds()
        times["AcquisitionDuration"] = max(0.0, seconds) * 1000
    times["ProcessingDuration"] = result.total_seconds * 1000
    return times
