"""The MQTT process against a real broker that is killed in the middle: every result arrives, in order."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from judo_edge.core import Decision
from judo_edge.errors import StationError
from judo_edge.station import wire
from judo_edge.station.client import StationClient
from judo_edge.station.config import MqttTable, RecipeTable, StationConfig, StationTable
from judo_edge.station.processes.mqtt import run_mqtt
from judo_edge.station.results import (
    Code,
    Condition,
    EventKind,
    JobRequest,
    Result,
    ResultState,
    Severity,
    StationEvent,
    Status,
    utc_now,
)
from judo_edge.station.serving import handlers_of_station
from judo_edge.station.states import State
from judo_edge.station.workers import SOCKET_NAME
from tests.station_parts import all_results, scripted_hub

client_module = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="no mosquitto broker on this machine")
PATIENCE = 60


class Broker:
    """A mosquitto on a port of its own, which keeps what it has over a restart."""

    def __init__(self, folder, extra=""):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.process = folder, None
        folder.mkdir()
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\n{extra or 'allow_anonymous true'}\npersistence true\n"
            f"persistence_location {folder}/\nmax_inflight_messages 0\nmax_queued_messages 0\nuser root\n"
        )

    def start(self):
        command = [MOSQUITTO, "-c", str(self.folder / "mosquitto.conf")]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError("the broker does not listen")

    def save(self):
        """Have it write its sessions down, as it would every half hour."""
        self.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + PATIENCE
        while not (self.folder / "mosquitto.db").exists() and time.monotonic() < end:
            time.sleep(0.02)

    def stop(self):
        """Have it take messages in and do nothing with them."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Subscriber:
    """Hears everything, over the broker's restarts."""

    def __init__(self, port, **account):
        self.heard, self.is_subscribed = [], False
        self.client = client_module.Client(
            client_module.CallbackAPIVersion.VERSION2, client_id="line-screen", clean_session=False
        )
        if account:
            self.client.username_pw_set(**account)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe("plant/#", qos=1)
        self.client.on_subscribe = lambda *_: setattr(self, "is_subscribed", True)
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _on_message(self, client, userdata, message):
        self.heard.append((message.topic.removeprefix("plant/line-1/"), json.loads(message.payload), message.retain))

    def of(self, topic):
        return [payload for where, payload, _ in self.heard if where == topic]

    def result_ids(self):
        return list(dict.fromkeys(payload["result_id"] for payload in self.of("result")))

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Station:
    """A hub that has a ledger of results and events, and no parts."""

    def __init__(self):
        self.waiting, self.listeners, self.number, self.state = [], [], 0, State.READY
        self.faults = []

    def __getattr__(self, name):
        return None  # the other methods of the API are not called here

    async def status(self):
        return Status(station="line-1", state=self.state, last_number=self.number)

    async def unacknowledged(self, sink, limit=100):
        assert sink == "mqtt"
        if self.faults:
            raise self.faults.pop()
        return tuple(self.waiting[:limit])

    async def acknowledge(self, sink, result_ids):
        known = {result.result_id for result in self.waiting}
        self.waiting = [result for result in self.waiting if result.result_id not in result_ids]
        return tuple(one in known for one in result_ids)

    async def events(self):
        queue = asyncio.Queue()
        self.listeners.append(queue)
        while True:
            yield await queue.get()

    def tell(self, kind, model):
        event = StationEvent(number=1, kind=kind, at=utc_now(), data=model.model_dump(mode="json"))
        for queue in self.listeners:
            queue.put_nowait(event)

    def judge(self):
        self.number += 1
        result = Result(
            number=self.number, result_id=f"r-{self.number:04d}", job_id="j", state=ResultState.COMPLETED,
            decision=Decision.OK, code=Code.INSPECTED, reason="", created=utc_now(), triggered=utc_now(),
        )  # fmt: skip
        self.waiting.append(result)
        self.tell(EventKind.RESULT, result)


def config_of(broker, **mqtt):
    return StationConfig(
        station=StationTable(name="line-1"),
        recipes=(RecipeTable(id="lid", bundle="b"),),
        mqtt=MqttTable(is_on=True, port=broker.port, topic="plant", **mqtt),
        folder=Path(broker.folder),
    )


async def until(is_so):
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end, "waited too long"
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def served(station, folder):
    """Serve a station's API at its socket."""
    peers = []
    handlers = {**handlers_of_station(station), "hello": _nothing, "sink_state": _nothing}
    server = await wire.serve(folder / SOCKET_NAME, peers.append, lambda: handlers)
    try:
        yield
    finally:
        server.close()
        for peer in peers:
            await peer.close()


async def _nothing(**_):
    return None


@contextlib.asynccontextmanager
async def publishing(config, folder):
    """Run the MQTT process's coroutine."""
    task = asyncio.create_task(run_mqtt(config, folder))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def broker(tmp_path):
    broker = Broker(tmp_path / "broker")
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def subscriber(broker):
    subscriber = Subscriber(broker.port)
    yield subscriber
    subscriber.close()


@pytest.fixture
def short_path(tmp_path_factory):
    """A folder whose socket has a short name."""
    return tmp_path_factory.mktemp("run")


def test_200_results_over_a_killed_broker(broker, subscriber, short_path):
    station = Station()

    async def run():
        await until(lambda: subscriber.is_subscribed)
        broker.save()  # it knows its subscriber again after the kill
        async with served(station, short_path), publishing(config_of(broker), short_path):
            for _ in range(90):
                station.judge()
                await asyncio.sleep(0.003)
            await until(lambda: len(subscriber.result_ids()) == 90)  # what it confirmed, it also delivered
            broker.stop()
            for _ in range(60):
                station.judge()
                await asyncio.sleep(0.003)
            broker.kill()  # with messages under way that it never confirmed
            broker.start()
            for _ in range(50):
                station.judge()
                await asyncio.sleep(0.003)
            await until(lambda: len(subscriber.result_ids()) == 200 and not station.waiting)

    asyncio.run(run())
    assert subscriber.result_ids() == [f"r-{number:04d}" for number in range(1, 201)]
    print(f"{len(subscriber.of('result'))} messages for 200 results")
    assert not any(retain for topic, _, retain in subscriber.heard if topic == "result")


def test_what_waited_is_sent_when_the_broker_comes(broker, subscriber, short_path):
    station = Station()
    for _ in range(120):
        station.judge()

    async def run():
        await until(lambda: subscriber.is_subscribed)
        async with served(station, short_path), publishing(config_of(broker), short_path):
            await until(lambda: len(subscriber.result_ids()) == 120 and not station.waiting)

    asyncio.run(run())
    seqs = [payload["seq"] for _, payload, _ in subscriber.heard if "seq" in payload]
    assert seqs == list(range(len(seqs)))


def test_a_ledger_that_cannot_be_read_for_a_while_ends_nothing(broker, subscriber, short_path):
    station = Station()
    station.judge()
    station.faults = [StationError("the disk is full")] * 2

    async def run():
        await until(lambda: subscriber.is_subscribed)
        async with served(station, short_path), publishing(config_of(broker), short_path):
            await until(lambda: subscriber.result_ids() and not station.waiting)

    asyncio.run(run())
    assert "Offline" not in [state["state"] for state in subscriber.of("state")][:-1]


def test_state_and_conditions(broker, subscriber, short_path):
    station = Station()
    disk = Condition(name="disk", severity=Severity.WARNING, code=9, text="nearly full", since=utc_now())

    async def run():
        await until(lambda: subscriber.is_subscribed)
        async with served(station, short_path), publishing(config_of(broker), short_path):
            await until(lambda: station.listeners and subscriber.of("state"))
            station.tell(EventKind.CONDITION, disk)
            station.state = State.HALTED
            station.tell(EventKind.HEARTBEAT, await station.status())
            await until(lambda: subscriber.of("condition") and len(subscriber.of("state")) == 2)
        await until(lambda: len(subscriber.of("state")) == 3)
        late = Subscriber(broker.port)
        try:
            await until(lambda: late.of("state"))
        finally:
            late.close()
        assert late.heard[0][2]  # retained: a late subscriber knows at once
        assert late.of("state")[0]["state"] == "Offline"

    asyncio.run(run())
    assert [state["state"] for state in subscriber.of("state")] == ["Ready", "Halted", "Offline"]
    assert subscriber.of("condition")[0]["condition"] == "disk"


def test_a_lost_hub_is_offline_until_it_is_back(broker, subscriber, short_path):
    station = Station()

    async def run():
        await until(lambda: subscriber.is_subscribed)
        async with publishing(config_of(broker), short_path):
            async with served(station, short_path):
                await until(lambda: subscriber.of("state"))
            await until(lambda: len(subscriber.of("state")) == 2)
            station.judge()
            async with served(station, short_path):
                await until(lambda: subscriber.result_ids() and len(subscriber.of("state")) == 3)

    asyncio.run(run())
    assert [state["state"] for state in subscriber.of("state")][:3] == ["Ready", "Offline", "Ready"]


def test_the_last_will(broker, subscriber, short_path, monkeypatch):
    """A process that is killed says nothing; the broker says it."""
    station = Station()

    async def run():
        from judo_edge.station.mqtt import link

        await until(lambda: subscriber.is_subscribed)
        async with served(station, short_path):
            table = config_of(broker).mqtt
            opened = await link.open_link(table, "line-1", "")
            opened._client.socket().shutdown(socket.SHUT_RDWR)
            await until(lambda: subscriber.of("state"))
            await opened.close()

    asyncio.run(run())
    assert subscriber.of("state") == [{"state": "Offline"}]


def test_password_and_refusal(tmp_path, short_path):
    (tmp_path / "passwords").write_text("line:open sesame\n")
    subprocess.run(["mosquitto_passwd", "-U", str(tmp_path / "passwords")], check=True, capture_output=True)
    broker = Broker(tmp_path / "broker", f"allow_anonymous false\npassword_file {tmp_path / 'passwords'}")
    secret = broker.folder / "secret"
    secret.write_text("open sesame\n")
    secret.chmod(0o600)
    station = Station()
    station.judge()

    async def run():
        from judo_edge.station.mqtt import link

        with pytest.raises(link.BrokerError, match="refuses: Not authorized"):
            await link.open_link(config_of(broker).mqtt, "line-1", "")
        config = config_of(broker, user="line", password_file=Path("secret"))
        async with served(station, short_path), publishing(config, short_path):
            await until(lambda: not station.waiting)

    broker.start()
    try:
        asyncio.run(run())
    finally:
        broker.kill()


def certificate(folder, name, host):
    """Make a certificate of its own authority for a host, and return the paths of certificate and key."""
    pytest.importorskip("cryptography", reason="cryptography is not installed")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_tls_talks_to_the_right_broker_only(tmp_path, short_path):
    ca, key = certificate(tmp_path, "broker", "localhost")
    other, _ = certificate(tmp_path, "other", "localhost")
    broker = Broker(tmp_path / "broker", f"allow_anonymous true\ncertfile {ca}\nkeyfile {key}")
    station = Station()
    station.judge()

    async def run():
        from judo_edge.station.mqtt import link

        for host, trusted in (("localhost", other), ("127.0.0.1", ca)):  # another authority; another name
            table = config_of(broker, host=host, ca=trusted).mqtt
            with pytest.raises(link.BrokerError, match="CERTIFICATE_VERIFY_FAILED"):
                await link.open_link(table, "line-1", "")
        config = config_of(broker, host="localhost", ca=ca)
        async with served(station, short_path), publishing(config, short_path):
            await until(lambda: not station.waiting)

    broker.start()
    try:
        asyncio.run(run())
    finally:
        broker.kill()


class Hub:
    """A real hub with scripted workers in a process of its own."""

    def __init__(self, run_folder, data):
        self.run_folder, self.data, self.process = run_folder, data, None

    def start(self):
        command = [sys.executable, "-m", "tests.tools.scripted_hub", "--inspect-seconds", "0.001"]
        folders = ["--run-folder", str(self.run_folder), "--data", str(self.data)]
        self.process = subprocess.Popen([*command, *folders], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().startswith("ready")

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()


async def triggered(station, key):
    """Trigger a part until the hub has it; the same key is the same job."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(StationError):
            return await station.trigger(JobRequest(key=key, part_id=key))
        await asyncio.sleep(0.05)
    raise AssertionError("the hub takes no trigger")


def test_a_real_hub_and_the_broker_are_killed(broker, subscriber, short_path, tmp_path):
    hub, config = Hub(short_path / "run", tmp_path / "data"), config_of(broker)
    keys = [f"part-{number:03d}" for number in range(90)]

    async def run():
        await until(lambda: subscriber.is_subscribed)
        broker.save()
        async with (
            StationClient(short_path / "run" / SOCKET_NAME, "test") as station,
            publishing(config, short_path / "run"),
        ):
            for number, key in enumerate(keys):
                if number == 30:
                    hub.kill()
                    hub.start()
                if number == 60:
                    await until_heard(station)
                    broker.stop()
                if number == 70:
                    broker.kill()
                    broker.start()
                await triggered(station, key)
                await until_idle(station)
            await until_heard(station)
            return await all_results(station)

    async def until_idle(station):
        while (await station.status()).num_waiting > 4:
            await asyncio.sleep(0.005)

    async def until_heard(station):
        """Wait until all verdicts fell, were confirmed by the broker, and heard."""
        end = time.monotonic() + PATIENCE
        while (await station.status()).num_waiting or await station.unacknowledged("mqtt"):
            assert time.monotonic() < end, "not all are acknowledged"
            await asyncio.sleep(0.02)
        results = await all_results(station)
        await until(lambda: len(subscriber.result_ids()) == len(results))

    hub.start()
    try:
        results = asyncio.run(run())
    finally:
        hub.kill()
    assert [result.number for result in results] == list(range(1, 91))
    assert sorted(result.part_id for result in results) == keys
    assert subscriber.result_ids() == [result.result_id for result in results]


def test_a_broker_that_is_away_is_a_condition(broker, short_path):
    broker.kill()

    async def conditions(station):
        return {one.name: one.text for one in (await station.status()).conditions if one.is_active}

    async def until_told(station, is_away):
        end = time.monotonic() + PATIENCE
        while ("sink.mqtt" in await conditions(station)) != is_away:
            assert time.monotonic() < end, "nothing is told of the broker"
            await asyncio.sleep(0.02)

    async def run():
        async with StationClient(short_path / "run" / SOCKET_NAME, "test") as station:
            async with publishing(config_of(broker), short_path / "run"):
                await until_told(station, True)
                assert "results are kept and sent later" in (await conditions(station))["sink.mqtt"]
                broker.start()
                await until_told(station, False)
                broker.kill()
                await until_told(station, True)
            await until_told(station, False)  # it ended: that is the supervisor's to tell

    with scripted_hub(short_path):
        asyncio.run(run())


def test_an_import_needs_no_library():
    code = "import sys, judo_edge.station.processes.mqtt; print(*sorted({'paho', 'pyarrow'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []
