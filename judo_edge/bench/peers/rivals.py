"""Rivals that stay loaded and are asked in turn with judo-edge, photo by photo: for `judo-edge bench --peers`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from judo_edge.bench.peers.dressing import hub_folder_from_checkpoint
from judo_edge.bench.peers.frames import PeerAnswer, peer_frame
from judo_edge.bench.peers.ours import ordered_checkpoint
from judo_edge.bench.peers.peer import SCRIPTS, Peer
from judo_edge.bench.peers.probe import package_versions
from judo_edge.bench.peers.registry import peers_from_names
from judo_edge.bench.peers.run import Setting, prepared, request_from_frame
from judo_edge.bench.peers.worker_process import WorkerProcess
from judo_edge.bench.sources import Shot
from judo_edge.bundle import Bundle
from judo_edge.config import model_from_data
from judo_edge.errors import EngineError, JudoEdgeError
from judo_edge.files import output_errors
from judo_edge.protocol.profile import load_profile
from judo_edge.protocol.questions import detection_question
from judo_edge.runtime.model import preprocessing_from_bundle
from judo_edge.runtime.tokenizer import Tokenizer


@dataclass(frozen=True)
class PeerPlan:
    """Which rivals run, on which checkpoint, and where."""

    checkpoint: Path
    """Folder that the bundle was exported from."""
    names: tuple[str, ...]
    pythons: Mapping[str, Path]
    work: Path
    """Conversions are kept here."""
    threads: int = 2
    frame_seconds: float = 600.0


class Questions:
    """What rivals are asked about a shot: the bundle's own prompt and pixels."""

    def __init__(self, bundle: Bundle, photos: Path) -> None:
        """Read the bundle's small files; photos are handed over in a folder."""
        self.profile = load_profile(bundle.path_of(bundle.manifest.profile))
        self._pixels = preprocessing_from_bundle(bundle, self.profile)
        self._tokenizer = Tokenizer.open(bundle.path_of(bundle.manifest.tokenizer))
        self._ends, self._photos = bundle.manifest.model.eos_ids, photos

    def request(self, shot: Shot) -> dict[str, Any]:
        """Return the request; its photos are written before the clock starts."""
        about = (self.profile, self._pixels, self._tokenizer, detection_question(yes_first=True))
        frame = peer_frame(*about, (shot.image, shot.reference.load()), self._ends)
        return request_from_frame(frame, self._photos, self.profile.max_new_tokens)


@dataclass
class PeerRival:
    """One rival, loaded; see `rounds.Rival`."""

    name: str
    process: WorkerProcess
    questions: Questions
    replies: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Generated ids by photo."""

    def look(self, shots: Sequence[Shot]) -> float:
        """Return the rival's own seconds over the photos, from pixels to replies; EngineError names it."""
        return sum(self._answer(shot).seconds for shot in shots)

    def _answer(self, shot: Shot) -> PeerAnswer:
        try:
            raw = self.process.call(self.questions.request(shot))
        except EngineError as error:
            raise EngineError(f"{self.name}: {error.found}", error.wanted, "leave it out of --peers") from error
        answer = model_from_data(PeerAnswer, raw, f"the answer of {self.name}")
        self.replies[shot.name] = answer.ids
        return answer


@contextmanager
def open_rivals(plan: PeerPlan, bundle: Bundle) -> Iterator[list[PeerRival]]:
    """Convert the checkpoint for each rival, load all of them, and end them afterwards.

    Raises InputError for an unknown name, and what stops a rival from being loaded, with its name.
    """
    plan.work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack, output_errors(plan.work):
        photos = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=plan.work, prefix="photos-")))
        questions = Questions(bundle, photos)
        profile = questions.profile
        checkpoint = ordered_checkpoint(plan.checkpoint, profile.image_order, plan.work, profile.max_new_tokens)
        hub = hub_folder_from_checkpoint(checkpoint, plan.work)
        yield [_loaded(peer, plan, hub, questions, stack) for peer in peers_from_names(plan.names)]


def _loaded(peer: Peer, plan: PeerPlan, hub: Path, questions: Questions, stack: ExitStack) -> PeerRival:
    setting = Setting(plan.pythons, plan.threads, plan.frame_seconds)
    python = setting.python(peer.python)
    try:
        package_versions(python, peer.packages, peer.install)
        model = prepared(peer, setting, hub)
        command = [str(python), str(SCRIPTS / "worker.py"), str(SCRIPTS / peer.backend)]
        log = hub.parent / f"{peer.name}.log"
        process = stack.enter_context(WorkerProcess(command, log, plan.threads, plan.frame_seconds))
        process.call({"op": "load", "model": str(model), "options": peer.options, "threads": plan.threads})
    except JudoEdgeError as error:
        raise EngineError(f"{peer.name}: {error.found}", error.wanted, error.action or "leave it out") from error
    return PeerRival(peer.name, process, questions)
