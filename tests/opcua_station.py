"""A station in memory; `python -m tests.opcua_station STATION.toml [RUN_FOLDER]`: the OPC UA server over it or a hub.

What a part is stands in its id: `nok-1` is bad, `nd-1` not decidable, everything else is good.
"""

import asyncio
import logging
import sys
from pathlib import Path

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.config import station_from_file
from judo_edge.station.processes.opcua import URL_FILE, run_opcua
from judo_edge.station.results import (
    Cells,
    Code,
    Condition,
    Counters,
    EventKind,
    Job,
    Recipe,
    Result,
    ResultQuery,
    ResultState,
    Severity,
    StationEvent,
    Status,
    utc_now,
)
from judo_edge.station.states import TRANSITIONS, Command, State

DIGEST = "0123456789abcdef0123456789abcdef"


class MemoryStation:
    """StationApi without a hub, a disk or a deadline."""

    def __init__(self, seconds=0.005):
        self.state, self.seconds = State.PREOPERATIONAL, seconds
        self.stored, self.taken, self.jobs = [], set(), 0
        self.conditions, self.is_simulating, self.is_prepared = {}, False, False
        self.queues, self.number, self.beat, self.refused = [], 0, 0, 0
        self.tasks = set()

    def tell(self, kind, **data):
        self.number += 1
        for queue in self.queues:
            queue.put_nowait(StationEvent(number=self.number, kind=kind, at=utc_now(), data=data))

    def move(self, command, target=None):
        for one in TRANSITIONS:
            if one.source is self.state and one.command is command and target in (None, one.target):
                self.state = one.target
                self.tell(
                    EventKind.TRANSITION, name=one.name, number=one.number, source=one.source.value,
                    target=one.target.value, command=command.value,
                )  # fmt: skip
                return
        raise StationError(f"{command.value} in {self.state.value}", "another state", number=-10)

    async def status(self):
        return Status(
            station="memory", state=self.state, is_simulating=self.is_simulating, recipes=(self.recipe(),),
            counters=Counters(triggers=self.jobs, refused=self.refused), conditions=tuple(self.conditions.values()),
            last_number=len(self.stored), heartbeat=self.beat,
        )  # fmt: skip

    async def heart(self):
        while True:
            await asyncio.sleep(0.3)
            self.beat += 1
            self.tell(EventKind.HEARTBEAT, **(await self.status()).model_dump(mode="json"))

    async def halt(self, cause, description):
        self.move(Command.HALT)

    async def reset(self, cause, description):
        self.is_prepared = False
        self.move(Command.RESET)

    async def select_automatic(self):
        self.move(Command.SELECT_MODE_AUTOMATIC)

    async def confirm_all(self, comment, user=""):
        for name, one in list(self.conditions.items()):
            changed = one.model_copy(update={"is_acknowledged": True})
            self.conditions[name] = changed
            self.tell(EventKind.CONDITION, **changed.model_dump(mode="json"))

    async def simulate(self, is_on):
        self.is_simulating = is_on

    def recipe(self):
        return Recipe(
            external_id="lid-7", internal_id=DIGEST, part="lid-7", bundle="nano", bundle_digest="ab" * 32,
            references_digest="cd" * 32, reference_ids=("r1",), created=utc_now(), is_prepared=self.is_prepared,
        )  # fmt: skip

    async def recipes(self):
        return (self.recipe(),)

    async def prepare(self, external_id, internal_id=""):
        if external_id != "lid-7" or internal_id not in ("", DIGEST):
            raise StationError(f"no recipe {external_id!r}", "lid-7", number=-20)
        if self.state is State.INITIALIZED:
            self.move(Command.PREPARE_RECIPE)
        self.is_prepared = True
        self.tell(EventKind.RECIPE_PREPARED, **self.recipe().model_dump(mode="json"))
        return self.recipe()

    async def unprepare(self, external_id):
        self.move(Command.UNPREPARE_RECIPE)
        self.is_prepared = False
        return self.recipe()

    async def start_single(self, request):
        self.move(Command.START_SINGLE_JOB)
        return self.job(request)

    async def start_continuous(self, request):
        self.move(Command.START_CONTINUOUS)
        self.jobs += 1
        return Job(job_id=f"run-{self.jobs}", request=request, recipe_id=DIGEST, created=utc_now(), deadline=1)

    async def trigger(self, request):
        if self.state not in (State.READY, State.CONTINUOUS_EXECUTION):
            self.refused += 1
            raise StationError(f"a trigger in {self.state.value}", "Ready", number=-30)
        return self.job(request)

    def job(self, request):
        if request.part_id == "alarm":
            self.raise_condition()
        self.jobs += 1
        job = Job(job_id=f"job-{self.jobs}", request=request, recipe_id=DIGEST, created=utc_now(), deadline=1)
        task = asyncio.create_task(self.work(job))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return job

    async def work(self, job):
        self.tell(EventKind.JOB_STARTED, job_id=job.job_id, part_id=job.request.part_id)
        await asyncio.sleep(self.seconds)
        self.tell(EventKind.ACQUISITION_DONE, job_id=job.job_id)
        if self.state is State.SINGLE_EXECUTION:
            self.move(Command.AUTOMATIC, State.READY)
        self.tell(EventKind.READY, job_id=job.job_id)
        result = result_of(job, len(self.stored) + 1)
        self.stored.append(result)
        self.tell(EventKind.RESULT, **result.model_dump(mode="json"))

    def raise_condition(self):
        one = Condition(name="disk", severity=Severity.ERROR, code=5, text="the disk is full", since=utc_now())
        self.conditions["disk"] = one
        self.tell(EventKind.CONDITION, **one.model_dump(mode="json"))

    async def stop(self, cause, description):
        self.move(Command.STOP)

    async def abort(self, cause, description):
        self.move(Command.ABORT)

    async def results(self, query: ResultQuery):
        found = [one for one in self.stored if one.number > query.after]
        for name in ("state", "meas_id", "part_id", "external_recipe_id", "internal_recipe_id", "product_id", "job_id"):
            if wanted := getattr(query, name):
                found = [one for one in found if getattr(one, name) == wanted]
        return tuple((found[::-1] if query.newest_first else found)[: query.limit])

    async def result(self, result_id):
        return next((one for one in self.stored if one.result_id == result_id), None)

    async def acknowledge(self, sink, result_ids):
        known = {one.result_id for one in self.stored}
        self.taken |= known & set(result_ids)
        return tuple(one in known for one in result_ids)

    async def unacknowledged(self, sink, limit=100):
        return tuple([one for one in self.stored if one.result_id not in self.taken][:limit])

    async def events(self):
        queue = asyncio.Queue()
        self.queues.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.queues.remove(queue)


def result_of(job, number):
    request = job.request
    decision = Decision.NOK if request.part_id.startswith("nok") else Decision.OK
    code = Code.INSPECTED
    if request.part_id.startswith("nd"):
        decision, code = Decision.NOT_DECIDABLE, Code.DEADLINE
    now = utc_now()
    return Result(
        number=number, result_id=f"result-{number}", job_id=job.job_id, state=ResultState.COMPLETED, decision=decision,
        code=code, reason=f"because of {request.part_id}", part_id=request.part_id, meas_id=request.meas_id,
        product_id=request.product_id, external_recipe_id="lid-7", internal_recipe_id=DIGEST, score=1.5,
        threshold=2.0, mask=Cells(rows=16, cols=16, cells=((1, 2), (3, 4))) if decision is Decision.NOK else None,
        created=now, triggered=now, acquired=now, total_seconds=0.01, origin=request.origin,
    )  # fmt: skip


async def serve_memory(config):
    """The server over a station in memory."""
    from judo_edge.station.opcua.server import OpcuaServer

    station = MemoryStation()
    server = OpcuaServer(config, station)
    await server.start()
    heart = asyncio.create_task(station.heart())
    print(server.url, flush=True)
    try:
        await until_left()
    finally:
        heart.cancel()
        await server.stop()


async def serve_hub(config, run_folder):
    """The station's own process over a hub."""
    serving = asyncio.create_task(run_opcua(config, run_folder))
    try:
        while not (run_folder / URL_FILE).exists():
            await asyncio.sleep(0.05)
            if serving.done():
                serving.result()
        print((run_folder / URL_FILE).read_text(), flush=True)
        await until_left()
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def until_left():
    """Wait until whoever started this process goes."""
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main(path, run_folder=""):
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("asyncua").setLevel(logging.ERROR)
    config = station_from_file(Path(path))
    asyncio.run(serve_hub(config, Path(run_folder)) if run_folder else serve_memory(config))


if __name__ == "__main__":
    main(*sys.argv[1:])
