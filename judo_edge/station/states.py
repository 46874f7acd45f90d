"""The states of a station and the ways between them, after OPC 40100-1 (OPC UA for Machine Vision, part 1, 1.00).

Names and numbers are those of the standard's VisionStateMachineType and VisionAutomaticModeStateMachineType; the table
is data, what drives it is in `machine`. Knows no transport.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class State(str, Enum):
    """Where a station is; the last four are the sub-states of Operational."""

    PREOPERATIONAL = "Preoperational"
    HALTED = "Halted"
    ERROR = "Error"
    INITIALIZED = "Initialized"
    READY = "Ready"
    SINGLE_EXECUTION = "SingleExecution"
    CONTINUOUS_EXECUTION = "ContinuousExecution"

    @property
    def is_operational(self) -> bool:
        """Tell whether this is a sub-state of Operational (automatic mode)."""
        return self in OPERATIONAL

    @property
    def number(self) -> int:
        """Return the standard's StateNumber; of a sub-state its own (Operational itself is 4)."""
        return NUMBERS[self]


OPERATIONAL = frozenset({State.INITIALIZED, State.READY, State.SINGLE_EXECUTION, State.CONTINUOUS_EXECUTION})
OPERATIONAL_NUMBER = 4
NUMBERS = {
    State.PREOPERATIONAL: 1,
    State.HALTED: 2,
    State.ERROR: 3,
    State.INITIALIZED: 5,
    State.READY: 6,
    State.SINGLE_EXECUTION: 7,
    State.CONTINUOUS_EXECUTION: 8,
}


class Command(str, Enum):
    """What causes a transition; AUTOMATIC stands for the station itself."""

    AUTOMATIC = ""
    HALT = "Halt"
    RESET = "Reset"
    SELECT_MODE_AUTOMATIC = "SelectModeAutomatic"
    PREPARE_RECIPE = "PrepareRecipe"
    PREPARE_PRODUCT = "PrepareProduct"
    UNPREPARE_RECIPE = "UnprepareRecipe"
    UNPREPARE_PRODUCT = "UnprepareProduct"
    START_SINGLE_JOB = "StartSingleJob"
    START_CONTINUOUS = "StartContinuous"
    STOP = "Stop"
    ABORT = "Abort"


class Transition(NamedTuple):
    """One way from a state to another."""

    name: str
    """The standard's browse name."""
    number: int
    """The standard's TransitionNumber."""
    source: State
    target: State
    command: Command


_S, _C = State, Command

TRANSITIONS: tuple[Transition, ...] = (
    Transition("PreoperationalToHalted", 121, _S.PREOPERATIONAL, _S.HALTED, _C.HALT),
    Transition("PreoperationalToHaltedAuto", 120, _S.PREOPERATIONAL, _S.HALTED, _C.AUTOMATIC),
    Transition("PreoperationalToErrorAuto", 130, _S.PREOPERATIONAL, _S.ERROR, _C.AUTOMATIC),
    Transition("PreoperationalToInitialized", 151, _S.PREOPERATIONAL, _S.INITIALIZED, _C.SELECT_MODE_AUTOMATIC),
    Transition("PreoperationalToInitializedAuto", 150, _S.PREOPERATIONAL, _S.INITIALIZED, _C.AUTOMATIC),
    Transition("HaltedToPreoperational", 211, _S.HALTED, _S.PREOPERATIONAL, _C.RESET),
    Transition("HaltedToPreoperationalAuto", 210, _S.HALTED, _S.PREOPERATIONAL, _C.AUTOMATIC),
    Transition("ErrorToPreoperational", 311, _S.ERROR, _S.PREOPERATIONAL, _C.RESET),
    Transition("ErrorToPreoperationalAuto", 310, _S.ERROR, _S.PREOPERATIONAL, _C.AUTOMATIC),
    Transition("ErrorToHalted", 321, _S.ERROR, _S.HALTED, _C.HALT),
    Transition("ErrorToHaltedAuto", 320, _S.ERROR, _S.HALTED, _C.AUTOMATIC),
    *(Transition("ErrorToOperationalAuto", 340, _S.ERROR, state, _C.AUTOMATIC) for state in (_S.INITIALIZED, _S.READY)),
    *(
        Transition(f"OperationalTo{target.value}", number, state, target, command)
        for state in (_S.INITIALIZED, _S.READY, _S.SINGLE_EXECUTION, _S.CONTINUOUS_EXECUTION)
        for target, number, command in ((_S.PREOPERATIONAL, 411, _C.RESET), (_S.HALTED, 421, _C.HALT))
    ),
    *(
        Transition(f"OperationalTo{target.value}Auto", number, state, target, _C.AUTOMATIC)
        for state in (_S.INITIALIZED, _S.READY, _S.SINGLE_EXECUTION, _S.CONTINUOUS_EXECUTION)
        for target, number in ((_S.PREOPERATIONAL, 410), (_S.HALTED, 420), (_S.ERROR, 430))
    ),
    Transition("InitializedToReadyRecipe", 561, _S.INITIALIZED, _S.READY, _C.PREPARE_RECIPE),
    Transition("InitializedToReadyProduct", 562, _S.INITIALIZED, _S.READY, _C.PREPARE_PRODUCT),
    Transition("InitializedToReadyAuto", 560, _S.INITIALIZED, _S.READY, _C.AUTOMATIC),
    Transition("ReadyToInitializedRecipe", 651, _S.READY, _S.INITIALIZED, _C.UNPREPARE_RECIPE),
    Transition("ReadyToInitializedProduct", 652, _S.READY, _S.INITIALIZED, _C.UNPREPARE_PRODUCT),
    Transition("ReadyToInitializedAuto", 650, _S.READY, _S.INITIALIZED, _C.AUTOMATIC),
    Transition("ReadyToSingleExecution", 671, _S.READY, _S.SINGLE_EXECUTION, _C.START_SINGLE_JOB),
    Transition("ReadyToSingleExecutionAuto", 670, _S.READY, _S.SINGLE_EXECUTION, _C.AUTOMATIC),
    Transition("ReadyToContinuousExecution", 681, _S.READY, _S.CONTINUOUS_EXECUTION, _C.START_CONTINUOUS),
    Transition("ReadyToContinuousExecutionAuto", 680, _S.READY, _S.CONTINUOUS_EXECUTION, _C.AUTOMATIC),
    Transition("SingleExecutionToReadyStop", 761, _S.SINGLE_EXECUTION, _S.READY, _C.STOP),
    Transition("SingleExecutionToReadyAbort", 762, _S.SINGLE_EXECUTION, _S.READY, _C.ABORT),
    Transition("SingleExecutionToReadyAuto", 760, _S.SINGLE_EXECUTION, _S.READY, _C.AUTOMATIC),
    Transition("ContinuousExecutionToReadyStop", 861, _S.CONTINUOUS_EXECUTION, _S.READY, _C.STOP),
    Transition("ContinuousExecutionToReadyAbort", 862, _S.CONTINUOUS_EXECUTION, _S.READY, _C.ABORT),
    Transition("ContinuousExecutionToReadyAuto", 860, _S.CONTINUOUS_EXECUTION, _S.READY, _C.AUTOMATIC),
)
