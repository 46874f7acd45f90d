"""What systemd hears: datagrams on a path or an abstract name, and nothing where nobody listens."""

import os
import shutil
import socket
import subprocess

import pytest

from judo_edge.station.results import Condition, Severity, Status
from judo_edge.station.states import State
from judo_edge.station.supervisor.notify import Notifier, notifier_from_environment, without_notification
from judo_edge.station.supervisor.progress import STUCK_SECONDS, Progress


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A service manager's socket: its address as in NOTIFY_SOCKET, and what came."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@judo-edge-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(f"\0{address[1:]}" if address[0] == "@" else address)
        heard.settimeout(10)
        yield address, heard


def test_fields_are_lines_of_one_datagram(manager):
    address, heard = manager
    assert Notifier(address).send(READY="1", STATUS="all is well\nsecond line")
    assert heard.recv(4096) == b"READY=1\nSTATUS=all is well"


def test_same_datagram_as_systemd_notify(manager):
    if not (tool := shutil.which("systemd-notify")):
        pytest.skip("needs systemd-notify")
    address, heard = manager
    subprocess.run(
        [tool, "--no-block", "READY=1", "STATUS=up"], env={**os.environ, "NOTIFY_SOCKET": address}, check=True
    )
    theirs = [line for line in heard.recv(4096).split(b"\n") if not line.startswith(b"MAINPID")]
    Notifier(address).send(READY="1", STATUS="up")
    assert [line for line in theirs if line] == heard.recv(4096).split(b"\n")


def test_nobody_listens(tmp_path):
    assert not Notifier("").send(READY="1")
    assert not Notifier(str(tmp_path / "absent")).send(READY="1")


@pytest.mark.parametrize(
    ("environment", "address", "watchdog"),
    [
        ({}, "", None),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "30000000"}, "/run/n", 30.0),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "77"}, "@n", 0.5),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "500000", "WATCHDOG_PID": "78"}, "@n", None),
        ({"NOTIFY_SOCKET": "relative", "WATCHDOG_USEC": "no"}, "", None),
    ],
)
def test_environment(environment, address, watchdog):
    notifier = notifier_from_environment(environment, pid=77)
    assert (notifier.address, notifier.watchdog) == (address, watchdog)


def test_children_inherit_nothing_of_it():
    environment = {"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "PATH": "/bin"}
    assert without_notification(environment) == {"PATH": "/bin"}


class Told(Notifier):
    """A notifier that remembers."""

    def __init__(self, watchdog=30.0):
        super().__init__("", watchdog)
        self.sent = []

    def send(self, **fields):
        self.sent.extend(fields.items())
        return True

    def count(self, name):
        return sum(key == name for key, _ in self.sent)


def status(heartbeat, state=State.READY, **more):
    return Status(station="s", state=state, heartbeat=heartbeat, **more)


def test_ready_once_when_operational():
    told = Told()
    progress = Progress(told, is_automatic=True)
    for beat, state in enumerate((State.PREOPERATIONAL, State.ERROR, State.READY, State.ERROR, State.READY)):
        progress.take(status(beat, state))
        assert told.count("READY") == (beat >= 2)


def test_a_manual_station_is_ready_before_it_is_operational():
    told = Told()
    Progress(told, is_automatic=False).take(status(1, State.PREOPERATIONAL))
    assert ("READY", "1") in told.sent


def test_the_start_is_extended_only_while_the_heartbeat_moves():
    told = Told()
    progress = Progress(told, is_automatic=True)
    for beat in (1, 1, 2, 3, 3):
        progress.take(status(beat, State.PREOPERATIONAL))
    assert told.count("EXTEND_TIMEOUT_USEC") == 2


def test_watchdog_is_fed_only_when_the_heartbeat_moved():
    told = Told()
    progress = Progress(told, is_automatic=True)
    for heard in (status(7), status(8), status(8), None, None, status(9)):
        progress.take(heard)
    assert told.count("WATCHDOG") == 2


def test_no_watchdog_without_one():
    told = Told(watchdog=None)
    progress = Progress(told, is_automatic=True)
    progress.take(status(1))
    progress.take(status(2))
    assert not told.count("WATCHDOG")


def test_stuck_is_a_hub_that_was_heard_and_stands_still():
    now = [0.0]
    progress = Progress(Told(), True, clock=lambda: now[0])
    now[0] = 1000.0
    assert not progress.is_stuck()  # never heard: the beats of its event loop are what is watched
    progress.take(status(1))
    now[0] += STUCK_SECONDS
    assert not progress.is_stuck()
    progress.take(status(1))
    now[0] += 0.1
    assert progress.is_stuck()
    progress.hub_started()
    assert not progress.is_stuck()


def test_status_line_tells_state_verdicts_and_trouble():
    told = Told()
    trouble = Condition(name="disk", severity=Severity.WARNING, code=1, text="full", since="now")
    over = trouble.model_copy(update={"name": "late", "is_active": False})
    progress = Progress(told, is_automatic=True)
    progress.take(status(1, last_number=12, conditions=(trouble, over)))
    progress.take(status(2, last_number=12, conditions=(trouble, over)))
    assert [text for name, text in told.sent if name == "STATUS"] == ["Ready (no recipe), 12 verdicts; disk"]
