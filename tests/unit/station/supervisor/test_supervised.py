"""Real children under a real supervisor: killed, hung, stubborn, quick to end; and a scripted hub."""

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from judo_edge.errors import InputError
from judo_edge.station import wire
from judo_edge.station.results import Status
from judo_edge.station.states import State
from judo_edge.station.supervisor import progress as progress_module
from judo_edge.station.supervisor.logbook import Logbook
from judo_edge.station.supervisor.notify import Notifier
from judo_edge.station.supervisor.running import Supervisor
from judo_edge.station.supervisor.supervised import Supervised, text_of_status
from judo_edge.station.supervisor.table import ProcessSpec
from judo_edge.station.workers import SOCKET_NAME

ROOT = str(Path(__file__).resolve().parents[4])
TIED = """
import asyncio, logging, signal, sys, time
sys.path.insert(0, {root!r})
from judo_edge.station.processes.ties import die_with_supervisor
from judo_edge.station.processes.__main__ import run_until_stopped
die_with_supervisor()
async def main():
    print("WARNING up and running", flush=True)
    {body}
asyncio.run(run_until_stopped(main))
"""
FOREVER = "await asyncio.Event().wait()"


def spec_of(body=FOREVER, name="worker", role="camera", **more):
    return ProcessSpec(name, role, (sys.executable, "-c", TIED.format(root=ROOT, body=body)), **more)


async def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.02)


def is_alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def supervised(tmp_path, spec, use):
    """Run `use(place, stream)` beside a supervised process; returns what was logged."""

    async def run():
        stream = io.StringIO()
        book = Logbook(tmp_path, stream)
        place = Supervised(spec, book)
        running = asyncio.create_task(place.run())
        try:
            await asyncio.wait_for(use(place), 120)
        finally:
            await place.stop(5.0)
            await running
            book.close()
        assert place.health.state == "stopped"
        return stream.getvalue()

    return asyncio.run(run())


def test_a_killed_process_comes_back(tmp_path):
    pids = []

    async def use(place):
        for _ in range(2):
            await until(lambda: place.health.state == "ready")
            pids.append(place.health.pid)
            os.kill(place.health.pid, signal.SIGKILL)
            await until(lambda: place.health.restarts == len(pids))
            assert place.health.detail == "SIGKILL"
        await until(lambda: place.health.state == "ready")

    log = supervised(tmp_path, spec_of(), use)
    assert len(set(pids)) == 2
    assert "worker WARNING up and running" in log
    assert "worker ERROR ended: SIGKILL" in log


@pytest.mark.parametrize("hang", ["stopped", "blocked"])
def test_a_hung_process_is_killed_and_comes_back(tmp_path, hang):
    body = FOREVER if hang == "stopped" else "await asyncio.sleep(1); time.sleep(1000)"

    async def use(place):
        await until(lambda: place.health.state == "ready")
        if hang == "stopped":
            os.kill(place.health.pid, signal.SIGSTOP)
        await until(lambda: place.health.restarts == 1)
        assert "stood still" in place.health.detail
        await until(lambda: place.health.state == "ready")

    supervised(tmp_path, spec_of(body, silent_limit=2.0), use)


def test_one_that_never_beats_is_killed(tmp_path):
    async def use(place):
        await until(lambda: place.health.restarts == 1)
        assert "stood still" in place.health.detail

    supervised(
        tmp_path,
        ProcessSpec("w", "camera", (sys.executable, "-c", "import time; time.sleep(1000)"), start_limit=0.5),
        use,
    )


def test_one_that_ends_at_once_is_told_of_but_never_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("judo_edge.station.supervisor.backoff.LONGEST", 0.01)

    async def use(place):
        await until(lambda: place.health.restarts > 7 and place.health.state == "waiting")
        assert "exit status 3; ended" in place.health.detail
        assert "times within a minute" in place.health.detail

    supervised(tmp_path, ProcessSpec("w", "hub", (sys.executable, "-c", "raise SystemExit(3)")), use)


def test_a_program_that_is_not_there_is_tried_again(tmp_path):
    async def use(place):
        await until(lambda: place.health.restarts == 2)
        assert place.health.detail.startswith("cannot be started")

    supervised(tmp_path, ProcessSpec("w", "camera", ("/no/such/program",)), use)


def test_restart_does_not_wait(tmp_path):
    async def use(place):
        await until(lambda: place.health.state == "ready")
        first = place.health.pid
        await place.restart("wanted")
        await until(lambda: place.health.state == "ready" and place.health.pid != first)
        assert place.health.restarts == 1

    assert "starts again in 0.0 s" in supervised(tmp_path, spec_of(), use)


def test_a_stubborn_process_is_killed_with_its_children(tmp_path):
    body = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); import subprocess\n"
        f"    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid) + ' ')\n    {FOREVER}"
    )
    body = "asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM); " + body

    async def use(place):
        await until(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text().endswith(" "))
        await place.stop(0.5)
        await until(lambda: not is_alive(int((tmp_path / "pid").read_text())))

    assert "did not end within 0.5 s" in supervised(tmp_path, spec_of(body), use)


def test_processes_die_with_a_supervisor_that_is_killed(tmp_path):
    script = f"""
import asyncio, sys
sys.path.insert(0, {ROOT!r})
from pathlib import Path
from tests.unit.station.supervisor.test_supervised import spec_of
from judo_edge.station.supervisor.logbook import Logbook
from judo_edge.station.supervisor.supervised import Supervised
async def main():
    place = Supervised(spec_of(), Logbook(Path({str(tmp_path)!r})))
    running = asyncio.create_task(place.run())
    while place.health.state != "ready":
        await asyncio.sleep(0.02)
    print(place.health.pid, flush=True)
    await running
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT) as supervisor:
        pid = int(supervisor.stdout.readline())
        assert is_alive(pid)
        os.kill(pid, signal.SIGSTOP)  # even one that does not run
        supervisor.kill()
    asyncio.run(until(lambda: not is_alive(pid)))


def test_text_of_status():
    assert [text_of_status(status) for status in (0, -9, -200)] == ["exit status 0", "SIGKILL", "signal 200"]


class Told(Notifier):
    """A notifier that remembers the names of what it was told."""

    def __init__(self):
        super().__init__("", 30.0)
        self.names = []

    def send(self, **fields):
        self.names += fields
        return True


class ScriptedHub:
    """A hub's wire: counts its heartbeat while `beats`, and keeps what the supervisor tells of the processes."""

    def __init__(self):
        self.heartbeat, self.beats, self.peers, self.told = 0, True, [], []
        self.handlers = {"hello": self.hello, "status": self.status, "processes": self.processes}

    async def hello(self, **_):
        return None

    async def status(self):
        self.heartbeat += self.beats
        return Status(station="s", state=State.READY, heartbeat=self.heartbeat).model_dump(mode="json")

    async def processes(self, processes):
        self.told = processes

    def state(self, name):
        return next((one["state"] for one in self.told if one["name"] == name), "")


def station(tmp_path, use):
    """Run `use(hub, supervisor)` with two workers, and stop; returns the log and what systemd heard."""

    async def run():
        hub, stream, told = ScriptedHub(), io.StringIO(), Told()
        server = await wire.serve(tmp_path / SOCKET_NAME, hub.peers.append, lambda: hub.handlers)
        book = Logbook(tmp_path / "log", stream)
        table = (spec_of(name="hub", role="hub"), spec_of(name="camera.top"), spec_of(name="web", role="web"))
        supervisor = Supervisor(table, tmp_path, book, told, is_automatic=True)
        running = asyncio.create_task(supervisor.run())
        try:
            await asyncio.wait_for(use(hub, supervisor), 120)
        finally:
            supervisor.ask_to_stop()
            await running
            server.close()
            book.close()
        assert {one.state for one in supervisor.processes} == {"stopped"}
        return stream.getvalue(), told.names

    return asyncio.run(run())


def test_the_hub_hears_of_its_processes_and_may_restart_them(tmp_path):
    async def use(hub, supervisor):
        await until(lambda: {hub.state(name) for name in ("hub", "camera.top", "web")} == {"ready"})
        assert await hub.peers[-1].call("restart", name="top") is None
        await until(lambda: hub.told[1]["restarts"] == 1 and hub.state("camera.top") == "ready")
        with pytest.raises(InputError, match="no process 'bottom'"):
            await supervisor.restart("bottom")
        await until(lambda: supervisor._notifier.names.count("WATCHDOG") > 1)

    log, names = station(tmp_path, use)
    assert names.count("READY") == names.count("STOPPING") == 1
    assert names.index("READY") < names.index("STOPPING")
    assert log.splitlines()[-1].endswith("supervisor INFO stopped")


def test_a_hub_that_delivers_nothing_is_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_module, "STUCK_SECONDS", 1.5)

    async def use(hub, supervisor):
        await until(lambda: hub.state("hub") == "ready")
        hub.beats = False
        await until(lambda: supervisor.processes[0].restarts == 1)

    log, _ = station(tmp_path, use)
    assert "its heartbeat stands still" in log


def test_a_second_request_hurries(tmp_path):
    body = "asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)"
    body += "; signal.signal(signal.SIGTERM, signal.SIG_IGN)"

    async def run():
        book = Logbook(tmp_path, io.StringIO())
        spec = spec_of(
            f"{body}\n    print('WARNING deaf', flush=True)\n    {FOREVER}", name="hub", role="hub", stop_limit=1000.0
        )
        supervisor = Supervisor((spec,), tmp_path, book, Told(), is_automatic=True)
        running = asyncio.create_task(supervisor.run())
        log = tmp_path / "hub.log"
        await until(lambda: log.is_file() and "deaf" in log.read_text())
        supervisor.ask_to_stop()
        supervisor.ask_to_stop()
        await asyncio.wait_for(running, 60)
        book.close()

    asyncio.run(run())
