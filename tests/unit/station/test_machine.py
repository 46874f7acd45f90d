"""The state machine never leaves the table of OPC 40100-1, whatever it is asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judo_edge.errors import StationError
from judo_edge.station.machine import WRONG_STATE, StateMachine
from judo_edge.station.states import TRANSITIONS, Command, State

TABLE = {(one.source, one.command, one.target): one for one in TRANSITIONS}
COMMANDS = [command for command in Command if command is not Command.AUTOMATIC]
STEPS = st.lists(st.one_of(st.sampled_from(COMMANDS), st.sampled_from(State), st.booleans()), max_size=60)


def make(machine, step):
    """Take one step: a command, a state to go to by itself, or the way out of Error with or without a recipe."""
    if isinstance(step, Command):
        return machine.command(step)
    if isinstance(step, State):
        return machine.automatic(step)
    return machine.resolve(step)


@given(STEPS)
def test_no_sequence_leaves_the_table(steps):
    seen = []
    machine = StateMachine(seen.append)
    for step in steps:
        before, told = machine.state, len(seen)
        try:
            transition = make(machine, step)
        except StationError as error:
            assert machine.state is before
            assert len(seen) == told
            assert error.number == WRONG_STATE
        else:
            assert TABLE[before, transition.command, machine.state] == transition == seen[-1]


@given(st.sampled_from(State), st.sampled_from(COMMANDS))
def test_a_command_is_allowed_exactly_where_the_table_has_it(state, command):
    machine = StateMachine(state=state)
    assert (command in machine.allowed()) == any((state, command, target) in TABLE for target in State)
    if command not in machine.allowed():
        with pytest.raises(StationError, match=state.value):
            machine.command(command)


@pytest.mark.parametrize("has_recipe", [True, False])
def test_error_leads_back_to_automatic_mode_only_from_there(has_recipe):
    machine = StateMachine()
    machine.command(Command.SELECT_MODE_AUTOMATIC)
    machine.automatic(State.ERROR)
    assert machine.resolve(has_recipe).number == 340
    assert machine.state is (State.READY if has_recipe else State.INITIALIZED)
    machine = StateMachine()
    machine.automatic(State.ERROR)
    assert machine.resolve(has_recipe).target is State.PREOPERATIONAL
