"""What the modules of the server share: nodes by path, values, and methods with roles and error numbers.

A method's last output is `Error`: 0 when it was done, otherwise the negative number of a `StationError`; the other
outputs then are empty. A call without the role is refused with BadUserAccessDenied.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, TypeVar

from asyncua import Node, Server, ua

from judo_edge.errors import JudoEdgeError, StationError
from judo_edge.station.api import StationApi
from judo_edge.station.config import StationConfig
from judo_edge.station.users import Role, User

OWN = 4
"""Index of our own namespace."""
NOT_FINISHED, INTERNAL = -91, -99
"""Error numbers of the server itself: the station did not answer in time; a fault of judo-edge."""
PATIENCE = 30.0
"""Seconds that a method waits for the station; requests of its connection wait as long."""
MOMENT = 2.0
"""Seconds that a method waits for what may take long, such as a model's warm-up; it goes on afterwards."""
CALLER: ContextVar[User | None] = ContextVar("caller", default=None)
"""Who called the method that is running."""

T = TypeVar("T")
Body = Callable[..., Awaitable[Sequence[ua.Variant]]]
_log = logging.getLogger(__name__)


@dataclass
class Space:
    """The address space under construction, and the station that it stands for."""

    server: Server
    config: StationConfig
    station: StationApi
    handles: HandleBook = field(default_factory=lambda: HandleBook())

    def node(self, node_id: ua.NodeId) -> Node:
        """Return a node by id."""
        return self.server.get_node(node_id)

    @property
    def system(self) -> Node:
        """Return the VisionSystem object."""
        return self.node(ua.NodeId("VisionSystem", OWN))

    async def write(self, node: ua.NodeId, value: ua.Variant, status: int = 0) -> None:
        """Write a value as the server; its type must be that of the variable."""
        now = datetime.now(timezone.utc)
        data = ua.DataValue(value, StatusCode=ua.StatusCode(status), SourceTimestamp=now)
        space = self.server.iserver.aspace
        done = await space.write_attribute_value(node.nodeid, ua.AttributeIds.Value, data)
        if not done.is_good():
            _log.error("%s cannot be shown: %s", node.nodeid, done.name)

    async def link(self, parent: Node, name: str, role: Role, body: Body, empty: Sequence[ua.Variant] = ()) -> None:
        """Let a method of an object run `body`; `empty` are its outputs before Error where it is refused."""
        method = await parent.get_child([name])
        self.server.link_method(method, method_from_body(body, role, empty))


async def done_in_a_moment(work: Coroutine[Any, Any, T], tasks: set[asyncio.Task[Any]]) -> T | None:
    """Return what comes of something, or None while it goes on; `tasks` holds it until it ends."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    done, _ = await asyncio.wait({task}, timeout=MOMENT)
    if done:
        return task.result()
    task.add_done_callback(_note_failure)
    return None


def _note_failure(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.warning("what went on after its method had answered has failed: %s", error)


class HandleBook:
    """Numbers that clients hand back when they have read a list; nothing hangs on them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._next, self._open = 1, set[int]()

    def new(self) -> ua.Variant:
        """Return a new handle; the oldest are forgotten."""
        if len(self._open) >= 1000:
            self._open.remove(min(self._open))
        self._open.add(self._next)
        self._next += 1
        return ua.Variant(self._next - 1, ua.VariantType.UInt32)

    async def release(self, handle: int | None) -> Sequence[ua.Variant]:
        """Forget a handle; StationError when there is none of that number."""
        if handle not in self._open:
            raise StationError(f"handle {handle}", "one that a list method returned", number=-40)
        self._open.remove(handle)
        return ()


def method_from_body(body: Body, role: Role, empty: Sequence[ua.Variant] = (), has_error: bool = True) -> Any:
    """Return the callback that asyncua calls: checks the role, unwraps arguments, answers errors by number."""

    async def call(_: ua.NodeId, *arguments: ua.Variant) -> Any:
        caller = CALLER.get()
        if caller is None or not caller.role.covers(role):
            return ua.StatusCode(ua.StatusCodes.BadUserAccessDenied)
        outputs, number = empty, INTERNAL
        try:
            values = [argument.Value for argument in arguments]
            outputs, number = await asyncio.wait_for(body(*values), PATIENCE), 0
        except JudoEdgeError as error:
            number = number_of(error)
            _log.info("refused: %s", error)
        except asyncio.TimeoutError:
            number = NOT_FINISHED
        except TypeError as error:
            _log.warning("a method with wrong arguments: %s", error)
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        except Exception:
            _log.exception("fault in a method")
        return [*outputs, ua.Variant(number, ua.VariantType.Int32)] if has_error else list(outputs)

    return call


def number_of(error: JudoEdgeError) -> int:
    """Return the error number of a refusal: negative, as OPC 40100-1 leaves to applications."""
    return -abs(error.number) or -1 if isinstance(error, StationError) else -1


def caller_name() -> str:
    """Return who called the running method."""
    caller = CALLER.get()
    return caller.name if caller else ""


def boolean(value: bool) -> ua.Variant:
    """Return a Boolean."""
    return ua.Variant(bool(value), ua.VariantType.Boolean)


def int32(value: int) -> ua.Variant:
    """Return an Int32."""
    return ua.Variant(value, ua.VariantType.Int32)


def uint32(value: int) -> ua.Variant:
    """Return a UInt32; a counter starts again from zero after 2^32."""
    return ua.Variant(value & 0xFFFFFFFF, ua.VariantType.UInt32)


def string(value: str) -> ua.Variant:
    """Return a String."""
    return ua.Variant(value, ua.VariantType.String)


def text(value: str) -> ua.Variant:
    """Return a LocalizedText."""
    return ua.Variant(ua.LocalizedText(value), ua.VariantType.LocalizedText)


def structure(value: Any) -> ua.Variant:
    """Return a structure, or an array of them."""
    return ua.Variant(value, ua.VariantType.ExtensionObject)
