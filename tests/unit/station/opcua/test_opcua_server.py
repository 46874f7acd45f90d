"""The server in another process over a station in memory, and asyncua's client here."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

asyncua = pytest.importorskip("asyncua")

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyAes256Sha256RsaPss

from judo_edge.bench.opcua import OpcuaReport, rows_from_report
from judo_edge.cli import main
from judo_edge.station.opcua import types
from judo_edge.station.opcua.server import SESSION_SECONDS
from judo_edge.station.opcua.types import register_types
from tests.opcua_clients import ENGINEER, OPERATOR, PASSWORD, ROOT, URI, process, station_file
from tests.opcua_station import DIGEST

CAUSE = (ua.Variant(1, ua.VariantType.Int32), "test")
VISION = "ns=4;s=VisionSystem"
MACHINE = f"{VISION}.VisionStateMachine"
TAGS = "ns=4;s=Tags"
MACHINERY = "ns=4;s=MachineryResults"


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    folder = tmp_path_factory.mktemp("line")
    path = station_file(folder)
    path.write_text(path.read_text() + "plc_timeout = 0.6\n")
    with process("tests.opcua_station", path) as url:
        assert url.startswith("opc.tcp://127.0.0.1:")
        yield folder, url


def with_client(line, use, user=ENGINEER):
    """Run `use(client)` connected as a user."""
    folder, url = line

    async def run():
        client = Client(url, timeout=20)
        client.application_uri = URI
        client.set_user(user)
        client.set_password(PASSWORD)
        files = [str(folder / "client" / name) for name in ("certificate.pem", "key.pem")]
        await client.set_security(SecurityPolicyAes256Sha256RsaPss, *files)
        async with client:
            register_types()
            return await asyncio.wait_for(use(client), 60)

    return asyncio.run(run())


async def call(client, parent, name, *arguments):
    method = client.get_node(f"{parent}.{name}")
    return await client.get_node(parent).call_method(method, *arguments)


async def tags(client, *names):
    return [await client.get_node(f"{TAGS}.{name}").read_value() for name in names]


async def until(seen, wanted):
    for _ in range(600):
        if (found := await seen()) == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{found} instead of {wanted}")


async def made_ready(client):
    state = await client.get_node(f"{MACHINE}.CurrentState").read_value()
    if state.Text != "Operational":
        await call(client, MACHINE, "Reset", *CAUSE) if state.Text == "Halted" else None
        assert await call(client, MACHINE, "SelectModeAutomatic") == 0
        assert await call(client, f"{TAGS}.Methods", "Prepare", "lid-7") == 0
    await until(lambda: tags(client, "Ready"), [True])


async def triggered(client, part_id):
    (done,) = await tags(client, "Done")
    answer = await call(client, f"{TAGS}.Methods", "Trigger", part_id, "m1")
    await until(lambda: tags(client, "Done"), [not done])
    return answer


def test_every_kind_of_verdict_reaches_the_tags(line):
    async def use(client):
        await made_ready(client)
        for part, flags, code in (
            ("good-1", [True, False, False, False], 0),
            ("nok-1", [False, True, False, False], 0),
            ("nd-1", [False, False, True, True], 310),
        ):
            accepted, job_id, error = await triggered(client, part)
            assert accepted and job_id.startswith("job-") and error == 0
            assert await tags(client, "Ok", "Nok", "NotDecidable", "Error") == flags
            assert await tags(client, "PartId", "MeasId", "ErrorCode", "Busy") == [part, "m1", code, False]
            result_id, number = await tags(client, "ResultId", "Number")
            assert result_id == f"result-{number}"
            assert await call(client, f"{TAGS}.Methods", "Acknowledge", result_id) == 0
        assert await call(client, f"{TAGS}.Methods", "Acknowledge", "nothing") == -43

    with_client(line, use)


def test_a_refused_trigger_is_answered_and_never_ok(line):
    async def use(client):
        await made_ready(client)
        await triggered(client, "good-2")
        assert await tags(client, "Ok") == [True]
        assert await call(client, MACHINE, "Halt", *CAUSE) == 0
        accepted, job_id, error = await triggered(client, "late-1")
        assert (accepted, job_id, error) == (False, "", -30)
        seen = await tags(client, "Ok", "Nok", "NotDecidable", "Error", "ErrorCode", "PartId", "ResultId", "Ready")
        assert seen == [False, False, True, True, -30, "late-1", "", False]

    with_client(line, use)


def test_an_operator_triggers_and_does_not_halt(line):
    async def use(client):
        await until(lambda: tags(client, "Ready"), [True])
        await triggered(client, "good-3")
        for parent, name, arguments in (
            (MACHINE, "Halt", CAUSE),
            (f"{TAGS}.Methods", "Prepare", ("lid-7",)),
            (f"{MACHINE}.AutomaticModeStateMachine", "SimulationMode", (True, *CAUSE)),
        ):
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await call(client, parent, name, *arguments)
        with pytest.raises(ua.UaStatusCodeError):
            await client.nodes.objects.add_object(4, "mine")
        with pytest.raises(ua.UaStatusCodeError):
            await client.get_node(f"{TAGS}.Ok").write_value(True)

    with_client(line, made_ready)
    with_client(line, use, OPERATOR)


def test_results_with_evaluation_are_kept_until_they_are_acknowledged(line):
    async def use(client):
        await made_ready(client)
        await triggered(client, "nok-9")
        handle, record, error = await call(client, MACHINERY, "GetLatestResult", ua.Variant(0, ua.VariantType.Int32))
        meta = record.ResultMetaData
        assert (error, meta.PartId, int(meta.ResultEvaluation)) == (0, "nok-9", 2)
        assert meta.ResultEvaluationDetails.Text == "because of nok-9"
        latest = await client.get_node(f"{MACHINERY}.Latest").read_value()
        assert latest.ResultMetaData.ResultId == meta.ResultId
        assert await call(client, MACHINERY, "ReleaseResultHandle", ua.Variant(handle, ua.VariantType.UInt32)) == 0
        ids = ua.Variant([meta.ResultId, "nothing"], ua.VariantType.String)
        assert await call(client, MACHINERY, "AcknowledgeResults", ids) == [[0, -43], 0]

    with_client(line, use)


def test_recipes_and_configuration_are_named_by_digest(line):
    recipes, configurations = f"{VISION}.RecipeManagement", f"{VISION}.ConfigurationManagement"
    numbers = [ua.Variant(0, ua.VariantType.UInt32), ua.Variant(0, ua.VariantType.UInt32), CAUSE[0]]

    async def use(client):
        await made_ready(client)
        any_recipe, any_product = types.RecipeIdExternalDataType(), types.ProductIdDataType()
        for product, prepared, wanted in (("lid", 2, 1), ("lid", 1, 1), ("lid", 0, 0), ("other", 2, 0)):
            asked = types.ProductIdDataType(Id=product)
            tri_state = ua.Variant(prepared, ua.VariantType.Int32)
            found = await call(client, recipes, "GetRecipeListFiltered", any_recipe, asked, tri_state, *numbers)
            assert (found[0], found[1], len(found[3]), found[4]) == (True, wanted, wanted, 0)
        ids = (await call(client, recipes, "PrepareProduct", types.ProductIdDataType(Id="lid")))[0]
        assert type(ids) is types.RecipeIdInternalDataType and ids.Hash.hex() == ids.Id == DIGEST
        assert (await call(client, recipes, "PrepareProduct", any_product))[1] == -41
        shown = client.get_node("ns=4;s=Recipes.lid-7.InternalId")
        await until(lambda: _id(shown), DIGEST)
        listed = await call(client, configurations, "GetConfigurationList", *numbers)
        active = await client.get_node(f"{configurations}.ActiveConfiguration").read_value()
        assert listed[3] == [active] and len(active.InternalId.Hash) == 32
        assert await call(client, configurations, "ActivateConfiguration", active.InternalId) == 0
        assert await call(client, configurations, "ActivateConfiguration", types.ConfigurationIdDataType()) == -44

    with_client(line, use)


async def _id(node):
    return (await node.read_value()).Id


class Seen:
    def __init__(self):
        self.events = []

    def event_notification(self, event):
        self.events.append(event)


def test_a_condition_is_told_acknowledged_and_told_again(line):
    async def use(client):
        await made_ready(client)
        seen = Seen()
        subscription = await client.create_subscription(50, seen)
        condition_type = client.get_node("ns=2;i=1035")
        await subscription.subscribe_events(client.get_node("i=2253"), condition_type, queuesize=100)

        async def acknowledged():
            return [bool(getattr(one, "AckedState/Id")) for one in seen.events]

        await triggered(client, "alarm")
        await until(acknowledged, [False])
        first = seen.events[0]
        assert (first.ConditionName, first.ErrorString, first.Retain, first.Severity) == (
            "disk", "the disk is full", True, 700,
        )  # fmt: skip
        refresh = client.get_node("i=2782"), client.get_node("i=3875")
        await refresh[0].call_method(refresh[1], ua.Variant(subscription.subscription_id, ua.VariantType.UInt32))
        await until(acknowledged, [False, False])
        assert seen.events[1].EventId == first.EventId
        condition, method = client.get_node("ns=4;s=Conditions.disk"), client.get_node("i=9111")
        comment = ua.Variant(ua.LocalizedText("seen"), ua.VariantType.LocalizedText)
        with pytest.raises(ua.uaerrors.BadEventIdUnknown):
            await condition.call_method(method, ua.Variant(b"wrong", ua.VariantType.ByteString), comment)
        await condition.call_method(method, ua.Variant(first.EventId, ua.VariantType.ByteString), comment)

        async def last():
            return bool(getattr(seen.events[-1], "AckedState/Id"))

        await until(last, True)

    with_client(line, use)


def test_a_session_whose_connection_goes_does_not_gather_events_for_long(line):
    folder, url = line

    async def run():
        client = Client(url, timeout=20)
        client.application_uri = URI
        files = [str(folder / "client" / name) for name in ("certificate.pem", "key.pem")]
        await client.set_security(SecurityPolicyAes256Sha256RsaPss, *files)
        await client.connect_socket()
        try:
            await client.send_hello()
            await client.open_secure_channel()
            client.session_timeout = 3_600_000
            return (await client.create_session()).RevisedSessionTimeout
        finally:
            client.disconnect_socket()

    assert asyncio.run(run()) == SESSION_SECONDS * 1000


def test_a_heartbeat_that_stands_still_is_shown(line):
    async def use(client):
        beat = client.get_node(f"{TAGS}.PlcHeartbeat")
        await beat.write_value(ua.Variant(1, ua.VariantType.UInt32))
        await until(lambda: tags(client, "PlcAlive"), [False])
        await beat.write_value(ua.Variant(2, ua.VariantType.UInt32))
        await until(lambda: tags(client, "PlcAlive"), [True])

    with_client(line, use, OPERATOR)


def bench(folder, url):
    """Measure from a process of its own, which knows no types but those that the server tells."""
    command = [sys.executable, "-c", "import sys; from judo_edge.cli import main; sys.exit(main())", "opcua", "bench"]
    words = ["--url", url, "--user", OPERATOR, "--pki", folder / "bench", "--rate", 20, "--seconds", 0.5]
    environment = {**os.environ, "JUDO_EDGE_OPCUA_PASSWORD": PASSWORD}
    given = [*command, *map(str, words)]
    return subprocess.run(given, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120, check=False)


def test_the_station_is_measured_from_a_clients_side(line):
    folder, url = line
    with_client(line, made_ready)
    refused = bench(folder, url)
    made = folder / "bench" / "certificate.der"
    assert refused.returncode == 2 and "pki/trusted" in refused.stderr
    (folder / "data" / "pki" / "trusted" / "bench.der").write_bytes(made.read_bytes())
    done = bench(folder, url)
    assert done.returncode == 0, done.stderr
    report = OpcuaReport.model_validate_json(done.stdout.splitlines()[-1])
    assert (report.triggered, report.refused, report.results) == (10, 0, 10)
    assert 0 < report.method.p50 < report.event.max
    assert [row[1] for row in rows_from_report(report)] == ["10", "10"]
    assert (folder / "bench" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_describe_prints_what_a_program_needs(tmp_path, capsys):
    path = station_file(tmp_path)
    assert main(["opcua", "describe", str(path), "--json"]) == 0
    rows = {row["node_id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[f"{TAGS}.Trigger"]["access"] == "read, write"
    assert rows[f"{TAGS}.Ok"]["access"] == "read"
    trigger = rows[f"{TAGS}.Methods.Trigger"]
    assert trigger["type"] == "(PartId: String, MeasId: String) -> (Accepted: Boolean, JobId: String, Error: Int32)"
    assert rows[f"{MACHINE}.Halt"]["path"] == "4:VisionSystem/2:VisionStateMachine/2:Halt"
    assert all(row["meaning"] for row in rows.values() if row["path"].startswith("4:Tags/"))
    assert main(["opcua", "describe", str(path)]) == 0
    assert "browse path" in capsys.readouterr().out
