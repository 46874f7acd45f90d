"""A client of another stack (node-opcua) uses a station: real core in one process, OPC UA server in another.

It walks the state machine, starts jobs with part ids, gets every result once by event and by polling, acknowledges
them and reads the flat tags. `make node` installs its modules.
"""

import asyncio
import json
import shutil
import subprocess

import pytest

pytest.importorskip("asyncua")

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

from tests.opcua_clients import (
    ENGINEER,
    PASSWORD,
    ROOT,
    URI,
    client_certificate,
    nodesets,
    process,
    station_file,
)

NODE, SCRIPT = shutil.which("node"), ROOT / "tests/node/station.mjs"
NUM_JOBS = {"built in code": 500, "from NodeSet files": 100}
"""Jobs of a run, by where the types come from."""
needs_node = pytest.mark.skipif(
    NODE is None or not (ROOT / "tests/node/node_modules/node-opcua-client").is_dir(),
    reason="no node, or no modules in tests/node: run `make node`",
)


def hub(folder):
    folders = "--run-folder", folder / "run", "--data", folder / "data"
    return process("tests.tools.scripted_hub", *folders, "--inspect-seconds", 0.002)


def node(folder, url, **options):
    """Run the client; returns what it saw."""
    files = {"certificate": folder / "client/certificate.pem", "key": folder / "client/key.pem", "pki": folder / "npki"}
    given = {name: str(path) for name, path in files.items()} | {
        "url": url, "uri": URI, "user": ENGINEER, "password": PASSWORD, "recipe": "lid",
    }  # fmt: skip
    command = [NODE, str(SCRIPT), json.dumps(given | options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@needs_node
@pytest.mark.parametrize("types", NUM_JOBS)
def test_a_line_uses_the_station(tmp_path_factory, types):
    settings = nodesets() if types == "from NodeSet files" else {}
    if types == "from NodeSet files" and not settings:
        pytest.skip("no NodeSet files in ../shared/data/opcua or the npm package")
    folder = tmp_path_factory.mktemp("n")
    path = station_file(folder, recipe="lid", **settings)
    with hub(folder) as ready, process("tests.opcua_station", path, folder / "run") as url:
        assert ready.startswith("ready"), ready
        seen = node(folder, url, jobs=NUM_JOBS[types])
        refused = node(folder, url, refusals=True)
        client_certificate(folder / "other", URI)
        files = {"certificate": str(folder / "other/certificate.pem"), "key": str(folder / "other/key.pem")}
        untrusted = node(folder, url, untrusted=True, pki=str(folder / "opki"), **files)["untrusted"]
    check_states(seen)
    check_results(seen, NUM_JOBS[types])
    check_tags(seen["tags"], NUM_JOBS[types])
    assert "BadUserAccessDenied" in refused["password"]
    assert "ANONYMOUS" in refused["anonymous"] and "End point must exist" in refused["none"]
    assert untrusted != "accepted"
    assert len(list((folder / "data/pki/rejected").iterdir())) == 1


def check_states(seen):
    assert seen["namespaces"][2:] == [
        "http://opcfoundation.org/UA/MachineVision",
        "http://opcfoundation.org/UA/Machinery/Result/",
        "urn:judo-edge:station",
    ]
    errors = {name: error for name, status, error in seen["errors"] if status == "Good"}
    assert len(seen["errors"]) == len(seen["states"]) - 1
    assert errors.pop("Stop") == -10  # not in that state
    assert seen["unknown"] < 0
    assert set(errors.values()) == {0}
    states = [tuple(one) for one in seen["states"]]
    for state in (("Halted", None), ("Preoperational", None), ("Operational", "Initialized"), ("Operational", "Ready")):
        assert state in states
    assert seen["prepared"]["id"] == seen["prepared"]["hash"]


def check_results(seen, num_jobs):
    jobs = {one["job"]: one["part"] for one in seen["jobs"]}
    events = seen["events"][:num_jobs]
    assert len(jobs) == len(events) == num_jobs
    assert {one["job"]: one["part"] for one in events} == jobs
    assert len({one["id"] for one in events}) == num_jobs
    assert [one["content"][6] for one in events] == list(range(1, num_jobs + 1))  # Number, without a gap
    codes = {"OK": {0}, "NOK": {0}, "NOT_DECIDABLE": {311}}  # an overrun, where parts come faster than verdicts
    for verdict, wanted in codes.items():
        assert {one["content"][2] for one in events if one["content"][0] == verdict} <= wanted
    assert {"OK", "NOK"} <= {one["content"][0] for one in events} <= codes.keys()
    assert [(one["id"], one["part"]) for one in seen["polled"]] == [(one["id"], one["part"]) for one in events]
    assert "Null" not in seen["types"].values()
    wanted = {"ResultState": "Int32", "IsPartial": "Boolean", "CreationTime": "DateTime", "ResultContent": "Variant"}
    assert {name: seen["types"][name] for name in wanted} == wanted
    assert seen["types"]["InternalRecipeId"] == seen["types"]["PartId"] == "ExtensionObject"
    assert "Null" not in seen["components"]
    assert seen["one"] == {"id": events[-1]["id"], "part": events[-1]["part"], "error": 0}
    assert seen["acknowledged"] == {"each": [0] * num_jobs + [-43], "error": 0}
    assert (seen["pendingBefore"], seen["pendingAfter"]) == (num_jobs, 0)
    assert seen["kinds"]["1024"] == num_jobs + 1  # the last one from a tag


def check_tags(tags, num_jobs):
    assert tags["before"]["Ready"] and not tags["before"]["Error"]
    after = tags["after"]
    assert (after["PartId"], after["Number"]) == ("nok-tag", num_jobs + 1)
    assert after["Done"] != tags["before"]["Done"]
    assert [after["Ok"], after["Nok"], after["NotDecidable"]].count(True) == 1
    assert after["ResultId"] and tags["ack"] and tags["acknowledged"] == 0


def test_the_server_outlives_the_core(tmp_path_factory):
    folder = tmp_path_factory.mktemp("o")
    path = station_file(folder, recipe="lid")

    async def use(url):
        client = Client(url, timeout=20)
        client.application_uri = URI
        client.set_user(ENGINEER)
        client.set_password(PASSWORD)
        files = [str(folder / "client" / name) for name in ("certificate.pem", "key.pem")]
        await client.set_security(SecurityPolicyBasic256Sha256, *files)
        async with client:
            await outlives(client)

    async def outlives(client):
        ready = client.get_node("ns=4;s=Tags.Ready")
        methods, trigger = client.get_node("ns=4;s=Tags.Methods"), client.get_node("ns=4;s=Tags.Methods.Trigger")
        for turn in range(2):
            with hub(folder) as started:
                assert started.startswith("ready")
                await until(ready, True)
                accepted, _, error = await methods.call_method(trigger, f"part-{turn}", "")
                assert (accepted, error) == (True, 0)
                await until(client.get_node("ns=4;s=Tags.PartId"), f"part-{turn}")
            await until(ready, False)
            accepted, _, error = await methods.call_method(trigger, "lost", "")
            assert not accepted and error < 0
            flags = [await client.get_node(f"ns=4;s=Tags.{name}").read_value() for name in ("Ok", "Error")]
            assert flags == [False, True]
            assert (await client.get_node("ns=4;s=Tags.Number").read_value()) == turn + 1
            state = client.get_node("ns=4;s=VisionSystem.VisionStateMachine.CurrentState")
            assert (await state.read_value()) == ua.LocalizedText("Error")

    with process("tests.opcua_station", path, folder / "run") as url:
        asyncio.run(asyncio.wait_for(use(url), 120))


async def until(node, wanted):
    for _ in range(600):
        if (found := await node.read_value()) == wanted:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{found} instead of {wanted}")
