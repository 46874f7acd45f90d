"""A thread that does one thing after the other, the more urgent first: how blocking work is asked for from a loop.

The thread is a daemon, so that a call that never returns does not keep the process from ending. Knows no model.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

AnswerT = TypeVar("AnswerT")
_Job = tuple[int, int, "Future[Any] | None", Callable[[], Any]]


class Lane:
    """Runs calls in order of their urgency, those of the same urgency as they came."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def call(self, function: Callable[[], AnswerT], urgency: int = 0) -> AnswerT:
        """Run a function in the thread and return what it returns; 0 is most urgent.

        A call that is cancelled before its turn is left out; one that runs is finished, and nobody is told of it.
        """
        future: Future[AnswerT] = Future()
        self._jobs.put((urgency, next(self._numbers), future, function))
        return await asyncio.wrap_future(future)

    async def stream(self, function: Callable[[Callable[[Any], None]], object], urgency: int = 0) -> AsyncIterator[Any]:
        """Run a function in the thread that emits items, and yield them as they come; raises what it raises."""
        loop, items = asyncio.get_running_loop(), asyncio.Queue[Any]()
        end = object()

        def emit(item: Any) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever listened
                loop.call_soon_threadsafe(items.put_nowait, item)

        task = asyncio.ensure_future(self.call(lambda: function(emit), urgency))
        task.add_done_callback(lambda _: items.put_nowait(end))
        try:
            while (item := await items.get()) is not end:
                yield item
            await task
        finally:
            task.cancel()

    def close(self) -> None:
        """Let the thread end after the call that it is in."""
        self._jobs.put((-1, next(self._numbers), None, lambda: None))

    def _run(self) -> None:
        while True:
            _, _, future, function = self._jobs.get()
            if future is None:
                return
            if not future.set_running_or_notify_cancel():
                continue
            try:
                answer = function()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(answer)
            del future, function
