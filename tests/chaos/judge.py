"""A scripted inspector in a real process, over the real wire: bright is OK, dark is NOK, and faults on demand."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.core import Decision
from judo_edge.errors import StationError, first_line
from judo_edge.station.config import StationConfig
from judo_edge.station.results import Code, Recipe
from judo_edge.station.wire import connect
from judo_edge.station.workers import SOCKET_NAME, SPOOL_NAME, Kept, Outcome
from judo_edge.vision.photos import image_from_file
from tests.chaos.control import note_truth, read_control
from tests.chaos.parts import BAD, GOOD

SECONDS = 0.005
"""What an inspection takes."""


class ScriptedJudge:
    """What the hub may call."""

    def __init__(self, config: StationConfig, run_folder: Path) -> None:
        self._config, self._run_folder = config, run_folder
        names = ("prepare", "unprepare", "inspect", "keep", "masters", "references")
        self.handlers = {name: getattr(self, name) for name in names}

    async def prepare(self, external_id: str, internal_id: str = "") -> Any:
        table = next(one for one in self._config.recipes if one.id == external_id)
        digest = hashlib.sha256(external_id.encode()).hexdigest()
        recipe = Recipe(
            external_id=external_id,
            internal_id=digest[:32],
            part=table.part,
            bundle=table.bundle,
            bundle_digest=digest,
            references_digest=digest,
            reference_ids=("drawn",),
            is_prepared=True,
        )
        return recipe.model_dump(mode="json")

    async def unprepare(self, internal_id: str) -> None:
        pass

    async def masters(self, external_id: str) -> Any:
        return []

    async def references(self, part: str) -> Any:
        return []

    async def keep(self, job_id: str, result_id: str, decision: str) -> Any:
        return Kept().model_dump(mode="json")

    async def inspect(self, job_id: str, internal_id: str, spooled: dict[str, Any]) -> AsyncIterator[Any]:
        await asyncio.sleep(SECONDS)
        fault = read_control(self._run_folder).get("engine", "")
        if fault and fault != "hang":  # an engine that only takes its time may be right
            note_truth(self._run_folder, job_id=job_id, kind=f"engine {fault}")
        while fault == "stuck" or read_control(self._run_folder).get("engine") == "hang":
            await asyncio.sleep(0.1)
        if fault == "raise":
            raise ValueError("the engine was told to fail")
        yield {"outcome": self._outcome(fault, spooled).model_dump(mode="json")}

    def _outcome(self, fault: str, spooled: dict[str, Any]) -> Outcome:
        if fault == "report":
            return _fault(Code.ENGINE_FAULT, "the engine was told to fail")
        try:
            image = self._pixels(spooled)
        except Exception as error:
            return _fault(Code.PHOTO_UNREADABLE, first_line(error))
        middle, brightness = (GOOD + BAD) / 2, float(image.mean())
        decision = Decision.OK if brightness > middle else Decision.NOK
        return Outcome(decision=decision, code=Code.INSPECTED, reason=f"brightness {brightness:.0f}", score=-brightness)

    def _pixels(self, spooled: dict[str, Any]) -> Any:
        if not spooled["file"]:
            return image_from_file(Path(spooled["path"]))
        return np.load(self._run_folder / SPOOL_NAME / spooled["file"], allow_pickle=False)


def _fault(code: Code, reason: str) -> Outcome:
    return Outcome(decision=Decision.NOT_DECIDABLE, code=code, reason=reason)


async def run_scripted(config: StationConfig, run_folder: Path) -> None:
    """Serve the hub until cancelled, connecting again whenever it went."""
    judge = ScriptedJudge(config, run_folder)
    while True:
        with contextlib.suppress(StationError):
            peer, reading = await connect(run_folder / SOCKET_NAME, judge.handlers)
            await peer.call("hello", role="inspector", name="inspector", pid=os.getpid())
            await reading
        await asyncio.sleep(0.1)
