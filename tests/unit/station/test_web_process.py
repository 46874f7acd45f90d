from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

httpx = pytest.importorskip("httpx", reason="needs httpx")
pytest.importorskip("uvicorn", reason="needs the extra `web` (uvicorn)")

from judo_edge.errors import ConfigError
from judo_edge.station.config import StationConfig
from judo_edge.station.processes.web import URL_FILE, run_web
from judo_edge.station.users import FILE_NAME, Role, UserStore
from tests.station_parts import scripted_config, scripted_hub

PASSWORD = "correct horse"


def config(folder: Path, **web: object) -> StationConfig:
    found = scripted_config(folder)
    table = type(found.web).model_validate({"is_on": True, "port": 0, **web})
    return found.model_copy(update={"web": table, "folder": folder})


@contextlib.asynccontextmanager
async def serving(config: StationConfig, run_folder: Path) -> AsyncIterator[str]:
    run_folder.mkdir(exist_ok=True)
    task = asyncio.create_task(run_web(config, run_folder))
    try:
        while not (run_folder / URL_FILE).exists():
            assert not task.done(), task.exception()
            await asyncio.sleep(0.01)
        yield (run_folder / URL_FILE).read_text()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)


def certificate(folder: Path) -> dict[str, str]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl on the path")
    files = {"certificate": str(folder / "c.pem"), "key": str(folder / "k.pem")}
    request = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    out = ["-keyout", files["key"], "-out", files["certificate"]]
    subprocess.run([*request, *names, *out], check=True, capture_output=True)
    return files


def test_the_page_is_served_beside_a_hub(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = config(tmp_path)
    UserStore(found.data / FILE_NAME).add("eva", PASSWORD, Role.ENGINEER)

    async def run() -> None:
        async with serving(found, tmp_path / "run") as url, httpx.AsyncClient(base_url=url) as client:
            assert (await client.get("/healthz")).text == "away"
            with scripted_hub(tmp_path, config=found, run_folder=tmp_path / "run"):
                while (await client.get("/healthz")).text != "ok":
                    await asyncio.sleep(0.05)
                status = await client.get("/api/status", auth=("eva", PASSWORD))
                assert status.json()["station"] == "cell-1"
                job = await client.post("/api/trigger", json={"part_id": "SN-1"}, auth=("eva", PASSWORD))
                result = {}
                while not result.get("photo"):
                    result = next(iter((await client.get("/api/results", auth=("eva", PASSWORD))).json()), {})
                    await asyncio.sleep(0.02)
                assert (result["job_id"], result["part_id"]) == (job.json()["job_id"], "SN-1")
                path = f"/api/results/{result['result_id']}/ack"
                assert (await client.post(path, json={}, auth=("eva", PASSWORD))).status_code == 200
            assert (await client.get("/api/status", auth=("eva", PASSWORD))).status_code == 503
            answer = await client.get("/login")
            assert answer.status_code == 200 and "server" not in answer.headers

    asyncio.run(run())
    assert "Traceback" not in capfd.readouterr().err


def test_it_stops_although_a_browser_listens(tmp_path: Path) -> None:
    found = config(tmp_path)
    UserStore(found.data / FILE_NAME).add("eva", PASSWORD, Role.ENGINEER)

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
            async with serving(found, tmp_path / "run") as url:
                form = await client.get(f"{url}login")
                token = form.text.split('name="token" value="')[1].split('"')[0]
                data = {"name": "eva", "password": PASSWORD, "token": token}
                answer = await client.post(f"{url}login", data=data, headers={"Origin": url[:-1]})
                assert answer.status_code == 303
                events = await stack.enter_async_context(client.stream("GET", f"{url}api/events"))
                lines = events.aiter_lines()
                assert await lines.__anext__() == "retry: 1000"
                assert '"away"' in await lines.__anext__()
            with pytest.raises(httpx.ConnectError):
                await client.get(f"{url}healthz")

    asyncio.run(run())


def test_tls_is_spoken_where_a_certificate_is_given(tmp_path: Path) -> None:
    files = certificate(tmp_path)

    async def run() -> None:
        async with serving(config(tmp_path, **files), tmp_path / "run") as url:
            assert url.startswith("https://127.0.0.1:")
            trusted = ssl.create_default_context(cafile=files["certificate"])
            async with httpx.AsyncClient(base_url=url, verify=trusted) as client:
                assert "secure" in (await client.get("/login")).headers["set-cookie"].lower()

    asyncio.run(run())


def test_what_cannot_be_served_is_said(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("no certificate")
    broken = config(tmp_path, certificate=str(tmp_path / "c.pem"), key=str(tmp_path / "c.pem"))
    with pytest.raises(ConfigError, match="cannot be used"):
        asyncio.run(run_web(broken, tmp_path))
    with pytest.raises(ConfigError, match="HTTPS for any address but loopback"):
        asyncio.run(run_web(config(tmp_path, host="0.0.0.0"), tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="cannot listen"):
            asyncio.run(run_web(config(tmp_path, port=taken.getsockname()[1]), tmp_path))


def test_only_the_process_that_serves_needs_the_extra(tmp_path: Path) -> None:
    text = """
import asyncio, sys
from pathlib import Path
import judo_edge.cli, judo_edge.station.users
from judo_edge.errors import DependencyError
from judo_edge.station.config import StationConfig
from judo_edge.station.processes.web import run_web
assert not {"fastapi", "starlette", "uvicorn", "torch"} & set(sys.modules), "loaded too early"
sys.modules["fastapi"] = None
config = StationConfig.model_validate({"station": {"name": "s"}, "recipes": [{"id": "lid", "bundle": "b"}]})
try:
    asyncio.run(run_web(config, Path(sys.argv[1])))
except DependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", text, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "the web page needs the package 'fastapi'; wanted: the extra web" in done.stdout
