from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `web` (fastapi)")

from PIL import Image

from judo_edge.errors import ConfigError
from judo_edge.station.config import StationConfig
from judo_edge.station.results import JobRequest
from judo_edge.station.web.acting import plain_name
from judo_edge.station.web.guard import MAX_BODY, MAX_PHOTO
from judo_edge.station.web.settings import settings_from_station
from tests.memory_station import HOSTILE
from tests.unit.station.web.site import ORIGIN, Site

UPLOAD = {"part": "lid-7", "name": "golden.png"}


def png(size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:8080"},
        {"Origin": "http://127.0.0.1:8081"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "same-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "none"},
        {"Origin": ""},
    ],
)
def test_a_write_from_another_origin_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva") as client:
            for path, body in (("/api/trigger", {}), ("/api/state/halt", {}), ("/logout", {}), ("/login", {})):
                answer = await client.post(path, json=body, headers=headers)
                assert answer.status_code == 403 and "another origin" in answer.text, path
        assert site.station.calls == []

    asyncio.run(run())


def test_a_write_without_origin_or_token_is_refused(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva") as client, site.client("ole") as other:
            right = client.headers.pop("X-CSRF-Token")
            for token in ("", right[:-1], right.upper(), other.headers["X-CSRF-Token"]):
                answer = await client.post("/api/trigger", json={}, headers={"X-CSRF-Token": token})
                assert answer.status_code == 403 and "token" in answer.text
            del client.headers["Origin"]
            answer = await client.post("/api/trigger", json={}, headers={"X-CSRF-Token": right})
            assert answer.status_code == 403
            accepted = {"X-CSRF-Token": right, "Sec-Fetch-Site": "same-origin"}
            assert (await client.post("/api/trigger", json={}, headers=accepted)).status_code == 200
            plain = {**accepted, "Content-Type": "text/plain"}
            assert (await client.post("/api/trigger", content=b"{}", headers=plain)).status_code == 415
        assert len(site.station.calls) == 1

    asyncio.run(run())


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[", "evil.example:8080", "10.0.0.7"])
def test_another_host_name_is_refused(tmp_path: Path, host: str) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva") as client:
            for path in ("/", "/login", "/healthz", "/api/status"):
                assert (await client.get(path, headers={"Host": host})).status_code == 400
            assert (await client.get("/api/me", headers={"Host": "LOCALHOST:8080"})).status_code == 200

    asyncio.run(run())


def test_every_answer_carries_the_headers(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva") as client:
            for path in ("/", "/login", "/static/app.js", "/static/x", "/api/status", "/healthz", "/nothing"):
                answer = await client.get(path)
                policy = answer.headers["content-security-policy"]
                assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
                assert "unsafe" not in policy and "*" not in policy and "http" not in policy
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert "cache-control" in answer.headers and "access-control-allow-origin" not in answer.headers
            assert (await client.get("/api/status")).headers["cache-control"] == "no-store"
            refused = await client.get("/", headers={"Host": "evil.example"})
            assert refused.headers["x-frame-options"] == "DENY"

    asyncio.run(run())


def test_the_page_has_no_inline_script_or_style_and_asks_nobody_else() -> None:
    folder = Path(__file__).parents[4] / "judo_edge" / "station" / "web" / "static"
    texts = {path.name: path.read_text() for path in folder.iterdir()}
    assert {"index.html", "login.html", "app.js", "style.css"} <= set(texts)
    for name, text in texts.items():
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "document.write" not in text, name
        assert "eval(" not in text and "https://" not in text, name
        assert text.count("http://") == text.count("http://www.w3.org/2000/svg"), name
    for name in ("index.html", "login.html"):
        assert " style=" not in texts[name] and " on" not in texts[name].replace(" only", "").split("<body")[0], name
        assert texts[name].count("<script") == texts[name].count('<script type="module" src="/static/'), name


def test_no_path_leads_out_of_the_archive(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "secret.png").write_bytes(png())
    ways = ["..%2F..%2Fsecret.png", "%2e%2e%2fsecret.png", "..\\secret.png", "%00", str(tmp_path / "secret.png")]

    async def run() -> None:
        async with site.client("eva") as client:
            for way in ways:
                for path in (f"/static/{way}", f"/api/results/{way}/photo", f"/api/results/{way}/reference"):
                    assert (await client.get(path)).status_code in (400, 404), path
                for query in ({"part": "lid-7", "reference_id": way}, {"part": way, "reference_id": way}):
                    assert (await client.get("/api/reference-photo", params=query)).status_code in (404, 422)
            assert (await client.get("/api/results/r-1/secret")).status_code == 422

    asyncio.run(run())


def test_photos_come_small_and_may_be_kept(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("ole") as client:
            await client.post("/api/trigger", json={"part_id": "SN-1"})
            for size, wanted in ((240, (240, 180)), (2048, (960, 720))):
                answer = await client.get("/api/results/r-000001/photo", params={"size": size})
                assert answer.headers["content-type"] == "image/jpeg" and "immutable" in answer.headers["cache-control"]
                assert Image.open(io.BytesIO(answer.content)).size == wanted
            assert (await client.get("/api/results/r-000001/photo", params={"size": 100_000})).status_code == 400
            (tmp_path / "station" / "bad.png").write_bytes(b"no photo")
            broken = await client.get("/api/results/r-000001/photo", params={"size": 640})
            assert broken.status_code == 400 and "cannot be shown" in broken.json()["found"]
            (tmp_path / "station" / "bad.png").unlink()
            gone = await client.get("/api/results/r-000001/photo", params={"size": 640})
            assert gone.status_code == 404 and gone.headers["cache-control"] == "no-store"

    asyncio.run(run())


def test_the_newest_photo_of_a_camera_is_sent_as_it_is(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def newest(camera: str) -> bytes:
        return {"top": b"a jpeg"}.get(camera, b"")

    async def run() -> None:
        async with site.client("ole") as client:
            assert (await client.get("/api/live/top")).status_code == 404
            site.station.live = newest  # type: ignore[method-assign]
            answer = await client.get("/api/live/top")
            assert (answer.content, answer.headers["content-type"]) == (b"a jpeg", "image/jpeg")
            assert answer.headers["cache-control"] == "no-store"

    asyncio.run(run())


def test_an_upload_must_be_a_photo_and_its_name_is_made_plain(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva", **{"Content-Type": "image/png"}) as client:
            name = {"part": "lid-7", "name": f"../../etc/{HOSTILE}.png"}
            added = await client.post("/api/references", params=name, content=png())
            assert added.status_code == 200
            call = site.station.calls[-1]
            assert call[0] == "enroll" and call[3] == "eva" and not set("<>/\\\"'") & set(call[2])
            for data in (b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", png()[:60], b"GIF89a" + b"\0" * 50):
                refused = await client.post("/api/references", params=UPLOAD, content=data)
                assert refused.status_code == 400 and "cannot be decoded" in refused.json()["found"]
            html = {"Content-Type": "text/html"}
            assert (await client.post("/api/references", params=UPLOAD, content=png(), headers=html)).status_code == 415
            huge = await client.post("/api/references", params=UPLOAD, content=png((10_000, 8_500), "1"))
            assert huge.status_code == 400 and "pixels" in huge.json()["found"]
        assert len([call for call in site.station.calls if call[0] == "enroll"]) == 1
        assert list((tmp_path / "uploads").iterdir()) == []

    asyncio.run(run())


def test_bodies_are_limited_whether_their_length_is_told_or_not(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def chunks(total: int):  # type: ignore[no-untyped-def]
        for _ in range(total // (1 << 16) + 1):
            yield b"x" * (1 << 16)

    async def run() -> None:
        async with site.client("eva") as client:
            told = await client.post("/api/trigger", content=b"x" * (MAX_BODY + 1))
            untold = await client.post(
                "/api/trigger", content=chunks(MAX_BODY), headers={"Content-Type": "application/json"}
            )
            photo = await client.post(
                "/api/references", params=UPLOAD, content=chunks(MAX_PHOTO), headers={"Content-Type": "image/png"}
            )
            assert [one.status_code for one in (told, untold, photo)] == [413] * 3
        assert site.station.calls == [] and list((tmp_path / "uploads").iterdir()) == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("lid 7 (new).png", "lid 7 (new).png"),
        ("C:\\photos\\lid.png", "lid.png"),
        ("../../x", "x"),
        ("..", "photo"),
        ("", "photo"),
        ("<b>.png", "_b_.png"),
        ("Gehäuse.png", "Gehäuse.png"),
        ("a\nb\0.png", "a_b_.png"),
        ("x" * 300, "x" * 100),
    ],
)
def test_plain_names(name: str, wanted: str) -> None:
    assert plain_name(name) == wanted


def test_hostile_texts_come_as_json_only(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva") as client:
            await client.post("/api/trigger", json={"part_id": HOSTILE})
            for path in ("/api/results", "/api/results/r-000001", "/api/status"):
                answer = await client.get(path)
                assert answer.headers["content-type"] == "application/json"
            assert (await client.get("/api/results/r-000001")).json()["part_id"] == HOSTILE
            unknown = await client.get(f"/api/results/{HOSTILE.replace('/', '')}")
            assert unknown.status_code == 404 and unknown.headers["content-type"] == "application/json"

    asyncio.run(run())


@pytest.mark.parametrize(
    "body", [{"part_id": "x" * 201}, {"origin": "plc"}, {"is_simulated": True}, {"part_id": 7}, {"path": "/etc/passwd"}]
)
def test_a_trigger_says_only_what_a_program_may(tmp_path: Path, body: dict[str, object]) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        async with site.client("eva") as client:
            answer = await client.post("/api/trigger", json=body)
            assert answer.status_code == 422 and set(answer.json()) == {"found", "wanted", "action", "number"}
        assert site.station.calls == []

    asyncio.run(run())


def test_a_refusal_of_the_station_keeps_its_words_and_number(tmp_path: Path) -> None:
    site = Site(tmp_path)

    async def run() -> None:
        await site.station.halt(1, "test")
        async with site.client("eva") as client:
            answer = await client.post("/api/trigger", json={})
            assert answer.status_code == 409
            assert answer.json() == {
                "found": "the station is Halted",
                "wanted": "Ready",
                "action": "wait",
                "number": -10,
            }
            site.station.is_away = True
            assert (await client.post("/api/trigger", json={})).status_code == 503
            wrong = await client.get("/api/results", params={"after": "x"})
            assert wrong.status_code == 400 and "after" in wrong.json()["found"]

    asyncio.run(run())


def config(tmp_path: Path, **web: object) -> StationConfig:
    data = {"station": {"name": "s"}, "recipes": [{"id": "lid-7", "bundle": "nano"}], "web": web, "folder": tmp_path}
    return StationConfig.model_validate(data)


def test_an_open_address_needs_a_certificate(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "192.168.1.5", "::", "press-4.plant"):
        with pytest.raises(ConfigError, match="HTTPS for any address but loopback"):
            settings_from_station(config(tmp_path, host=host), tmp_path)
    for host in ("127.0.0.1", "::1", "localhost", "127.3.2.1"):
        assert not settings_from_station(config(tmp_path, host=host), tmp_path).is_secure
    with pytest.raises(ConfigError, match="is not a file"):
        settings_from_station(config(tmp_path, host="0.0.0.0", certificate="c.pem", key="k.pem"), tmp_path)
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).write_text("x")
    with pytest.raises(ConfigError, match="only one of"):
        settings_from_station(config(tmp_path, certificate="c.pem"), tmp_path)
    opened = settings_from_station(
        config(tmp_path, host="0.0.0.0", certificate="c.pem", key="k.pem", names=("Press-4.Plant",)), tmp_path
    )
    assert opened.is_secure and "press-4.plant" in opened.names and "evil.example" not in opened.names


def test_job_requests_of_programs_are_marked() -> None:
    assert JobRequest(origin="http").origin == "http"
