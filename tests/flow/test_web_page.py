"""The web page in a real browser, over a real server and a real hub with scripted workers."""

from __future__ import annotations

import http.server
import io
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs the extra `web` (fastapi)")
pytest.importorskip("uvicorn", reason="needs the extra `web` (uvicorn)")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

from PIL import Image

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station.config import StationConfig
from judo_edge.station.results import Code
from judo_edge.station.users import FILE_NAME, Role, UserStore
from judo_edge.station.workers import Outcome
from tests.memory_station import HOSTILE
from tests.station_parts import BAD, GOOD, Script, scripted_config, scripted_hub

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium or google-chrome on the path")

PASSWORD = "correct horse"
WAIT = 30_000
"""Milliseconds after which the browser gives up waiting."""
AWAY = "503 (Service Unavailable)"
"""What the browser notes when it asks while there is no hub."""
STATION = """
[station]
name = "press-4"
data = "data"
[[recipes]]
id = "lid"
bundle = "scripted"
[web]
is_on = true
port = 0
"""
SERVE = """
import asyncio, sys
from pathlib import Path
from judo_edge.station.config import station_from_file
from judo_edge.station.processes.web import run_web
asyncio.run(run_web(station_from_file(Path(sys.argv[1])), Path(sys.argv[2])))
"""
NOTE_VIOLATIONS = """
document.addEventListener('securitypolicyviolation', (event) => console.error('CSP', event.violatedDirective));
"""
LOSE_EVENTS = """
window.EventSource = class extends EventSource {
  set onmessage(take) { super.onmessage = (message) => { if (!window.isDeaf) take(message); }; }
};
"""
MARKS = """async () => {
  const [result] = await (await fetch('/api/results?newest_first=1')).json();
  const marks = performance.getEntriesByType('mark').map((one) => [one.name.split(' ')[0], one.startTime]);
  const { verdict, shown } = Object.fromEntries(marks);
  return { event: shown - verdict, made: performance.timeOrigin + shown - Date.parse(result.created) };
}"""
SMALL = """() => {
  const all = [...document.querySelectorAll('button, nav a, select, input[type=text], input[type=search]')];
  const isSmall = (one) => one.offsetParent && (one.offsetHeight < 44 || one.offsetWidth < 44);
  return all.filter(isSmall).map((one) => one.outerHTML);
}"""
UNDECIDED = Outcome(decision=Decision.NOT_DECIDABLE, code=Code.REPLY_INVALID, reason="the reply has no mask")


@dataclass
class Plant:
    """A station with its page, and what its browser complained of."""

    folder: Path
    config: StationConfig
    script: Script
    run_folder: Path
    url: str = ""
    complaints: list[str] = field(default_factory=list)
    has_hub: bool = False

    @contextmanager
    def hub(self) -> Iterator[None]:
        with scripted_hub(self.folder, self.script, self.config, self.run_folder):
            self.has_hub = True
            try:
                yield
            finally:
                self.has_hub = False

    @contextmanager
    def server(self) -> Iterator[None]:
        command = [sys.executable, "-c", SERVE, str(self.folder / "STATION.toml"), str(self.run_folder)]
        process = subprocess.Popen(command)
        try:
            wait_for(lambda: process.poll() is not None or (self.run_folder / "web.url").exists())
            self.url = (self.run_folder / "web.url").read_text()
            yield
        finally:
            process.kill()
            process.wait()


def wait_for(is_so: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    with tempfile.TemporaryDirectory(prefix="web") as name:
        folder = Path(name)
        (folder / "STATION.toml").write_text(STATION)
        config = scripted_config(folder, name="press-4")
        users = UserStore(config.data / FILE_NAME)
        users.add("eva", PASSWORD, Role.ENGINEER)
        users.add("ole", PASSWORD, Role.OPERATOR)
        run_folder = folder / "run"
        run_folder.mkdir(mode=0o700)
        plant = Plant(folder, config, Script(outcomes=[GOOD], inspect_seconds=0.05), run_folder)
        with plant.server():
            yield plant


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(plant: Plant, browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(WAIT)
    page = context.new_page()
    complaints: list[str] = []

    def is_complaint(one: Any) -> bool:
        return one.type in ("error", "warning") and (plant.has_hub or AWAY not in one.text)

    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("console", lambda one: complaints.append(one.text) if is_complaint(one) else None)
    page.add_init_script(NOTE_VIOLATIONS + LOSE_EVENTS)
    sign_in(page, plant)
    yield page
    expected = plant.complaints
    context.close()
    assert [one for one in complaints if not any(text in one for text in expected)] == []
    plant.complaints = []


def sign_in(page: Any, plant: Plant, name: str = "eva") -> None:
    page.goto(plant.url)
    page.fill("[name=name]", name)
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_selector("#live-band .band")


def trigger(page: Any, part_id: str) -> None:
    """Inspect a part by hand, as a person does on the page."""
    page.click("#tab-station")
    page.fill("#trigger-form [name=part_id]", part_id)
    page.click("#trigger-form button")
    page.wait_for_selector("#live:not([hidden])")


def until(page: Any, expression: str) -> None:
    """Wait until an expression holds; the browser's own way to wait would need `eval` in the page."""
    wait_for(lambda: page.evaluate(expression))


def press_until(page: Any, key: str, selector: str) -> None:
    """Press a key until it did something: a part that has only just come takes no verdict of a person."""
    end = time.monotonic() + 30
    while page.locator(selector).count() == 0:
        assert time.monotonic() < end, selector
        page.keyboard.press(key)
        page.wait_for_timeout(300)


def band(page: Any, part_id: str, decision: str) -> Any:
    found = page.locator(f".band[data-decision={decision}]:visible", has_text=part_id)
    found.wait_for()
    return found


def test_a_nok_with_its_mask_a_review_and_a_question(
    plant: Plant, page: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        plant.script.outcomes = [BAD]
        trigger(page, "SN-1")
        assert "a scratch" in band(page, "SN-1", "NOK").inner_text()
        until(page, "performance.getEntriesByType('mark').some((one) => one.name.startsWith('shown'))")
        assert page.locator("#live-pictures .mask rect").count() == 3
        seen = page.evaluate(MARKS)
        told = f"{seen['made']:.0f} ms after the verdict, {seen['event']:.0f} ms after its event"
        with capsys.disabled():
            print(f"\n  NOK with photo and mask shown {told}")
        assert 0 <= seen["event"] <= seen["made"] < 10_000

        press_until(page, "o", ".toast:has-text('Said OK: SN-1')")
        page.wait_for_selector(".review.OK[aria-pressed=true]")
        page.keyboard.press("Enter")
        page.wait_for_selector("#results-detail .band:has-text('reviewed: OK')")
        page.fill("#results-detail [name=question]", "Where is it?")
        page.keyboard.press("Enter")
        page.wait_for_selector(".reply:has-text('You asked: Where is it?')")
        stored = page.evaluate("async () => (await (await fetch('/api/results?newest_first=1')).json())[0]")
        assert (stored["decision"], stored["review"]) == ("NOK", "OK")


def test_a_reference_is_enrolled_and_retired(plant: Plant, page: Any) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 90)).save(buffer, "PNG")
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        page.click("#tab-references")
        page.wait_for_selector("#references-part option", state="attached")
        file = {"name": f"golden {HOSTILE}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
        page.set_input_files("#references-file", file)
        card = page.wait_for_selector("article.card")
        until(page, "document.querySelector('article.card img').naturalWidth > 0")
        assert "<" not in card.inner_text() and page.title() != "owned"
        plant.complaints = ["400 (Bad Request)"]
        page.set_input_files("#references-file", {"name": "x.png", "mimeType": "image/png", "buffer": b"no photo"})
        page.wait_for_selector(".toast.error:has-text('cannot be decoded')")
        page.click("article.card button")
        page.click("dialog button.danger")
        page.wait_for_selector("article.card", state="detached")
        page.check("#references-retired")
        page.wait_for_selector("article.card.retired")


def test_hostile_names_and_replies_are_only_text(plant: Plant, page: Any) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        plant.script.outcomes = [BAD.model_copy(update={"reason": HOSTILE, "reply": HOSTILE})]
        trigger(page, f"SN {HOSTILE}")
        assert HOSTILE in band(page, "SN <img", "NOK").inner_text()
        page.keyboard.press("Enter")
        page.wait_for_selector("#results-detail .facts")
        page.fill("#results-detail [name=question]", HOSTILE)
        page.keyboard.press("Enter")
        page.wait_for_selector(".answer .reply[aria-busy=false]")
        assert page.locator(".answer .reply").inner_text().endswith(HOSTILE)
        page.fill("#results-search", f"SN {HOSTILE}")
        page.wait_for_selector(".result-row")
        assert page.title() != "owned"
        assert page.locator("img[src='x']").count() == 0 and page.locator("body script").count() == 0


def test_keys_reach_everything(plant: Plant, page: Any) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        for outcome, part, decision in ((GOOD, "K-1", "OK"), (UNDECIDED, "K-2", "NOT_DECIDABLE"), (BAD, "K-3", "NOK")):
            plant.script.outcomes = [outcome]
            trigger(page, part)
            band(page, part, decision)
        page.locator("body").click(position={"x": 5, "y": 5})
        page.keyboard.press("ArrowLeft")
        assert "NOT DECIDABLE" in band(page, "K-2", "NOT_DECIDABLE").inner_text()
        page.wait_for_selector("#live.older")
        page.keyboard.press("ArrowLeft")
        band(page, "K-1", "OK")
        page.keyboard.press("Escape")
        band(page, "K-3", "NOK")
        press_until(page, "n", ".toast:has-text('Confirmed NOK: K-3')")
        page.keyboard.press("m")
        page.wait_for_selector(".mask", state="hidden")
        page.keyboard.press("?")
        page.wait_for_selector("dialog[open] .keys")
        page.keyboard.press("Escape")
        page.wait_for_selector("dialog[open]", state="detached")
        page.keyboard.press("2")
        page.wait_for_selector(".result-row[aria-current]")
        page.keyboard.press("ArrowDown")
        band(page, "K-2", "NOT_DECIDABLE")
        page.check("[value=unreviewed]")
        page.wait_for_selector(".result-row:has-text('K-3')", state="detached")
        page.keyboard.press("Escape")
        page.wait_for_selector("#live:not([hidden])")
        small = page.evaluate(SMALL)
        assert small == []


def test_while_the_station_is_away_nothing_looks_current(plant: Plant, page: Any) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        plant.script.outcomes = [GOOD]
        trigger(page, "A-1")
        band(page, "A-1", "OK")
    page.wait_for_selector("#away:has-text('Station is away')")
    page.wait_for_selector("#live.stale .band:has-text('station is away')")
    assert "grayscale" in page.evaluate("getComputedStyle(document.querySelector('#live .band')).filter")
    assert page.evaluate("fetch('/healthz').then((answer) => answer.text())") == "away"
    plant.complaints = [AWAY]
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        page.wait_for_selector("#live:not(.stale)")
        plant.script.outcomes = [BAD]
        trigger(page, "A-2")
        band(page, "A-2", "NOK")


def test_what_was_missed_is_fetched_by_number(plant: Plant, page: Any) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        plant.script.outcomes = [GOOD]
        trigger(page, "M-1")
        band(page, "M-1", "OK")
        page.evaluate("window.isDeaf = true")
        page.wait_for_selector("#away:has-text('Station is away')")
        plant.script.outcomes = [BAD]
        other = page.context.browser.new_context()
        second = other.new_page()
        second.set_default_timeout(WAIT)
        sign_in(second, plant)
        for number in range(3):
            trigger(second, f"M-1{number}")
            band(second, f"M-1{number}", "NOK")
        other.close()
        page.evaluate("window.isDeaf = false")
        page.wait_for_selector("#away", state="hidden")
        band(page, "M-12", "NOK")
        assert page.locator("#live-rejects .reject:has-text('M-10')").count() == 1


CHALLENGE_PART = """async () => {
  const { insert, lastResult } = await import('/static/store.js');
  const { number } = lastResult();
  const other = { number: number + 1, result_id: 'm', part_id: 'fail/master.jpg', decision: 'NOK' };
  insert({ ...lastResult(), ...other, origin: 'challenge' });
  await new Promise((done) => setTimeout(done, 2500)); // the page draws itself anew every second
}"""


def test_a_challenge_part_does_not_look_like_a_part_of_the_line(plant: Plant, page: Any) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        plant.script.outcomes = [GOOD]
        trigger(page, "C-1")
        band(page, "C-1", "OK")
        page.evaluate(CHALLENGE_PART)
        band(page, "C-1", "OK")
        assert page.locator(".reject:has-text('fail/master')").count() == 0


class _Evil(http.server.BaseHTTPRequestHandler):
    """Another origin on this machine, whose page posts forms to ours."""

    target = ""

    def do_GET(self) -> None:
        action, kind, name = self.path.lstrip("/?").split(",")
        field = f"<input name='{name}' value='1\"}}'>"
        text = f"<form method=post action='{self.target}{action}' enctype='{kind}'>{field}</form>"
        body = f"<!DOCTYPE html>{text}<script>document.forms[0].submit()</script>".encode()
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_form_of_another_origin_is_refused(plant: Plant, page: Any) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Evil)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _Evil.target = plant.url
    plant.complaints = ["403 (Forbidden)", "404"]
    try:
        with plant.hub():
            page.wait_for_selector("#away", state="hidden")
            before = page.evaluate("async () => (await (await fetch('/api/results')).json()).length")
            origin = f"http://127.0.0.1:{server.server_port}"
            for path in ("api/trigger", "logout", "api/state/halt", "login"):
                for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
                    with page.expect_response(lambda one, path=path: one.url == plant.url + path) as answer:
                        page.goto(f'{origin}/?{path},{kind},{{"part_id":"evil')
                    assert answer.value.status == 403 and "another origin" in answer.value.text()
            page.goto(plant.url)
            page.wait_for_selector("#live-band .band")
            after = page.evaluate("async () => (await (await fetch('/api/results')).json()).length")
            assert after == before
            with pytest.raises(playwright.Error):
                page.goto(f"{origin}/x")
                page.evaluate(f"fetch('{plant.url}api/status', {{credentials: 'include'}})")
    finally:
        server.shutdown()


def test_an_engineer_changes_the_station_and_an_operator_only_looks(plant: Plant, page: Any) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        page.click("#tab-station")
        page.click("#panel-state >> text=Halt")
        page.click("dialog button.danger")
        page.wait_for_selector(".state-word:text-is('Halted')")
        page.click("#panel-state >> text=Reset")
        page.click("dialog button.danger")
        page.wait_for_selector(".state-word:text-is('Preoperational')")
        page.click("#panel-state >> text=Automatic")
        page.wait_for_selector(".state-word:text-is('Initialized'), .state-word:text-is('Ready')")
        page.click("#sign-out")
        page.wait_for_selector("[name=password]")
        sign_in(page, plant, "ole")
        page.click("#tab-station")
        page.wait_for_selector("#trigger-form")
        assert page.locator("text=Halt").count() == page.locator("text=Make ready").count() == 0
        page.click("#tab-references")
        page.wait_for_selector("#references-part option", state="attached")
        assert not page.is_visible("#references-upload")


def test_a_part_that_has_only_just_come_takes_no_verdict(plant: Plant, page: Any) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        plant.script.outcomes = [GOOD]
        page.evaluate("performance.now = () => 1e6")
        trigger(page, "J-1")
        band(page, "J-1", "OK")
        page.keyboard.press("n")
        page.wait_for_selector(".toast:has-text('J-1 has only just come')")
        assert page.evaluate("async () => (await (await fetch('/api/results?newest_first=1')).json())[0].review") == ""
        page.evaluate("performance.now = () => 1e6 + 1000")
        page.keyboard.press("n")
        page.wait_for_selector(".toast:has-text('Said NOK: J-1')")


def test_a_failing_camera_is_amber_and_says_why(plant: Plant, page: Any) -> None:
    with plant.hub():
        page.wait_for_selector("#away", state="hidden")
        plant.script.grab_faults = [StationError("no photo within 0.5 s", number=-int(Code.CAMERA_TIMEOUT))]
        try:
            trigger(page, "C-1")
            found = band(page, "C-1", "NOT_DECIDABLE")
            assert "NOT DECIDABLE" in found.inner_text() and "no photo within 0.5 s" in found.inner_text()
        finally:
            plant.script.grab_faults = [None]
