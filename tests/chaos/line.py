"""The line beside the station: a PLC as a process of its own, the wire to it, and what its journal says."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from judo_edge.station.results import Result
from tests.chaos.link import Link
from tests.chaos.station import PASSWORD, ROOT, USER, ChaosStation


@dataclass
class Journal:
    """What a PLC did and heard."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Job id by part id."""
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    """Parts whose trigger had no answer: there may be a job or not."""
    at: dict[str, float] = field(default_factory=dict)
    """Monotonic seconds of the trigger, by part id."""
    looked_up: dict[str, list[str]] = field(default_factory=dict)
    received: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was first heard of a result, by its id."""
    ways: dict[str, set[str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    num_connections: int = 0
    contradictions: list[str] = field(default_factory=list)

    def note(self, one: dict[str, Any]) -> None:
        """Take one line."""
        kind = one["kind"]
        if kind == "trigger":
            self._trigger(one)
        elif kind == "result":
            self._result(one)
        elif kind == "taken":
            self.taken.add(one["result_id"])
        elif kind == "unknown-result":
            self.contradictions.append(f"the station does not know its own result {one['result_id']}")
        elif kind == "looked-up":
            self.looked_up[one["part_id"]] = one["job_ids"]
        self.num_connections += kind == "connected"

    def _trigger(self, one: dict[str, Any]) -> None:
        part_id = one["part_id"]
        self.at[part_id] = one["at"]
        if one["answer"] == "accepted":
            self.accepted[part_id] = one["job_id"]
        else:
            (self.refused if one["answer"] == "refused" else self.unknown).add(part_id)

    def _result(self, one: dict[str, Any]) -> None:
        told = {name: one[name] for name in ("job_id", "part_id", "verdict")}
        before = self.received.setdefault(one["result_id"], told)
        self.ways.setdefault(one["result_id"], set()).add(one["way"])
        if before != told:
            self.contradictions.append(f"result {one['result_id']} was told as {before} and as {told}")


class Line:
    """A PLC over a wire that can be cut."""

    def __init__(self, station: ChaosStation, num_triggers: int, pace: float, seed: int) -> None:
        """Take how often the PLC triggers, and the mean of the seconds between."""
        self.link = Link(station.opcua_port)
        self._folder, self._station = station.folder / "plc", station
        self._settings = {"count": num_triggers, "pace": pace, "seed": seed}
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start the wire and the PLC."""
        await self.link.start()
        self._folder.mkdir(exist_ok=True)
        client = self._station.folder / "client"
        settings = {
            **self._settings,
            "url": f"opc.tcp://127.0.0.1:{self.link.port}/judo-edge/",
            "user": USER,
            "password": PASSWORD,
            "key": str(client / "key.pem"),
            "certificate": str(client / "certificate.pem"),
            "journal": str(self._folder / "journal.jsonl"),
        }
        file = self._folder / "settings.json"
        file.write_text(json.dumps(settings))
        with (self._folder / "stderr.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.chaos.plc", str(file)]
            self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log)

    def is_done(self) -> bool:
        """Tell whether the PLC has triggered all it was to, or has ended."""
        journal = self.journal()
        answered = len(journal.accepted) + len(journal.refused) + len(journal.unknown)
        ended = self._process is None or self._process.poll() is not None
        return ended or answered >= self._settings["count"]

    async def finish(self, seconds: float = 120.0) -> list[str]:
        """Let the PLC take everything and end; return what is wrong with that."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.close()
        try:
            status = await asyncio.to_thread(self._process.wait, seconds)
        except subprocess.TimeoutExpired:
            return [f"the PLC did not get everything within {seconds:g} s; {self._last_words()}"]
        return [f"the PLC ended with {status}: {self._last_words()}"] if status else []

    async def stop(self) -> None:
        """End the PLC whatever it does, and take the wire away."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        await self.link.stop()

    def journal(self) -> Journal:
        """Read what the PLC wrote so far; a line that is not whole yet is left out."""
        found, path = Journal(), self._folder / "journal.jsonl"
        for line in path.read_text().split("\n")[:-1] if path.is_file() else ():
            found.note(json.loads(line))
        return found

    def _last_words(self) -> str:
        journal = self._folder / "journal.jsonl"
        words = journal.read_text().splitlines()[-3:] if journal.is_file() else []
        return " | ".join([*words, (self._folder / "stderr.log").read_text()[-2000:]])


def problems_of_journal(journal: Journal, results: Iterable[Result]) -> Iterable[str]:
    """Say what does not hold between a PLC's journal and the stored results."""
    yield from journal.contradictions
    by_id = {result.result_id: result for result in results}
    by_part: dict[str, list[Result]] = {}
    for result in by_id.values():
        if result.origin == "tags":
            by_part.setdefault(result.part_id, []).append(result)
    for part_id, job_id in journal.accepted.items():
        found = [result.job_id for result in by_part.get(part_id, ())]
        if found != [job_id]:
            yield f"PLC part {part_id} was accepted as {job_id}, its results are of {found}"
    for part_id in journal.refused & set(by_part):
        yield f"PLC part {part_id} was refused and has a result"
    for part_id in journal.unknown:
        stored = [result.job_id for result in by_part.get(part_id, ())]
        if len(stored) > 1 or journal.looked_up.get(part_id, []) != stored:
            yield f"PLC part {part_id}: {stored} are stored, the PLC found {journal.looked_up.get(part_id)}"
    for part_id in set(by_part) - set(journal.at):
        yield f"a result for PLC part {part_id}, which was never triggered"
    yield from _untold(journal, by_id)


def _untold(journal: Journal, by_id: dict[str, Result]) -> Iterable[str]:
    for result_id, result in by_id.items():
        told = journal.received.get(result_id)
        wanted = {"job_id": result.job_id, "part_id": result.part_id, "verdict": result.decision.value}
        if told is None:
            yield f"result {result.number} never reached the PLC"
        elif told != wanted:
            yield f"result {result.number} is {wanted}, the PLC was told {told}"
        if result_id not in journal.taken:
            yield f"result {result.number} was not acknowledged by the PLC"
    for result_id in set(journal.received) - set(by_id):
        yield f"the PLC was told result {result_id}, which is not stored"
