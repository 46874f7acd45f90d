"""Drives a station through the table in `states`: what is not in the table does not happen.

Knows no transport, no job and no clock; who wants to hear of transitions passes `observe`.
"""

from __future__ import annotations

from collections.abc import Callable

from judo_edge.errors import StationError
from judo_edge.station.states import TRANSITIONS, Command, State, Transition

WRONG_STATE = -10
"""Number of the StationError for a command that the state forbids."""

_BY_COMMAND: dict[tuple[State, Command], Transition] = {
    (one.source, one.command): one for one in TRANSITIONS if one.command is not Command.AUTOMATIC
}
_AUTOMATIC = {(one.source, one.target): one for one in TRANSITIONS if one.command is Command.AUTOMATIC}


class StateMachine:
    """Where a station is, and the only ways out of there."""

    def __init__(
        self, observe: Callable[[Transition], None] | None = None, state: State = State.PREOPERATIONAL
    ) -> None:
        """Begin in a state; `observe` is told of each transition after it was made."""
        self._state, self._observe = state, observe or (lambda _: None)
        self._before_error = state

    @property
    def state(self) -> State:
        """Return where the station is."""
        return self._state

    @property
    def came_from_operational(self) -> bool:
        """Tell whether the last entry into Error was from automatic mode: only then does it lead back there."""
        return self._before_error.is_operational

    def allowed(self) -> tuple[Command, ...]:
        """Return the commands that the present state allows."""
        return tuple(command for source, command in _BY_COMMAND if source is self._state)

    def check(self, command: Command) -> Transition:
        """Return the transition that a command would make now; StationError says what is allowed when there is none."""
        transition = _BY_COMMAND.get((self._state, command))
        if transition is None:
            raise refusal(command.value, self._state, self.allowed())
        return transition

    def command(self, command: Command) -> Transition:
        """Make the transition that a command causes; StationError says what is allowed when there is none."""
        return self._make(self.check(command))

    def can_go(self, target: State) -> bool:
        """Tell whether the station may go to a state by itself."""
        return (self._state, target) in _AUTOMATIC

    def automatic(self, target: State) -> Transition:
        """Go to a state by itself; StationError when the table has no such way."""
        transition = _AUTOMATIC.get((self._state, target))
        if transition is None:
            raise refusal(f"a way to {target.value}", self._state, self.allowed())
        return self._make(transition)

    def resolve(self, has_recipe: bool) -> Transition:
        """Leave Error: to where it was entered from, which is Ready only while a recipe is prepared."""
        operational = State.READY if has_recipe else State.INITIALIZED
        return self.automatic(operational if self.came_from_operational else State.PREOPERATIONAL)

    def _make(self, transition: Transition) -> Transition:
        if transition.target is State.ERROR:
            self._before_error = self._state
        self._state = transition.target
        self._observe(transition)
        return transition


def refusal(what: str, state: State, allowed: tuple[Command, ...]) -> StationError:
    """Return the error for what a state forbids."""
    names = ", ".join(command.value for command in allowed) or "nothing"
    return StationError(f"{what} in state {state.value}", f"one of {names}", "wait for another state", WRONG_STATE)
