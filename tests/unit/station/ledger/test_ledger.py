"""The ledger: one result per job by constraint, nothing changed afterwards, what is read while it is written."""

import asyncio
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from judo_edge.core import Decision
from judo_edge.errors import ConfigError
from judo_edge.station.hub.verdicts import Finding, Moments, result_from_finding
from judo_edge.station.ledger import reading, writing
from judo_edge.station.ledger.database import connection_for_reading
from judo_edge.station.ledger.ledger import FILE_NAME, Ledger, LedgerError
from judo_edge.station.results import Code, Job, JobRequest, LateResult, Recipe, ResultQuery, utc_now
from judo_edge.station.workers import Kept
from tests.station_parts import BAD, GOOD

RECIPE = Recipe(
    external_id="lid", internal_id="1" * 32, part="lid", bundle="b", bundle_digest="2" * 64, references_digest="3" * 64,
    reference_ids=("r",),
)  # fmt: skip

COPY = """INSERT INTO results SELECT number + 8, 'x', job_id, state, decision, code, part_id, meas_id, product_id,
external_recipe_id, internal_recipe_id, created, total_seconds, is_part, record FROM results"""


def late_records(connection):
    return [record for (record,) in connection.execute("SELECT record FROM late ORDER BY late_id")]


def job(number, **request):
    request = JobRequest(part_id=f"part-{number}", **request)
    return Job(job_id=f"job-{number}", request=request, recipe_id="1" * 32, created=utc_now(), deadline=2.0)


def draft(one, outcome=GOOD):
    finding = Finding(outcome.code, outcome.reason, outcome)
    return result_from_finding(one, RECIPE, finding, Decision.NOT_DECIDABLE, Moments(utc_now(), 0.5))


@contextmanager
def opened(folder):
    ledger = Ledger(folder, 1 << 20)
    try:
        yield ledger
    finally:
        ledger.close()


async def judged(ledger, number, outcome=GOOD):
    one = await ledger.write(writing.add_job, job(number), "boot")
    return await ledger.write(writing.add_result, draft(one, outcome))


def test_a_job_has_one_result_and_numbers_have_no_gap(tmp_path):
    async def run(ledger):
        first, second = await judged(ledger, 1), await judged(ledger, 2, BAD)
        assert (first.number, second.number) == (1, 2)
        assert await ledger.write(writing.add_result, draft(job(1), BAD)) is None
        assert (await judged(ledger, 3)).number == 3
        found = await ledger.read(reading.results, ResultQuery())
        assert found[:2] == (first, second)
        assert [one.number for one in found] == [1, 2, 3]
        with pytest.raises(LedgerError, match="FOREIGN KEY"):
            await ledger.write(writing.add_result, draft(job(99)))

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


def test_works_that_wait_are_committed_together_and_fail_alone(tmp_path):
    async def run(ledger):
        held = threading.Event()
        blocking = asyncio.create_task(ledger.write(lambda _: held.wait(30)))
        await asyncio.sleep(0.05)
        works = [asyncio.create_task(judged_now(ledger, number)) for number in range(20)]
        works.insert(7, asyncio.create_task(ledger.write(writing.add_result, draft(job(99)))))
        works.insert(3, asyncio.create_task(ledger.write(lambda connection: connection.execute("nonsense"))))
        works.insert(2, asyncio.create_task(ledger.write(lambda _: 1 / 0)))
        await asyncio.sleep(0)
        held.set()
        await blocking
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        kinds = [type(one) for one in outcomes if isinstance(one, Exception)]
        assert kinds == [ZeroDivisionError, LedgerError, LedgerError]
        stored = await ledger.read(reading.results, ResultQuery())
        assert list(stored) == [one for one in outcomes if not isinstance(one, Exception)]
        assert [one.number for one in stored] == list(range(1, 21))

    async def judged_now(ledger, number):
        def work(connection):
            return writing.add_result(connection, draft(writing.add_job(connection, job(number), "boot")))

        return await ledger.write(work)

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


def test_a_result_that_is_written_again_is_the_one_that_was_stored(tmp_path):
    async def run(ledger):
        one = await ledger.write(writing.add_job, job(1), "boot")
        result = draft(one)
        first = await ledger.write(writing.add_result, result)
        assert await ledger.write(writing.add_result, result) == first
        assert await ledger.read(reading.last_number) == 1

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


def test_the_database_itself_refuses_to_change_or_remove_a_result(tmp_path):
    with opened(tmp_path) as ledger:
        asyncio.run(judged(ledger, 1))
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    for statement in ("UPDATE results SET decision = 'OK'", "DELETE FROM results"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            connection.execute(statement)
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        connection.execute(COPY)
    connection.close()


def test_writes_are_synced_to_the_disk(tmp_path):
    with opened(tmp_path) as ledger:

        def pragmas(connection):
            return [
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]

        assert asyncio.run(ledger.write(pragmas)) == ["wal", 2, 1]


def test_a_key_is_one_job(tmp_path):
    async def run(ledger):
        first = await ledger.write(writing.add_job, job(1, key="plc-7"), "boot")
        again = await ledger.write(writing.add_job, job(2, key="plc-7"), "boot")
        assert again == first
        assert await ledger.read(reading.unanswered_jobs) == (first,)
        await ledger.write(writing.add_job, job(3), "boot")
        await ledger.write(writing.add_job, job(4), "boot")
        assert len(await ledger.read(reading.unanswered_jobs)) == 3

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


def test_what_comes_after_a_verdict_is_joined_when_it_is_read(tmp_path):
    async def run(ledger):
        result = await judged(ledger, 1, BAD)
        await ledger.write(
            writing.add_evidence, result.result_id, Kept(photo="a/b.jpg", mask_file="a/b.png", num_bytes=12)
        )
        assert await ledger.write(writing.add_review, result.result_id, "OK", "ann", "fine")
        assert not await ledger.write(writing.add_review, "unknown", "OK", "ann", "")
        found = await ledger.read(reading.result, result.result_id)
        assert (found.photo, found.mask_file, found.review, found.decision) == (
            "a/b.jpg",
            "a/b.png",
            "OK",
            Decision.NOK,
        )
        assert await ledger.read(reading.results, ResultQuery(is_unreviewed=True)) == ()
        await ledger.write(writing.add_review, result.result_id, "", "ann", "taken back")
        assert len(await ledger.read(reading.results, ResultQuery(is_unreviewed=True))) == 1
        (kept,) = await ledger.read(reading.evidence, Decision.NOK, 10)
        assert (kept.result_id, kept.num_bytes) == (result.result_id, 12)
        assert await ledger.read(reading.evidence_bytes) == 12
        await ledger.write(writing.remove_evidence, [result.result_id])
        assert await ledger.read(reading.evidence_bytes) == 0
        assert (await ledger.read(reading.result, result.result_id)).photo == ""
        late = LateResult(job_id="job-1", arrived=utc_now(), seconds_late=1.0, decision=Decision.OK, reason="late")
        await ledger.write(writing.add_late, late)
        assert await ledger.read(late_records) == [late.model_dump_json()]
        assert (await ledger.read(reading.result, result.result_id)).decision is Decision.NOK

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


def test_queries_filter_page_and_turn_round(tmp_path):
    async def run(ledger):
        for number in range(1, 7):
            await judged(ledger, number, BAD if number % 2 else GOOD)

        async def numbers(**query):
            return [one.number for one in await ledger.read(reading.results, ResultQuery(**query))]

        assert await numbers(decision=Decision.NOK) == [1, 3, 5]
        assert await numbers(after=2, limit=2) == [3, 4]
        assert await numbers(newest_first=True, limit=2) == [6, 5]
        assert await numbers(part_id="part-4") == [4]
        assert await numbers(internal_recipe_id="1" * 32, external_recipe_id="lid", after=5) == [6]
        assert await numbers(state=4) == []
        found = await ledger.read(reading.counters)
        assert (found.triggers, found.ok, found.nok, found.not_decidable) == (6, 3, 3, 0)

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(12)), batch=st.integers(1, 4))
def test_sinks_get_exactly_what_they_have_not_acknowledged(tmp_path_factory, order, batch):
    async def run(ledger):
        results = [await judged(ledger, number) for number in range(12)]
        left = {one.result_id for one in results}
        for start in range(0, 12, batch):
            ids = [results[number].result_id for number in order[start : start + batch]]
            assert await ledger.write(writing.acknowledge, "mqtt", [*ids, "unknown"]) == (*[True] * len(ids), False)
            left -= set(ids)
            found = await ledger.read(reading.unacknowledged, "mqtt", 100)
            assert {one.result_id for one in found} == left
            assert [one.number for one in found] == sorted(one.number for one in found)
        assert len(await ledger.read(reading.unacknowledged, "opcua", 100)) == 12

    with opened(tmp_path_factory.mktemp("ledger")) as ledger:
        asyncio.run(run(ledger))


def test_readers_see_every_commit_while_the_writer_writes(tmp_path):
    async def run(ledger):
        seen = []

        def follow():
            connection = connection_for_reading(ledger.path)
            while not seen or seen[-1] < 100:
                seen.append(reading.last_number(connection))
            connection.close()

        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(follow)
            for number in range(100):
                assert (await judged(ledger, number)).number == await ledger.read(reading.last_number)
            await asyncio.to_thread(following.result, 30)
        assert seen == sorted(seen)

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


@pytest.mark.parametrize("damage", ["garbage", "page", "cut"])
def test_a_damaged_ledger_is_put_aside_and_named(tmp_path, damage):
    with opened(tmp_path) as ledger:
        asyncio.run(fill(ledger))
    path = tmp_path / FILE_NAME
    data = bytearray(path.read_bytes())
    if damage == "garbage":
        data[:] = b"not a database " * 1000
    elif damage == "page":
        data[4096 : len(data)] = b"\xff" * (len(data) - 4096)
    else:
        del data[4096 + 100 :]
    path.write_bytes(data)
    with opened(tmp_path) as ledger:
        assert ledger.damaged is not None
        assert ledger.damaged.read_bytes() == bytes(data)
        assert asyncio.run(judged(ledger, 1)).number == 1
    with opened(tmp_path) as ledger:
        assert ledger.damaged is None


async def fill(ledger):
    for number in range(30):
        await judged(ledger, number)


def test_what_was_written_survives_without_a_clean_end(tmp_path):
    with opened(tmp_path / "a") as ledger:
        asyncio.run(fill(ledger))
        copy = tmp_path / "b"
        copy.mkdir()
        for path in (tmp_path / "a").glob("ledger.sqlite*"):  # what a power cut leaves: the file and its log
            if not path.name.endswith("-shm"):
                (copy / path.name).write_bytes(path.read_bytes())
    with opened(copy) as ledger:
        assert ledger.damaged is None
        assert asyncio.run(ledger.read(reading.last_number)) == 30


def test_a_ledger_of_a_later_version_is_left_alone(tmp_path):
    with opened(tmp_path):
        pass
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="version 99"):
        Ledger(tmp_path, 1 << 20)


def test_versions_pins_and_counters_are_kept(tmp_path):
    async def run(ledger):
        newer = RECIPE.model_copy(update={"internal_id": "4" * 32})
        for recipe in (RECIPE, newer, RECIPE):
            await ledger.write(writing.add_recipe, recipe)
        assert await ledger.read(reading.recipes) == (RECIPE, newer)
        await ledger.write(writing.pin, "lid", "4" * 32)
        assert await ledger.read(reading.pins) == {"lid": "4" * 32}
        await ledger.write(writing.pin, "lid", "")
        assert await ledger.read(reading.pins) == {}
        for more in (2, 3):
            await ledger.write(writing.count, "missed", more)
        assert (await ledger.read(reading.counters)).missed == 5
        await ledger.write(writing.add_audit, "ann", "reset", {"cause": 1})
        assert (await ledger.read(reading.audit, 5))[0]["data"] == {"cause": 1}

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


def test_challenge_parts_do_not_count(tmp_path):
    async def run(ledger):
        one = await ledger.write(writing.add_job, job(1, origin="challenge"), "boot")
        assert (await ledger.write(writing.add_result, draft(one))).number == 1
        assert (await ledger.read(reading.counters)).triggers == 0
        assert await ledger.read(reading.last_seconds, 10) == ()

    with opened(tmp_path) as ledger:
        asyncio.run(run(ledger))


def test_a_restarted_job_is_unanswered_until_it_has_its_result(tmp_path):
    with opened(tmp_path) as ledger:
        asyncio.run(ledger.write(writing.add_job, job(1), ledger.boot))
    with opened(tmp_path) as ledger:
        (one,) = asyncio.run(ledger.read(reading.unanswered_jobs))
        finding = Finding(Code.RESTARTED, "restarted")
        asyncio.run(ledger.write(writing.add_result, result_from_finding(one, None, finding, Decision.NOK, Moments())))
        assert asyncio.run(ledger.read(reading.unanswered_jobs)) == ()
