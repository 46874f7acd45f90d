"""Rivals in turn over the same frames: converted, loaded, asked; whatever stops one is said and the next one runs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from judo_edge.bench.peers.dressing import built_once, hub_folder_from_checkpoint
from judo_edge.bench.peers.frames import PeerAnswer, PeerFrame, PeerResult
from judo_edge.bench.peers.peer import SCRIPTS, Converter, Peer
from judo_edge.bench.peers.probe import clean_environment, package_versions
from judo_edge.bench.peers.registry import peers_from_names
from judo_edge.bench.peers.worker_process import WorkerProcess
from judo_edge.config import model_from_data
from judo_edge.errors import EngineError, JudoEdgeError
from judo_edge.files import output_errors, sha256_of_bytes

Progress = Callable[[str, int], None]
"""Is told the rival's name and how many of its frames are done; -1 while it is converted and loaded."""
FRAME_SECONDS = 600.0
"""Longest wait for loading and for one reply."""


@dataclass(frozen=True)
class Setting:
    """Where and how rivals run."""

    pythons: Mapping[str, Path]
    """Interpreter by key; this one where a key is missing."""
    threads: int = 2
    frame_seconds: float = FRAME_SECONDS

    def python(self, key: str) -> Path:
        """Return the interpreter of a key; it is not resolved, because a virtual environment's is a link."""
        return self.pythons.get(key, Path(sys.executable))


def installed_peers(
    names: Sequence[str], pythons: Mapping[str, Path], checkpoint: Path | None = None, work: Path | None = None
) -> dict[str, str]:
    """Say for each rival why it cannot run, with an empty text for one that can.

    Its converter need not be installed when the checkpoint was converted in `work` before. InputError for an unknown
    name.
    """
    hub = hub_folder_from_checkpoint(checkpoint, work) if checkpoint and work else None
    return {peer.name: _obstacle(peer, Setting(pythons), hub) for peer in peers_from_names(names)}


def _obstacle(peer: Peer, setting: Setting, hub: Path | None) -> str:
    try:
        package_versions(setting.python(peer.python), peer.packages, peer.install)
        if peer.converter and not (hub and (hub.parent / peer.converter.folder).is_dir()):
            package_versions(setting.python(peer.converter.python), peer.converter.packages, peer.converter.install)
    except JudoEdgeError as error:
        return str(error)
    return ""


def run_peers(
    checkpoint: Path,
    frames: Sequence[PeerFrame],
    peers: Sequence[str],
    pythons: Mapping[str, Path],
    work: Path,
    max_new_tokens: int,
    progress: Progress = lambda *_: None,
    *,
    threads: int = 2,
    frame_seconds: float = FRAME_SECONDS,
) -> list[PeerResult]:
    """Let each rival write the replies to all frames, one rival after another, greedy; the first frame is its warm-up.

    Conversions stay in `work` and are made once per checkpoint. A rival that is not installed, breaks or takes longer
    than `frame_seconds` over a frame gets a result with its problem. Raises InputError for an unknown name,
    CheckpointError and OutputError when the checkpoint cannot be handed over.
    """
    chosen, setting = peers_from_names(peers), Setting(pythons, threads, frame_seconds)
    hub = hub_folder_from_checkpoint(checkpoint, work)
    with _requests(frames, work, max_new_tokens) as requests:
        return [_Run(peer, setting, hub).over(requests, progress) for peer in chosen]


def prepared(peer: Peer, setting: Setting, hub: Path) -> Path:
    """Return what a rival loads: the hub folder, or its conversion, made when it is not there yet.

    Raises DependencyError when the converter is not installed, EngineError when it fails.
    """
    converter = peer.converter
    if converter is None:
        return hub
    python = setting.python(converter.python)
    folder = hub.parent / converter.folder
    if not folder.is_dir():
        package_versions(python, converter.packages, converter.install)
    return built_once(folder, lambda out: _convert(converter, python, hub, out))


def _convert(converter: Converter, python: Path, hub: Path, out: Path) -> None:
    log = hub.parent / f"{converter.folder}.log"
    with log.open("wb") as words:
        command = converter.command(python, hub, out)
        code = subprocess.run(command, stdout=words, stderr=subprocess.STDOUT, env=clean_environment()).returncode
    if code:
        raise EngineError(f"the conversion {converter.folder} ends with exit code {code}", action=f"read {log}")


@dataclass
class _Run:
    """One rival at work; what it has done so far survives whatever stops it."""

    peer: Peer
    setting: Setting
    hub: Path
    versions: dict[str, str] = field(default_factory=dict)
    prepare_seconds: float = 0.0
    load_seconds: float = 0.0
    answers: list[PeerAnswer] = field(default_factory=list)

    def over(self, requests: Sequence[Mapping[str, Any]], progress: Progress) -> PeerResult:
        problem = ""
        try:
            progress(self.peer.name, -1)
            self._ask_all(requests, progress)
        except JudoEdgeError as error:
            problem = str(error)
        times = (self.prepare_seconds, self.load_seconds)
        return PeerResult(self.peer.name, problem, self.versions, *times, tuple(self.answers))

    def _ask_all(self, requests: Sequence[Mapping[str, Any]], progress: Progress) -> None:
        python = self.setting.python(self.peer.python)
        self.versions = package_versions(python, self.peer.packages, self.peer.install)
        started = time.perf_counter()
        model = prepared(self.peer, self.setting, self.hub)
        self.prepare_seconds = time.perf_counter() - started
        command = [str(python), str(SCRIPTS / "worker.py"), str(SCRIPTS / self.peer.backend)]
        log = self.hub.parent / f"{self.peer.name}.log"
        load = {"op": "load", "model": str(model), "options": self.peer.options, "threads": self.setting.threads}
        with WorkerProcess(command, log, self.setting.threads, self.setting.frame_seconds) as process:
            self.load_seconds = float(process.call(load)["seconds"])
            for number, request in enumerate(requests):
                answer = process.call(request)
                self.answers.append(model_from_data(PeerAnswer, answer, f"the answer of {self.peer.name}"))
                progress(self.peer.name, number + 1)


@contextmanager
def _requests(frames: Sequence[PeerFrame], work: Path, max_new_tokens: int) -> Iterator[list[dict[str, Any]]]:
    """Write the photos where workers read them, each once, and yield what each frame asks."""
    with tempfile.TemporaryDirectory(dir=work, prefix="photos-") as folder, output_errors(Path(folder)):
        yield [request_from_frame(frame, Path(folder), max_new_tokens) for frame in frames]


def request_from_frame(frame: PeerFrame, folder: Path, max_new_tokens: int) -> dict[str, Any]:
    """Write a frame's photos to a folder, each once, and return what a worker is asked."""
    paths = [folder / f"{sha256_of_bytes(photo.tobytes())[:16]}.npy" for photo in frame.photos]
    for path, photo in zip(paths, frame.photos, strict=True):
        np.save(path, photo, allow_pickle=False)
    return {
        "op": "ask",
        "prompt": frame.prompt,
        "prompt_ids": list(frame.prompt_ids),
        "photos": [str(path) for path in paths],
        "max_new_tokens": max_new_tokens,
        "end_ids": list(frame.end_ids),
    }
