"""A camera at a scripted hub: grabs, faults, parts that come by themselves, a hub that goes, a driver that hangs."""

import asyncio
import threading
import time

import numpy as np
import pytest
from PIL import Image

from judo_edge.errors import CameraError, CameraFault, StationError
from judo_edge.runtime.sources.camera import Grabbed
from judo_edge.runtime.sources.health import Guarded
from judo_edge.runtime.sources.reconnect import Backoff, Reconnecting
from judo_edge.runtime.sources.watched import WatchedFolder
from judo_edge.station import wire
from judo_edge.station.camera import service as service_module
from judo_edge.station.camera.service import CameraService
from judo_edge.station.camera.spool import Spool
from judo_edge.station.client import StationClient
from judo_edge.station.results import Code
from judo_edge.station.states import State
from judo_edge.station.workers import SOCKET_NAME, Spooled


class ScriptedCamera:
    """A camera whose every frame is all of one value, its number; `faults` are raised in its place."""

    def __init__(self):
        self.number, self.faults, self.is_open, self.hang = 0, [], False, threading.Event()
        self.hang.set()
        self.acknowledged, self.missed = [], 0
        self.ready = threading.Semaphore(0)
        """Frames that a camera triggered from outside has."""
        self.is_triggered = False

    def open(self):
        self.is_open = True

    def grab(self, timeout):
        self.hang.wait()
        if self.is_triggered and not self.ready.acquire(timeout=timeout):
            raise CameraError(CameraFault.TIMEOUT, "no signal")
        if self.faults:
            raise self.faults.pop(0)
        self.number += 1
        image = np.full((8, 8, 3), self.number, np.uint8)
        return Grabbed(image, time.monotonic_ns(), self.number, missed=self.missed)

    def tend(self):
        return self.is_open

    def check(self):
        if not self.is_open:
            raise CameraError(CameraFault.UNPLUGGED, "gone")

    def acknowledge(self, path):
        self.acknowledged.append(path)

    def close(self):
        self.is_open = False


class Hub:
    """What a hub hears from a camera; `refuse` are raised in place of an answer."""

    def __init__(self, folder):
        self.folder, self.frames, self.states, self.peers, self.refuse = folder, [], [], [], []
        self.server = None
        self.state, self.num_waiting = State.READY, 0
        self.handlers = {
            "hello": self.hello,
            "status": self.status,
            "frame": self.frame,
            "camera_state": self.camera_state,
        }

    async def start(self):
        self.server = await wire.serve(self.folder / SOCKET_NAME, self.peers.append, lambda: self.handlers)

    async def stop(self):
        self.server.close()
        for peer in self.peers:
            await peer.close()
        self.peers.clear()

    async def hello(self, role, name, **_):
        assert (role, name) == ("camera", "top")

    async def status(self):
        return {"station": "s", "state": self.state.value, "num_waiting": self.num_waiting}

    async def frame(self, camera, spooled, missed):
        if self.refuse:
            raise self.refuse.pop(0)
        spooled = Spooled.model_validate(spooled)
        self.frames.append((camera, spooled, missed))
        return f"job-{len(self.frames)}"

    async def camera_state(self, camera, code, text):
        self.states.append((camera, code))

    async def grab(self, timeout=10.0, after_ns=0):
        found = await self.peers[-1].call("grab", job_id="j", timeout=timeout, after_ns=after_ns)
        return Spooled.model_validate(found)


async def until(condition, seconds=15.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


def at_hub(tmp_path, camera, use, is_pushing=False, is_live=False, capacity=8, ends=False, max_waiting=None):
    """Run `use(hub, spool folder)` with a camera that serves the hub."""

    async def run():
        hub, spool = Hub(tmp_path), Spool(tmp_path / "spool", "top", capacity)
        spool.folder.mkdir(exist_ok=True)
        await hub.start()
        service = CameraService(camera, "top", spool, is_pushing, is_live, max_waiting)
        client = StationClient(tmp_path / SOCKET_NAME, "camera", "top", service.handlers)
        running = asyncio.create_task(service.run(client))
        try:
            await until(lambda: hub.states)
            await asyncio.wait_for(use(hub, spool.folder), 120)
            await asyncio.wait({running}, timeout=60 if ends else 0)
        finally:
            running.cancel()
            outcome = (await asyncio.gather(running, return_exceptions=True))[0]
            await client.close()
            await hub.stop()
        return outcome

    return asyncio.run(run())


def pixels(folder, spooled):
    return np.load(folder / spooled.file, allow_pickle=False)


def test_a_grab_gives_a_photo_from_after_the_trigger(tmp_path):
    async def use(hub, folder):
        after_ns = time.monotonic_ns()
        first, second = await hub.grab(after_ns=after_ns), await hub.grab(after_ns=after_ns)
        assert pixels(folder, first).shape == (8, 8, 3)
        assert (pixels(folder, first)[0, 0, 0], pixels(folder, second)[0, 0, 0]) == (1, 2)
        assert first.file != second.file
        assert first.captured_ns >= after_ns and first.captured.endswith("+00:00")
        assert not list(folder.glob(".*"))

    at_hub(tmp_path, ScriptedCamera(), use)


@pytest.mark.parametrize("fault", list(CameraFault))
def test_a_fault_is_told_by_its_code(tmp_path, fault):
    camera = ScriptedCamera()

    async def use(hub, folder):
        camera.faults.append(CameraError(fault, "what was found"))
        with pytest.raises(StationError, match="what was found") as refused:
            await hub.grab()
        assert Code(-refused.value.number) is service_module.CODES[fault]
        await until(lambda: ("top", -refused.value.number) in hub.states)
        await hub.grab()
        await until(lambda: hub.states[-1] == ("top", 0))

    at_hub(tmp_path, camera, use)


def test_a_frame_from_before_the_trigger_is_stale(tmp_path):
    async def use(hub, folder):
        with pytest.raises(StationError) as refused:
            await hub.grab(after_ns=time.monotonic_ns() + 10**12)
        assert refused.value.number == -Code.CAMERA_STALE

    at_hub(tmp_path, ScriptedCamera(), use)


def test_the_spool_holds_so_many_photos(tmp_path):
    async def use(hub, folder):
        last = [await hub.grab() for _ in range(7)][-3:]
        assert {path.name for path in folder.iterdir()} == {spooled.file for spooled in last}

    at_hub(tmp_path, ScriptedCamera(), use, capacity=3)


def test_live_shows_the_newest_photo(tmp_path):
    async def use(hub, folder):
        assert await hub.peers[-1].call("live") == ""
        await hub.grab()
        assert (await hub.peers[-1].call("live")).startswith("/9j/")  # JPEG's first bytes in base64

    at_hub(tmp_path, ScriptedCamera(), use)


def test_live_grabs_from_a_free_running_camera(tmp_path):
    async def use(hub, folder):
        assert (await hub.peers[-1].call("live")).startswith("/9j/")

    at_hub(tmp_path, ScriptedCamera(), use, is_live=True)


def test_parts_are_offered_until_the_hub_has_answered(tmp_path):
    camera = ScriptedCamera()
    camera.is_triggered = True

    async def use(hub, folder):
        hub.refuse += [StationError("no"), StationError("not yet")]
        camera.ready.release(2)
        await until(lambda: len(hub.frames) == 2)
        assert [spooled.frame_number for _, spooled, _ in hub.frames] == [1, 2]
        camera.missed = 3
        await hub.stop()
        camera.ready.release(2)
        await asyncio.sleep(0.5)
        await hub.start()
        await until(lambda: len(hub.frames) == 4)
        assert [spooled.frame_number for _, spooled, _ in hub.frames] == [1, 2, 3, 4]
        assert [missed for _, _, missed in hub.frames] == [0, 0, 3, 3]
        assert len({spooled.file for _, spooled, _ in hub.frames}) == 4
        await until(lambda: hub.states[-1] == ("top", 0))

    at_hub(tmp_path, camera, use, is_pushing=True)


def test_a_part_that_the_hub_never_takes_is_told_as_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(service_module, "REFUSED_SECONDS", 0.3)
    camera = ScriptedCamera()
    camera.is_triggered = True

    async def use(hub, folder):
        hub.refuse += [StationError("no")] * 4
        camera.ready.release()
        await until(lambda: len(hub.refuse) < 3 and not list(folder.iterdir()))
        hub.refuse.clear()
        camera.ready.release()
        await until(lambda: len(hub.frames) == 1)
        assert hub.frames[0][2] == 1

    at_hub(tmp_path, camera, use, is_pushing=True)


def test_a_grab_takes_the_next_part_of_a_triggered_camera(tmp_path):
    camera = ScriptedCamera()
    camera.is_triggered = True

    async def use(hub, folder):
        with pytest.raises(StationError) as refused:
            await hub.grab(timeout=0.2)
        assert refused.value.number == -Code.CAMERA_TIMEOUT
        asked = asyncio.create_task(hub.grab(after_ns=time.monotonic_ns()))
        await asyncio.sleep(0.3)
        camera.ready.release(2)
        assert (await asked).frame_number == 1
        await until(lambda: [spooled.frame_number for _, spooled, _ in hub.frames] == [2])

    at_hub(tmp_path, camera, use, is_pushing=True)


def test_an_incomplete_frame_of_a_triggered_camera_is_a_part_without_pixels(tmp_path):
    camera = ScriptedCamera()
    camera.is_triggered = True

    async def use(hub, folder):
        camera.faults.append(CameraError(CameraFault.INCOMPLETE, "half a frame"))
        camera.ready.release(2)
        await until(lambda: len(hub.frames) == 2)
        assert hub.frames[0][1].problem == "half a frame" and not (folder / hub.frames[0][1].file).exists()
        assert pixels(folder, hub.frames[1][1])[0, 0, 0] == 1

    at_hub(tmp_path, camera, use, is_pushing=True)


def folder_camera(folder):
    folder.mkdir(exist_ok=True)
    watched = WatchedFolder(
        folder, "(?P<part_id>.*)", settle=0.05, give_up=0.2, poll=0.02, keep_until_acknowledged=True
    )
    return Reconnecting(Guarded(watched), Backoff(0.05, 0.1), {CameraFault.UNPLUGGED: 1})


def photo(path, value):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


def test_photos_of_a_folder_are_done_when_the_hub_has_them(tmp_path):
    folder = tmp_path / "in"

    async def use(hub, spool):
        hub.refuse.append(StationError("not yet"))
        photo(folder / "lid-1.png", 5)
        await until(lambda: len(hub.frames) == 1)
        spooled = hub.frames[0][1]
        assert (spooled.part_id, spooled.path) == ("lid-1", str(folder / "lid-1.png"))
        assert pixels(spool, spooled)[0, 0, 0] == 5
        await until(lambda: (folder / "done" / "lid-1.png").is_file())
        (folder / "lid-2.png").write_bytes(b"no photo")
        await until(lambda: len(hub.frames) == 2)
        assert hub.frames[1][1].part_id == "lid-2"
        assert (folder / "failed" / "lid-2.png").is_file()

    at_hub(tmp_path, folder_camera(folder), use, is_pushing=True)


def test_the_same_photo_has_the_same_key_in_a_new_process_and_a_new_photo_another(tmp_path):
    folder, keys = tmp_path / "in", []
    photo(folder / "lid.png", 5)
    for _ in range(2):

        async def use(hub, spool):
            await until(lambda: hub.refuse_count)
            keys.append(hub.offered)

        class Refusing(Hub):
            refuse_count, offered = 0, ""

            async def frame(self, camera, spooled, missed):
                self.offered, self.refuse_count = spooled["file"], self.refuse_count + 1
                raise StationError("down")

        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(globals(), "Hub", Refusing)
            at_hub(tmp_path, folder_camera(folder), use, is_pushing=True)
    assert keys[0] == keys[1]
    assert (folder / "lid.png").is_file()
    (folder / "lid.png").unlink()
    photo(folder / "lid.png", 5)

    async def again(hub, spool):
        await until(lambda: hub.frames)
        keys.append(hub.frames[0][1].file)

    at_hub(tmp_path, folder_camera(folder), again, is_pushing=True)
    assert keys[2] != keys[0]


def test_photos_in_a_folder_wait_for_a_station_that_takes_them(tmp_path):
    folder = tmp_path / "in"

    async def use(hub, spool):
        hub.state = State.PREOPERATIONAL
        photo(folder / "lid.png", 5)
        await asyncio.sleep(1)
        hub.state, hub.num_waiting = State.READY, 2
        await asyncio.sleep(0.5)
        assert not hub.frames and (folder / "lid.png").is_file()
        hub.num_waiting = 1
        await until(lambda: hub.frames)

    at_hub(tmp_path, folder_camera(folder), use, is_pushing=True, max_waiting=2)


def test_a_grab_takes_a_photo_that_waits(tmp_path):
    folder = tmp_path / "in"

    async def use(hub, spool):
        hub.state = State.PREOPERATIONAL
        asked = asyncio.create_task(hub.grab(after_ns=time.monotonic_ns()))
        photo(folder / "lid.png", 5)
        assert (await asked).part_id == "lid"

    at_hub(tmp_path, folder_camera(folder), use, is_pushing=True, max_waiting=2)


def test_a_folder_that_goes_is_told_and_comes_back(tmp_path):
    folder = tmp_path / "in"

    async def use(hub, spool):
        folder.rename(tmp_path / "gone")
        await until(lambda: hub.states[-1] == ("top", Code.CAMERA_UNPLUGGED))
        (tmp_path / "gone").rename(folder)
        await until(lambda: hub.states[-1] == ("top", 0))
        photo(folder / "lid.png", 5)
        await until(lambda: hub.frames)

    at_hub(tmp_path, folder_camera(folder), use, is_pushing=True)


def test_a_driver_that_hangs_ends_the_service(tmp_path, monkeypatch):
    monkeypatch.setattr(service_module, "STUCK_SECONDS", 0.3)
    camera = ScriptedCamera()

    async def use(hub, folder):
        camera.hang.clear()
        with pytest.raises(StationError) as refused:
            await hub.grab(timeout=0.1)
        assert refused.value.number in (-Code.CAMERA_TIMEOUT, -90)

    outcome = at_hub(tmp_path, camera, use, ends=True)
    camera.hang.set()
    assert isinstance(outcome, StationError) and "caught in its driver" in str(outcome)
