"""Two ends of a socket: calls and streams in both directions, errors as they were raised, and a peer that goes away."""

import asyncio
import stat

import pytest

from judo_edge.errors import OutputError, StationError
from judo_edge.station import wire


async def _add(one, other):
    return one + other


async def _refuse():
    raise StationError("found this", "wanted that", "do it", number=-7)


async def _break():
    raise ValueError("a bug")


async def _count(top):
    for number in range(top):
        yield number


async def _forever():
    while True:
        yield "again"
        await asyncio.sleep(0)


async def _never():
    await asyncio.Event().wait()


HANDLERS = {
    "add": _add, "refuse": _refuse, "break": _break, "count": _count, "forever": _forever, "never": _never,
}  # fmt: skip


def over_socket(tmp_path, use, client_handlers=None):
    """Run `use(client peer, server peers)` over a real socket."""

    async def run():
        peers = []
        server = await wire.serve(tmp_path / "run" / "hub.sock", peers.append, lambda: HANDLERS)
        peer, reading = await wire.connect(tmp_path / "run" / "hub.sock", client_handlers)
        try:
            return await asyncio.wait_for(use(peer, peers), 30)
        finally:
            await peer.close()
            await reading
            server.close()

    return asyncio.run(run())


def test_calls_answer(tmp_path):
    async def use(peer, _):
        return await asyncio.gather(*(peer.call("add", one=n, other=1) for n in range(50)))

    assert over_socket(tmp_path, use) == list(range(1, 51))


def test_streams_yield_in_order(tmp_path):
    async def use(peer, _):
        return [item async for item in peer.stream("count", top=500)]

    assert over_socket(tmp_path, use) == list(range(500))


def test_a_stream_that_is_left_ends_at_the_other_end(tmp_path):
    async def use(peer, peers):
        async for _ in (stream := peer.stream("forever")):
            break
        await stream.aclose()
        while peers[0]._tasks:
            await asyncio.sleep(0.01)
        return await peer.call("add", one=1, other=1)

    assert over_socket(tmp_path, use) == 2


def test_the_server_calls_the_client(tmp_path):
    async def use(peer, peers):
        await peer.call("add", one=0, other=0)
        return await peers[0].call("add", one=2, other=3)

    assert over_socket(tmp_path, use, {"add": _add}) == 5


@pytest.mark.parametrize("method", ["refuse", "unknown"])
def test_errors_come_back_as_they_were(tmp_path, method):
    async def use(peer, _):
        with pytest.raises(StationError) as caught:
            await peer.call(method)
        return caught.value

    error = over_socket(tmp_path, use)
    if method == "refuse":
        assert (error.found, error.wanted, error.action, error.number) == ("found this", "wanted that", "do it", -7)
    else:
        assert "unknown" in error.found and "add" in error.wanted


def test_a_bug_is_told_and_the_connection_goes_on(tmp_path):
    async def use(peer, _):
        with pytest.raises(StationError, match="ValueError: a bug"):
            await peer.call("break")
        return await peer.call("add", one=1, other=1)

    assert over_socket(tmp_path, use) == 2


@pytest.mark.parametrize("kind", ["call", "stream"])
def test_a_peer_that_goes_fails_what_waits(tmp_path, kind):
    async def use(peer, peers):
        async def wait():
            if kind == "call":
                await peer.call("never")
            else:
                [item async for item in peer.stream("never")]

        waiting = asyncio.create_task(wait())
        await peer.call("add", one=0, other=0)
        await peers[0].close()
        with pytest.raises(wire.LostError):
            await waiting
        with pytest.raises(wire.LostError):
            await peer.call("add", one=0, other=0)

    over_socket(tmp_path, use)


def test_rubbish_closes_only_its_own_connection(tmp_path):
    async def use(peer, _):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "run" / "hub.sock")
        writer.write(b"not json\n")
        assert await reader.read() == b""
        writer.close()
        return await peer.call("add", one=1, other=1)

    assert over_socket(tmp_path, use) == 2


def test_only_the_user_may_connect(tmp_path):
    async def use(peer, _):
        folder, socket = tmp_path / "run", tmp_path / "run" / "hub.sock"
        return stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(socket.stat().st_mode)

    assert over_socket(tmp_path, use) == (0o700, 0o600)


def test_a_socket_path_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(OutputError, match="run_folder"):
        asyncio.run(wire.serve(tmp_path / ("x" * 120) / "hub.sock", lambda _: None, dict))


def test_nobody_there_is_lost(tmp_path):
    with pytest.raises(wire.LostError):
        asyncio.run(wire.connect(tmp_path / "hub.sock"))
