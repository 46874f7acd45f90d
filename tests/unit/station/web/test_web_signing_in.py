from __future__ import annotations

import asyncio
import base64
import re
from pathlib import Path

import httpx
import pytest

pytest.importorskip("fastapi", reason="needs the extra `web` (fastapi)")

from judo_edge.station.attempts import FREE_ATTEMPTS, LONGEST_WAIT, Attempts
from judo_edge.station.users import Role
from judo_edge.station.web import acting, login, reading, streams
from judo_edge.station.web.sessions import MAX_SESSIONS, Sessions
from tests.unit.station.web.site import ORIGIN, PASSWORD, Site

OPEN = {"/", "/login", "/healthz", "/static/{name}"}
PHOTO = {"size": "640", "part": "lid-7", "reference_id": "a1" * 16, "name": "a.png"}


def routes() -> list[tuple[str, str]]:
    """Return (method, path) of every route."""
    found = [route for module in (login, streams, acting, reading) for route in module.router.routes]
    return [(method, one.path) for one in found for method in one.methods if method != "HEAD"]  # type: ignore[attr-defined]


async def sign_in(client: httpx.AsyncClient, name: str, password: str, **more: str) -> httpx.Response:
    form = await client.get("/login")
    token = re.search(r'name="token" value="(\w+)"', form.text)
    assert token
    data = {"name": name, "password": password, "token": token[1], **more}
    return await client.post("/login", data=data, headers={"Origin": ORIGIN})


def filled(path: str) -> str:
    values = {"result_id": "r-000001", "kind": "photo", "camera": "top", "command": "halt", "name": "style.css"}
    return re.sub(r"{(\w+)}", lambda match: values[match[1]], path)


def test_everything_but_the_form_needs_a_user(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        closed = [(method, path) for method, path in routes() if path not in OPEN]
        assert len(closed) > 20
        async with site.client() as client:
            for method, path in closed:
                answer = await client.request(method, filled(path), params=PHOTO, json={}, headers={"Origin": ORIGIN})
                assert answer.status_code == 401, (method, path)
            page = await client.get("/")
            assert (page.status_code, page.headers["location"]) == (303, "/login")
        assert site.station.calls == []

    asyncio.run(run())


def test_a_right_password_begins_a_session_and_signing_out_ends_it(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client() as client:
            answer = await sign_in(client, "eva", PASSWORD)
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            cookie = answer.headers["set-cookie"].lower()
            assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
            assert "secure" not in cookie
            me = (await client.get("/api/me")).json()
            assert (me["name"], me["role"]) == ("eva", "engineer")
            headers = {"Origin": ORIGIN, "X-CSRF-Token": me["csrf"]}
            kept = client.cookies[site.desk.cookie]
            assert (await client.post("/logout", json={}, headers=headers)).status_code == 200
            client.cookies.set(site.desk.cookie, kept)
            assert (await client.get("/api/me")).status_code == 401

    asyncio.run(run())


def test_under_tls_the_cookie_is_secure(tmp_path: Path) -> None:
    site = Site(tmp_path, certificate=tmp_path / "any.pem")

    async def run() -> None:
        async with site.client() as client:
            client.base_url = httpx.URL(ORIGIN.replace("http:", "https:"))
            form = await client.get("/login")
            token = re.search(r'name="token" value="(\w+)"', form.text)
            assert token
            data = {"name": "ole", "password": PASSWORD, "token": token[1]}
            answer = await client.post("/login", data=data, headers={"Origin": ORIGIN.replace("http:", "https:")})
            assert answer.status_code == 303
            assert answer.headers["set-cookie"].startswith("__Host-judo-session=")
            assert "secure" in answer.headers["set-cookie"].lower()

    asyncio.run(run())


def test_wrong_passwords_are_refused_alike_and_slowed(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client() as client:
            answers = [await sign_in(client, name, "wrong password") for name in ("eva", "nobody", "eva", "eva", "eva")]
            assert [one.status_code for one in answers] == [401] * FREE_ATTEMPTS
            assert "Name or password is wrong" in answers[0].text
            slowed = await sign_in(client, "eva", PASSWORD)
            assert slowed.status_code == 429 and int(slowed.headers["retry-after"]) >= 1
            assert site.desk.cookie not in client.cookies

    asyncio.run(run())


def test_the_form_must_be_ours(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client() as client:
            for token in ("", "0" * 64, "ü"):
                assert (await sign_in(client, "eva", PASSWORD, token=token)).status_code == 403
            client.cookies.clear()
            data = {"name": "eva", "password": PASSWORD, "token": "0" * 64}
            assert (await client.post("/login", data=data, headers={"Origin": ORIGIN})).status_code == 403
            hostile = await sign_in(client, '"><script>alert(1)</script>', "wrong password")
            assert hostile.status_code == 401 and "<script>" not in hostile.text

    asyncio.run(run())


def test_a_removed_or_changed_user_is_out(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva") as eva, site.client("ole") as ole:
            assert (await eva.get("/api/me")).status_code == (await ole.get("/api/me")).status_code == 200
            site.users.set_password("eva", "another long one")
            site.users.remove("ole")
            assert (await eva.get("/api/me")).status_code == (await ole.get("/api/me")).status_code == 401

    asyncio.run(run())


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_programs_sign_in_by_http_basic(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client() as client:
            client.headers.update(basic("ole", PASSWORD))
            assert (await client.get("/api/status")).json()["station"] == "press-4"
            body = {"part_id": "SN-1", "meas_id": "M-1", "key": "k-1"}
            job = await client.post("/api/trigger", json=body)
            assert job.status_code == 200 and job.json()["job_id"] == "job-1"
            request = site.station.calls[0][1]
            assert (request.part_id, request.meas_id, request.key, request.origin) == ("SN-1", "M-1", "k-1", "http")
            found = (await client.get("/api/results", params={"after": 0})).json()
            assert [one["number"] for one in found] == [1]
            assert (await client.get("/api/results", params={"after": 1})).json() == []
            assert (await client.get("/api/results/r-000001")).json()["part_id"] == "SN-1"
            assert (await client.post("/api/results/r-000001/ack", json={})).status_code == 200
            assert ("acknowledge", "http", ("r-000001",)) in site.station.calls
            assert (await client.post("/api/results/r-9/ack", json={})).status_code == 404
            assert (await client.post("/api/trigger", content=b"{}")).status_code == 415
            form = {"content-type": "application/x-www-form-urlencoded"}
            assert (await client.post("/api/trigger", content=b"{}", headers=form)).status_code == 415
            assert (await client.post("/api/results/r-000001/review", json={"decision": "OK"})).status_code == 401

    asyncio.run(run())


@pytest.mark.parametrize("header", ["Basic", "Basic !!", "Bearer x", "Basic " + base64.b64encode(b"eva").decode()])
def test_broken_credentials_are_refused(tmp_path: Path, header: str) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client() as client:
            answer = await client.get("/api/status", headers={"Authorization": header})
            assert answer.status_code == 401 and answer.headers["www-authenticate"].startswith("Basic")

    asyncio.run(run())


def test_a_remembered_program_is_forgotten_with_its_password(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client() as client:
            client.headers.update(basic("ole", PASSWORD))
            assert (await client.get("/api/status")).status_code == 200
            site.users.set_password("ole", "another long one")
            assert (await client.get("/api/status")).status_code == 401

    asyncio.run(run())


def test_a_session_ends_when_it_is_idle() -> None:
    now = [0.0]
    sessions = Sessions(60, lambda: now[0])
    session_id = sessions.begin("eva", "stamp")
    now[0] = 59
    assert sessions.find(session_id, is_use=False)
    now[0] = 60
    assert sessions.find(session_id, is_use=True)
    now[0] = 119
    assert sessions.find(session_id, is_use=False)
    now[0] = 121
    assert sessions.find(session_id, is_use=True) is None


def test_sessions_do_not_pile_up() -> None:
    now = [0.0]
    sessions = Sessions(1e9, lambda: now[0])
    first = sessions.begin("eva", "")
    for now[0] in range(1, MAX_SESSIONS + 1):
        last = sessions.begin("eva", "")
    assert sessions.find(first, is_use=False) is None and sessions.find(last, is_use=False)


def test_waits_double_up_to_a_limit_and_are_forgotten() -> None:
    now = [1000.0]
    attempts = Attempts(lambda: now[0])
    waits = []
    for _ in range(FREE_ATTEMPTS + 8):
        attempts.count(["user eva"])
        waits.append(attempts.wait(["user eva", "address 10.0.0.1"]))
        now[0] += waits[-1]
    assert waits[: FREE_ATTEMPTS - 1] == [0.0] * (FREE_ATTEMPTS - 1)
    assert waits[FREE_ATTEMPTS - 1 : FREE_ATTEMPTS + 2] == [1.0, 2.0, 4.0] and waits[-1] == LONGEST_WAIT
    assert attempts.wait(["user ole"]) == 0.0
    now[0] += 1000
    attempts.count(["user eva"])
    assert attempts.wait(["user eva"]) == 0.0


def test_an_operator_may_not_what_only_an_engineer_may(tmp_path: Path) -> None:
    site = Site(tmp_path)
    bodies = {
        "/api/references/from-result": {"result_id": "r-1"},
        "/api/references/retire": {"part": "lid-7", "reference_id": "a1" * 16},
        "/api/recipes/prepare": {"external_id": "lid-7"},
        "/api/recipes/unprepare": {"external_id": "lid-7"},
        "/api/recipes/challenge": {"external_id": "lid-7"},
        "/api/conditions/confirm": {},
        "/api/simulate": {"is_on": True},
        "/api/state/halt": {},
        "/api/state/reset": {},
        "/api/state/automatic": {},
        "/api/state/stop": {},
    }

    async def run() -> None:
        assert site.users.get("ole") is not None and not Role.OPERATOR.covers(Role.ENGINEER)
        async with site.client("ole") as ole, site.client("eva") as eva:
            for path, body in bodies.items():
                assert (await ole.post(path, json=body)).status_code == 403, path
            upload = {"content": b"x", "params": {"part": "p", "name": "n"}, "headers": {"content-type": "image/png"}}
            assert (await ole.post("/api/references", **upload)).status_code == 403  # type: ignore[arg-type]
            assert site.station.calls == []
            for path, body in bodies.items():
                assert (await eva.post(path, json=body)).status_code in (200, 404), path
            names = {call[0] for call in site.station.calls}
            assert names >= {"retire", "prepare", "unprepare", "challenge", "confirm_all", "simulate", "halt", "reset"}

    asyncio.run(run())


def test_requests_that_make_no_sense_are_answered(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client() as client:
            header = {"Authorization": "Basic \xe9\xe9".encode("latin-1")}
            assert (await client.get("/api/status", headers=header)).status_code == 401  # type: ignore[arg-type]
            many = "&".join(f"a{number}=1" for number in range(20))
            answer = await client.post("/login", content=many, headers={"Origin": ORIGIN})
            assert answer.status_code == 400

    asyncio.run(run())
