"""The structures of OPC 40001-101 as classes; `types` says why they are written here and registers them.

Annotations must not become text here either.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from asyncua import ua

from judo_edge.station.opcua.basetypes import EPOCH, NO_TEXT, RESULT, ResultEvaluationEnum


@dataclass
class MachineryProcessingTimesDataType:
    """ProcessingTimesDataType of 40001-101; durations in milliseconds."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    StartTime: ua.DateTime = EPOCH
    EndTime: ua.DateTime = EPOCH
    AcquisitionDuration: ua.Double | None = None
    ProcessingDuration: ua.Double | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3006, RESULT)


@dataclass
class ResultMetaDataType:
    """What 40001-101 says of a result, the verdict on the part (ResultEvaluation) among it."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    ResultId: ua.String = NO_TEXT
    HasTransferableDataOnFile: ua.Boolean | None = None
    IsPartial: ua.Boolean | None = None
    IsSimulated: ua.Boolean | None = None
    ResultState: ua.Int32 | None = None
    StepId: ua.String | None = None
    PartId: ua.String | None = None
    ExternalRecipeId: ua.String | None = None
    InternalRecipeId: ua.String | None = None
    ProductId: ua.String | None = None
    ExternalConfigurationId: ua.String | None = None
    InternalConfigurationId: ua.String | None = None
    JobId: ua.String | None = None
    CreationTime: ua.DateTime | None = None
    ProcessingTimes: MachineryProcessingTimesDataType | None = None
    ResultUri: list[ua.String] | None = None
    ResultEvaluation: ResultEvaluationEnum | None = None
    ResultEvaluationCode: ua.Int64 | None = None
    ResultEvaluationDetails: ua.LocalizedText | None = None
    FileFormat: list[ua.String] | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3007, RESULT)


@dataclass
class MachineryResultDataType:
    """ResultDataType of 40001-101: ResultMetaData may be of a subtype, so it travels as an extension object."""

    ResultMetaData: ua.ExtensionObject = field(default_factory=ResultMetaDataType)
    ResultContent: list[ua.Variant] = field(default_factory=list)
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3008, RESULT)
