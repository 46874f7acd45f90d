"""From trigger to verdict: one durable result per job, whatever the workers do."""

import asyncio

from judo_edge.core import Decision
from judo_edge.station.client import StationClient
from judo_edge.station.results import Code, EventKind, JobRequest
from judo_edge.station.states import State
from tests.station_parts import all_results, scripted_hub, scripted_station, until


def test_a_single_job_ends_in_one_verdict_and_the_station_is_ready_again(tmp_path):
    async def run():
        async with scripted_station(tmp_path) as station:
            heard = []
            events = station.events()
            listening = asyncio.create_task(collect(events, heard))
            job = await station.start_single(JobRequest(part_id="p-1"))
            await until(lambda: any(event.kind is EventKind.RESULT for event in heard))
            await until(lambda: any(event.kind is EventKind.EVIDENCE for event in heard))
            listening.cancel()
            (result,) = await all_results(station)
            assert (result.job_id, result.part_id, result.number) == (job.job_id, "p-1", 1)
            assert (result.decision, result.code) == (Decision.OK, Code.INSPECTED)
            assert result.photo
            assert station.machine.state is State.READY
            kinds = [event.kind for event in heard if event.kind is not EventKind.HEARTBEAT]
            assert (
                kinds.index(EventKind.JOB_STARTED)
                < kinds.index(EventKind.ACQUISITION_DONE)
                < kinds.index(EventKind.RESULT)
            )

    asyncio.run(run())


async def collect(events, heard):
    async for event in events:
        heard.append(event)


def test_a_client_of_the_socket_triggers_and_reads_results(tmp_path):
    async def use(socket):
        async with StationClient(socket, "web") as client:
            jobs = [await client.trigger(JobRequest(part_id=str(number))) for number in range(5)]
            while len(found := await all_results(client)) < 5:
                await asyncio.sleep(0.01)
            assert [one.job_id for one in found] == [job.job_id for job in jobs]
            assert (await client.status()).counters.triggers == 5

    with scripted_hub(tmp_path) as socket:
        asyncio.run(use(socket))
