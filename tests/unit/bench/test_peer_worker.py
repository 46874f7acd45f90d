"""The talk with a rival's process: whatever it does wrong is said in words, and nothing waits for ever."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from judo_edge.bench.peers import registry
from judo_edge.bench.peers.frames import PeerFrame, PeerResult
from judo_edge.bench.peers.peer import Converter, Peer
from judo_edge.bench.peers.probe import clean_environment, package_versions
from judo_edge.bench.peers.run import installed_peers, run_peers
from judo_edge.bench.peers.worker_process import WorkerProcess
from judo_edge.errors import DependencyError, EngineError, InputError
from judo_edge.export.checkpoint import open_checkpoint
from tests import rival

NANO = Path(registry.__file__).parents[2] / "assets" / "judo-nano"


def worker(tmp_path: Path, mode: str, timeout: float = 20.0) -> WorkerProcess:
    return WorkerProcess([sys.executable, str(rival.SCRIPT), mode], tmp_path / "log", 1, timeout)


def test_a_request_comes_back_answered(tmp_path: Path) -> None:
    with worker(tmp_path, "echo") as process:
        assert process.call({"op": "ask", "prompt": "é\n"}) == {"asked": {"op": "ask", "prompt": "é\n"}}
        assert process.call({"n": 2}) == {"asked": {"n": 2}}


@pytest.mark.parametrize(
    ("mode", "words"),
    [("garbage", "Segmentation fault"), ("list", r"\[1, 2\]"), ("dies", "exit code 3: last words")],
)
def test_a_broken_rival_is_said_in_words(tmp_path: Path, mode: str, words: str) -> None:
    with pytest.raises(EngineError, match=words), worker(tmp_path, mode) as process:
        process.call({"op": "load"})


def test_a_silent_rival_is_ended_in_time(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(EngineError, match=r"no answer in 0\.5 s"), worker(tmp_path, "sleeps", 0.5) as process:
        process.call({"op": "load"})
    assert time.monotonic() - started < 20
    assert process._process.returncode is not None


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    nowhere = tmp_path / "python"
    with pytest.raises(EngineError, match="cannot be started"), WorkerProcess([str(nowhere)], tmp_path / "l", 1, 1):
        pass
    with pytest.raises(DependencyError, match=r"does not run.*pip install rival"):
        package_versions(nowhere, ["numpy"], "pip install rival")


def test_a_missing_package_is_named() -> None:
    with pytest.raises(DependencyError, match=r"lacks no-such-rival; .*pip install no-such-rival"):
        package_versions(Path(sys.executable), ["numpy", "no-such-rival"], "pip install no-such-rival")


def test_installed_packages_have_versions() -> None:
    assert package_versions(Path(sys.executable), ["numpy"], "") == {"numpy": np.__version__}


def test_the_rival_does_not_see_our_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    environment = clean_environment(3)
    assert "PYTHONPATH" not in environment and environment["OMP_NUM_THREADS"] == "3"


def frame(value: int) -> PeerFrame:
    photos = (np.full((4, 4, 3), value, np.uint8), np.full((4, 4, 3), 9, np.uint8))
    return PeerFrame("prompt", (1, 2, 3), photos, (0,))


@pytest.fixture
def rivals(monkeypatch: pytest.MonkeyPatch) -> dict[str, Peer]:
    """Rivals that are the stand-in script behind the real worker."""
    modes = ("well", "dies", "sleeps", "no load")
    peers = {mode: Peer(mode, "fake", ("numpy",), "", str(rival.SCRIPT), {"mode": mode}) for mode in modes}
    peers["absent"] = Peer("absent", "fake", ("no-such-rival",), "pip install it", str(rival.SCRIPT), {"mode": "well"})
    failing = Converter("fake", ("numpy",), "", ("-c", "import sys; print('no room'); sys.exit(5)"), "converted")
    peers["unconverted"] = Peer("unconverted", "fake", ("numpy",), "", str(rival.SCRIPT), {"mode": "well"}, failing)
    monkeypatch.setattr(registry, "PEERS", peers)
    return peers


def ran(names: list[str], work: Path, seconds: float = 30.0) -> list[PeerResult]:
    return run_peers(NANO, [frame(1), frame(2), frame(3)], names, {}, work, 8, threads=1, frame_seconds=seconds)


def test_one_that_breaks_does_not_stop_the_next(rivals: dict[str, Peer], tmp_path: Path) -> None:
    broken, absent, unloaded, well = ran(["dies", "absent", "no load", "well"], tmp_path)
    assert "exit code 7: out of luck" in broken.problem
    assert [answer.ids for answer in broken.answers] == [(1, 9, 3)]
    assert "lacks no-such-rival" in absent.problem and "pip install it" in absent.problem
    assert "OSError" in unloaded.problem and "is no model" in unloaded.problem
    assert well.problem == "" and [answer.ids for answer in well.answers] == [(1, 9, 3), (2, 9, 3), (3, 9, 3)]
    assert well.answers[0].peak_bytes > 1e6 and well.warm_seconds is not None


def test_one_that_sleeps_is_left(rivals: dict[str, Peer], tmp_path: Path) -> None:
    (slow,) = ran(["sleeps"], tmp_path, seconds=3.0)
    assert "no answer in 3 s" in slow.problem and slow.answers == () and slow.warm_seconds is None


def test_a_failed_conversion_leaves_nothing_behind(rivals: dict[str, Peer], tmp_path: Path) -> None:
    (result,) = ran(["unconverted"], tmp_path)
    assert "conversion converted ends with exit code 5" in result.problem
    (log,) = tmp_path.glob("*/converted.log")
    assert log.read_text() == "no room\n"
    assert not list(tmp_path.glob("*/converted")) and not list(tmp_path.glob("**/*.partial*"))
    assert not list(tmp_path.glob("photos-*"))


def test_what_can_run_is_said_beforehand(rivals: dict[str, Peer], tmp_path: Path) -> None:
    said = installed_peers(["well", "absent"], {"fake": Path(sys.executable)})
    assert said["well"] == "" and "lacks no-such-rival" in said["absent"]
    with pytest.raises(InputError, match="no rival 'never'"):
        installed_peers(["never"], {})


def test_a_converted_checkpoint_needs_no_converter(
    rivals: dict[str, Peer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lacking = Converter("fake", ("no-such-converter",), "", (), "converted")
    peer = Peer("x", "fake", ("numpy",), "", str(rival.SCRIPT), {"mode": "well"}, lacking)
    monkeypatch.setitem(registry.PEERS, "x", peer)
    assert "no-such-converter" in installed_peers(["x"], {}, NANO, tmp_path)["x"]
    (hub,) = tmp_path.glob("*/hub")
    (hub.parent / "converted").mkdir()
    assert installed_peers(["x"], {}, NANO, tmp_path)["x"] == ""


def test_the_checkpoint_stays_as_it_is(rivals: dict[str, Peer], tmp_path: Path) -> None:
    before = open_checkpoint(NANO).digest(), sorted(path.name for path in NANO.iterdir())
    ran(["well"], tmp_path)
    assert (open_checkpoint(NANO).digest(), sorted(path.name for path in NANO.iterdir())) == before
