"""Challenge parts: passed only by the right verdict on every part, per recipe version and shift, over restarts."""

import asyncio
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station import challenge as challenge_module
from judo_edge.station.challenge import Challenge
from judo_edge.station.config import ChallengeTable
from judo_edge.station.results import Code, Recipe, Result, ResultState
from judo_edge.station.shifts import last_shift

UTC = timezone.utc
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def recipe(internal_id="a", external_id="lid"):
    return Recipe(
        external_id=external_id, internal_id=internal_id, part=external_id, bundle="b", bundle_digest="",
        references_digest="", reference_ids=(),
    )  # fmt: skip


class Line:
    """A hub that judges a part by what its file holds."""

    def __init__(self, *recipes):
        self.recipes, self.requests, self.conditions, self.code = list(recipes), [], {}, Code.INSPECTED

    def prepared(self):
        return tuple(self.recipes)

    async def judge(self, request):
        self.requests.append(request)
        if self.code is Code.NOT_READY:
            raise StationError("the station is halted", "Ready", "wait")
        decision = Decision(Path(request.path).read_text().strip()) if self.code is Code.INSPECTED else Decision.NOK
        (one,) = [one for one in self.recipes if one.external_id == request.recipe]
        return Result(
            number=len(self.requests), result_id="r", job_id="j", state=ResultState.COMPLETED, decision=decision,
            code=self.code, reason="", internal_recipe_id=one.internal_id, created="", triggered="",
        )  # fmt: skip

    def tell(self, name, severity, text):
        if text:
            self.conditions[name] = text
        else:
            self.conditions.pop(name, None)


class Place:
    """A folder of challenge parts, a clock, and challenges over both."""

    def __init__(self, folder):
        self.folder, self.now, self.line = folder, NOON, Line(recipe())

    def put(self, name, says, external_id="lid"):
        path = self.folder / "masters" / external_id / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(says)

    def challenge(self, **table):
        return Challenge(
            ChallengeTable(**table), self.folder / "masters", self.folder / "data" / "challenge.json", self.line,
            lambda: self.now, UTC,
        )  # fmt: skip


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def ticked(challenge, *asked):
    async def run():
        for external_id in asked:
            await challenge.challenge(external_id)
        await challenge.tick()

    asyncio.run(run())
    return challenge


def test_passes_when_every_part_is_judged_right(place):
    place.put("fail/scratch.png", "NOK")
    place.put("pass/good.png", "OK")
    challenge = place.challenge()
    assert challenge.state("lid") == "pending"
    assert "not judged yet" in challenge.allows_ok(recipe())
    ticked(challenge)
    assert (challenge.state("lid"), challenge.allows_ok(recipe())) == ("passed", "")
    assert [(one.part_id, one.origin, one.is_simulated) for one in place.line.requests] == [
        ("fail/scratch.png", "challenge", True),
        ("pass/good.png", "challenge", True),
    ]
    assert place.line.conditions == {}


@pytest.mark.parametrize(
    ("name", "says"), [("fail/a.png", "OK"), ("pass/a.png", "NOK"), ("fail/a.png", "NOT_DECIDABLE")]
)
def test_one_wrong_verdict_locks(place, name, says):
    place.put("fail/right.png", "NOK")
    place.put(name, says)
    challenge = ticked(place.challenge())
    assert challenge.state("lid") == "failed"
    assert "judged wrong" in challenge.allows_ok(recipe())
    assert f"{name} is {says}" in place.line.conditions["challenge.lid"]
    place.put(name, "OK" if name.startswith("pass") else "NOK")
    ticked(challenge)
    assert challenge.state("lid") == "failed"  # only a request, a shift or another version judges again
    ticked(challenge, "lid")
    assert challenge.state("lid") == "passed"
    assert place.line.conditions == {}


def test_a_nok_by_fault_proves_nothing(place):
    place.put("fail/scratch.png", "NOK")
    place.line.code = Code.DEADLINE
    challenge = ticked(place.challenge())
    assert challenge.state("lid") == "pending"
    assert "tried again" in place.line.conditions["challenge.lid"]
    place.line.code = Code.INSPECTED
    ticked(challenge)
    assert challenge.state("lid") == "pending"  # not before the pause is over


@pytest.mark.parametrize("code", [Code.REPLY_INVALID, Code.PHOTO_UNREADABLE])
def test_a_part_that_is_nok_because_it_cannot_be_read_is_judged_wrong(place, code):
    place.put("fail/scratch.png", "NOK")
    place.line.code = code
    assert ticked(place.challenge()).state("lid") == "failed"


def test_a_fault_of_the_moment_is_tried_again(place, monkeypatch):
    monkeypatch.setattr(challenge_module, "RETRY_SECONDS", 0.0)
    place.put("fail/scratch.png", "NOK")
    place.line.code = Code.NOT_READY
    challenge = ticked(place.challenge())
    assert challenge.state("lid") == "pending"
    place.line.code = Code.INSPECTED
    assert ticked(challenge).state("lid") == "passed"


def test_without_parts(place):
    assert place.challenge().state("lid") == "none"  # known before the first look: no OK is lost
    assert ticked(place.challenge()).state("lid") == "none"
    required = place.challenge(is_required=True)
    assert required.state("lid") == "pending"
    ticked(required)
    assert required.state("lid") == "failed"
    assert "no part that must fail" in place.line.conditions["challenge.lid"]
    place.put("pass/good.png", "OK")
    assert ticked(required, "lid").state("lid") == "failed"  # good parts alone prove nothing
    place.put("fail/bad.png", "NOK")
    assert ticked(required, "lid").state("lid") == "passed"


def test_another_version_is_judged_anew_and_an_earlier_one_is_not(place):
    place.put("fail/scratch.png", "NOK")
    challenge = ticked(place.challenge())
    place.line.recipes = [recipe("b")]
    assert challenge.state("lid") == "pending"
    assert challenge.allows_ok(recipe("b"))
    assert ticked(challenge).state("lid") == "passed"
    place.line.recipes = [recipe("a")]
    assert challenge.state("lid") == "passed"
    ticked(challenge)
    assert len(place.line.requests) == 2


def test_a_pass_survives_a_restart_and_is_checked_again(place):
    place.put("fail/scratch.png", "NOK")
    ticked(place.challenge())
    again = place.challenge()
    assert again.state("lid") == "passed"
    place.put("pass/new.png", "NOK")
    assert ticked(again).state("lid") == "failed"
    later = place.challenge()
    assert later.state("lid") == "failed"
    place.line.conditions.clear()
    place.line.code = Code.INSPECTOR_LOST
    told = []
    judge = place.line.judge

    async def judged(request):
        told.append(dict(place.line.conditions))
        return await judge(request)

    place.line.judge = judged
    ticked(later)
    assert "pass/new.png is NOK" in told[0]["challenge.lid"]  # known before the parts are judged again


def test_a_shift_locks_until_judged_again_even_when_it_began_while_off(place):
    place.put("fail/scratch.png", "NOK")
    challenge = ticked(place.challenge(shifts=("06:00", "14:00")))
    place.now = NOON + timedelta(hours=1, minutes=59)
    assert challenge.state("lid") == "passed"
    place.now = NOON + timedelta(hours=2)
    assert challenge.state("lid") == "pending"
    assert place.challenge(shifts=("06:00", "14:00")).state("lid") == "pending"
    assert ticked(challenge).state("lid") == "passed"
    place.now = NOON - timedelta(days=2)  # the clock was set back
    assert challenge.state("lid") == "pending"


def test_parts_that_are_put_in_place_while_running_count_from_the_next_shift(place):
    challenge = ticked(place.challenge(shifts=("14:00",)))
    place.put("fail/scratch.png", "OK")
    assert ticked(challenge).state("lid") == "none"
    place.now = NOON + timedelta(hours=3)
    assert ticked(challenge).state("lid") == "failed"


def test_missing_and_changed_parts_lock_until_somebody_asks(place):
    place.put("fail/a.png", "NOK")
    place.put("fail/b.png", "NOK")
    place.put("pass/c.png", "OK")
    ticked(place.challenge())
    (place.folder / "masters/lid/fail/a.png").unlink()
    (place.folder / "masters/lid/pass/c.png").write_bytes(b"OK\n")
    challenge = ticked(place.challenge())
    assert challenge.state("lid") == "failed"
    assert "fail/a.png is missing; pass/c.png was changed" in place.line.conditions["challenge.lid"]
    assert ticked(place.challenge()).state("lid") == "failed"  # a restart accepts nothing
    (place.folder / "masters/lid/pass/c.png").write_text("OK")
    assert ticked(challenge, "lid").state("lid") == "passed"
    assert ticked(place.challenge()).state("lid") == "passed"


def test_all_parts_gone_is_no_recipe_without_parts(place):
    place.put("fail/a.png", "NOK")
    ticked(place.challenge())
    (place.folder / "masters/lid/fail/a.png").unlink()
    place.line.recipes = [recipe("b")]
    challenge = place.challenge()
    assert challenge.state("lid") == "pending"
    assert ticked(challenge).state("lid") == "failed"


def test_a_recipe_that_changes_meanwhile_passes_nothing(place):
    place.put("fail/scratch.png", "NOK")
    challenge = place.challenge()
    judge = place.line.judge

    async def changing(request):
        place.line.recipes = [recipe("b")]
        return await judge(request)

    place.line.judge = changing
    ticked(challenge)
    assert challenge.allows_ok(recipe("a"))
    assert challenge.allows_ok(recipe("b"))


def test_damaged_records_are_judged_anew(place):
    place.put("fail/scratch.png", "NOK")
    ticked(place.challenge())
    path = place.folder / "data" / "challenge.json"
    path.write_text(path.read_text().replace('"at": "2026', '"at": "some time in 2026'))
    challenge = place.challenge()
    assert challenge.state("lid") == "pending"
    assert "all parts are judged anew" in place.line.conditions["challenge"]
    assert ticked(challenge).state("lid") == "passed"
    assert place.line.conditions == {}


def test_a_full_disk_locks_nothing(place):
    place.put("fail/scratch.png", "NOK")
    place.challenge()
    (place.folder / "data").write_text("a file where the folder should be")
    challenge = ticked(place.challenge())
    assert challenge.state("lid") == "passed"
    (place.folder / "data").unlink()
    ticked(challenge)
    assert place.challenge().state("lid") == "passed"


def test_a_condition_goes_with_its_recipe(place):
    place.put("fail/scratch.png", "OK")
    challenge = ticked(place.challenge())
    assert "challenge.lid" in place.line.conditions
    place.line.recipes = []
    ticked(challenge)
    assert place.line.conditions == {}
    with pytest.raises(StationError, match="not prepared"):
        asyncio.run(challenge.challenge("lid"))


def test_run_judges_what_becomes_due(place):
    place.put("fail/scratch.png", "NOK")

    async def run():
        challenge = place.challenge()
        task = asyncio.create_task(challenge.run())
        try:
            for wanted in (1, 2):
                while len(place.line.requests) < wanted or challenge.state("lid") != "passed":
                    await asyncio.sleep(0.01)
                await challenge.challenge("lid")
        finally:
            task.cancel()

    asyncio.run(asyncio.wait_for(run(), 30))


def test_shifts_are_times_on_the_wall():
    berlin = ZoneInfo("Europe/Berlin")
    before, after = datetime(2026, 3, 28, 6, tzinfo=UTC), datetime(2026, 3, 29, 6, tzinfo=UTC)
    assert last_shift(before, ("06:00",), berlin) == datetime(2026, 3, 28, 5, tzinfo=UTC)
    assert last_shift(after, ("06:00",), berlin) == datetime(2026, 3, 29, 4, tzinfo=UTC)  # summer time began
    night = datetime(2026, 3, 29, 3, tzinfo=UTC)
    assert last_shift(night, ("06:00", "22:00"), berlin) == datetime(2026, 3, 28, 21, tzinfo=UTC)
    assert last_shift(after, (), berlin) is None


def test_parts_that_were_put_there_during_a_stop_lock_from_the_start_on(place):
    assert ticked(place.challenge()).state("lid") == "none"
    place.put("fail/scratch.png", "NOK")
    challenge = place.challenge()
    assert challenge.state("lid") == "pending"
    assert "not judged yet" in challenge.allows_ok(recipe())
    assert ticked(challenge).state("lid") == "passed"


def test_parts_that_were_put_there_lock_from_the_next_shift_on_before_they_are_judged(place):
    challenge = ticked(place.challenge(shifts=("14:00",)))
    place.put("fail/scratch.png", "NOK")
    assert challenge.state("lid") == "none"
    place.now = NOON + timedelta(hours=3)
    assert "not judged yet" in challenge.allows_ok(recipe())
