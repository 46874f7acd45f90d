"""What the structures of both companion specifications share: namespace indices, enumerations, empty values."""

from datetime import datetime, timezone
from enum import IntEnum

from asyncua import ua

VISION, RESULT = 2, 3
"""Namespace indices of OPC 40100-1 and 40001-101 in this server."""
EPOCH = datetime(1601, 1, 1, tzinfo=timezone.utc)
"""What stands for a time that is not known: the zero of OPC UA's clock."""

NO_TEXT, ZERO = ua.String(""), ua.Int32(0)


class SystemStateDataType(IntEnum):
    """States of equipment after SEMI E10."""

    PRD_1 = 1
    """Productive."""
    SBY_2 = 2
    """Standby."""
    ENG_3 = 3
    """Engineering."""
    SDT_4 = 4
    """Scheduled down."""
    UDT_5 = 5
    """Unscheduled down."""
    NST_6 = 6
    """Not scheduled."""


class ResultEvaluationEnum(IntEnum):
    """What 40001-101 says of a part."""

    Undefined = 0
    OK = 1
    NotOK = 2
    NotDecidable = 3
