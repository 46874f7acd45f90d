"""The structures of both companion specifications as classes, and their registration with asyncua.

asyncua makes one class per browse name, but two names occur in both specifications, and subtypes without fields of
their own would all become their base. So the classes are written here and registered by NodeId. Field names and
order are the standards' own; a field that may be None is optional on the wire. Annotations are read at run time by
asyncua, without this module's names, so they must not become text.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

from asyncua import ua

from judo_edge.station.opcua.basetypes import (
    EPOCH,
    NO_TEXT,
    RESULT,
    VISION,
    ZERO,
    ResultEvaluationEnum,
    SystemStateDataType,
)
from judo_edge.station.opcua.machinerytypes import (
    MachineryProcessingTimesDataType,
    MachineryResultDataType,
    ResultMetaDataType,
)


@dataclass
class BinaryIdBaseDataType:
    """An id with version and hash; recipes and configurations have subtypes of it."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    Id: ua.String = NO_TEXT
    Version: ua.String | None = None
    Hash: ua.ByteString | None = None
    HashAlgorithm: ua.String | None = None
    Description: ua.LocalizedText | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3019, VISION)


@dataclass
class RecipeIdExternalDataType(BinaryIdBaseDataType):
    """What PLC and users call a recipe."""

    data_type: ClassVar[ua.NodeId] = ua.NodeId(3002, VISION)


@dataclass
class RecipeIdInternalDataType(BinaryIdBaseDataType):
    """One version of a recipe; Hash is the digest that its id begins with."""

    data_type: ClassVar[ua.NodeId] = ua.NodeId(3013, VISION)


@dataclass
class ConfigurationIdDataType(BinaryIdBaseDataType):
    """The station file, by digest."""

    data_type: ClassVar[ua.NodeId] = ua.NodeId(3008, VISION)


@dataclass
class MeasIdDataType:
    """Name of a measurement."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    Id: ua.String = NO_TEXT
    Description: ua.LocalizedText | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3015, VISION)


@dataclass
class PartIdDataType:
    """Serial number of a part."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    Id: ua.String = NO_TEXT
    Description: ua.LocalizedText | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3004, VISION)


@dataclass
class ProductIdDataType:
    """Name of a product."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    Id: ua.String = NO_TEXT
    Description: ua.LocalizedText | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3003, VISION)


@dataclass
class ProductDataType:
    """A product."""

    ExternalId: ProductIdDataType = field(default_factory=ProductIdDataType)
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3020, VISION)


@dataclass
class JobIdDataType:
    """Name of a job."""

    Id: ua.String = NO_TEXT
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3016, VISION)


@dataclass
class ResultIdDataType:
    """Name of a result."""

    Id: ua.String = NO_TEXT
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3021, VISION)


@dataclass
class ProcessingTimesDataType:
    """When a job was worked on; durations in milliseconds."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    StartTime: ua.DateTime = EPOCH
    EndTime: ua.DateTime = EPOCH
    AcquisitionDuration: ua.Double | None = None
    ProcessingDuration: ua.Double | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3005, VISION)


@dataclass
class ConfigurationDataType:
    """A configuration and when it was last changed."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    HasTransferableDataOnFile: ua.Boolean | None = None
    ExternalId: ConfigurationIdDataType | None = None
    InternalId: ConfigurationIdDataType = field(default_factory=ConfigurationIdDataType)
    LastModified: ua.DateTime = EPOCH
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3007, VISION)


@dataclass
class SystemStateDescriptionDataType:
    """SEMI E10 state of the station."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    State: SystemStateDataType = SystemStateDataType.SBY_2
    StateDescription: ua.String | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3024, VISION)


@dataclass
class ResultDataType:
    """A result after OPC 40100-1; the verdict is in ResultContent."""

    Encoding: ua.UInt32 = field(default=0, repr=False, compare=False)
    ResultId: ResultIdDataType = field(default_factory=ResultIdDataType)
    HasTransferableDataOnFile: ua.Boolean | None = None
    IsPartial: ua.Boolean = False
    IsSimulated: ua.Boolean | None = None
    ResultState: ua.Int32 = ZERO
    MeasId: MeasIdDataType | None = None
    PartId: PartIdDataType | None = None
    ExternalRecipeId: RecipeIdExternalDataType | None = None
    InternalRecipeId: RecipeIdInternalDataType = field(default_factory=RecipeIdInternalDataType)
    ProductId: ProductIdDataType | None = None
    ExternalConfigurationId: ConfigurationIdDataType | None = None
    InternalConfigurationId: ConfigurationIdDataType = field(default_factory=ConfigurationIdDataType)
    JobId: JobIdDataType = field(default_factory=JobIdDataType)
    CreationTime: ua.DateTime = EPOCH
    ProcessingTimes: ProcessingTimesDataType | None = None
    ResultContent: list[ua.Variant] | None = None
    data_type: ClassVar[ua.NodeId] = ua.NodeId(3006, VISION)


BINARY: dict[type[Any], int] = {
    BinaryIdBaseDataType: 5027,
    RecipeIdExternalDataType: 5002,
    RecipeIdInternalDataType: 5268,
    ConfigurationIdDataType: 5090,
    MeasIdDataType: 5006,
    PartIdDataType: 5013,
    ProductIdDataType: 5224,
    ProductDataType: 5272,
    JobIdDataType: 5008,
    ResultIdDataType: 5274,
    ProcessingTimesDataType: 5016,
    ConfigurationDataType: 5088,
    SystemStateDescriptionDataType: 5278,
    ResultDataType: 5018,
    MachineryProcessingTimesDataType: 5003,
    ResultMetaDataType: 5005,
    MachineryResultDataType: 5008,
}
"""Numbers of the Default Binary encodings, in the namespace of the type."""


def register_types() -> None:
    """Tell asyncua of the classes; done again after a NodeSet was read, which registers its own."""
    for cls in BINARY:
        ua.register_extension_object(cls.__name__, encoding_of(cls), cls, cls.data_type)
    ua.register_enum("SystemStateDataType", ua.NodeId(3023, VISION), SystemStateDataType)
    ua.register_enum("ResultEvaluationEnum", ua.NodeId(3002, RESULT), ResultEvaluationEnum)


def encoding_of(cls: type[Any]) -> ua.NodeId:
    """Return the node of a structure's binary encoding."""
    return ua.NodeId(BINARY[cls], cls.data_type.NamespaceIndex)


def is_absent(value: Any) -> bool:
    """Tell whether an argument was left out: None, or the null extension object that stands for a null structure."""
    return value is None or (isinstance(value, ua.ExtensionObject) and value.Body is None)


def id_of(value: Any) -> str:
    """Return the Id of a structure argument, empty when it was left out."""
    if isinstance(value, str):
        return value.strip()
    return "" if is_absent(value) else str(getattr(value, "Id", "") or "").strip()
