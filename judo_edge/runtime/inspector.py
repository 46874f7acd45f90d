"""The inspector: one frame in, exactly one verdict out; several frames that wait together, one verdict for each.

Knows the order of the stages and that a fault is a verdict. What a stage does is in `stages`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache

import numpy as np

from judo_edge.bundle import Bundle
from judo_edge.core import EventKind, Frame, Ints, Reply, Verdict
from judo_edge.errors import InputError
from judo_edge.files import sha256_of_bytes
from judo_edge.protocol.questions import Question, detection_question
from judo_edge.runtime.asking import Asker, Manner
from judo_edge.runtime.decider import Decider
from judo_edge.runtime.drafts import Drafter, Evidence, ReplyMemory
from judo_edge.runtime.engines.base import Engine
from judo_edge.runtime.gallery import Gallery
from judo_edge.runtime.inspection import Inspection, Trace
from judo_edge.runtime.model import Model
from judo_edge.runtime.partrecipe import PartRecipe
from judo_edge.runtime.prefixes import PrefixStore
from judo_edge.runtime.prompt import Prompt
from judo_edge.runtime.references import References, ReferenceStore
from judo_edge.runtime.several import Several
from judo_edge.runtime.stages import Emit, Shown, Stages, teller, unheard, verdict_from_fault
from judo_edge.vision.geometry import Preprocessing


class Inspector:
    """Compares frames with good parts by one bundle, one engine and one question."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        references: References,
        question: Question | None = None,
        is_guarded: bool = True,
        accept_failed: Collection[str] = (),
        *,
        is_drafting: bool = True,
        store: ReferenceStore | None = None,
        decider: Decider | None = None,
    ) -> None:
        """Read tokenizer, profile and embedding table; the engine must be entered before the first frame.

        `is_guarded` and `is_drafting` are explained at `Manner`. `accept_failed` names the gates of the bundle's
        verification that may have failed. `store` holds what is set and remembered of each part: its recipe, the
        embeddings of its references, keys and values, earlier replies; without one, defaults and this process's memory.
        `decider` stands in for the one that applies the store's calibrated decisions.

        Raises BundleError when the bundle's parts do not fit together, or when it failed a gate that is not named,
        InputError for a question without an option that means a defect.
        """
        self.question = question or detection_question(yes_first=True)
        if self.question.defect_letter is None or len(self.question.options) < 2:
            found = f"question {self.question.text!r}"
            raise InputError(found, "one option that means a defect", "ask a detection question")
        self.model = Model(bundle, engine, accept_failed)
        arrays = store.arrays() if store else None
        recipe_of = lru_cache(maxsize=256)(store.recipe if store else _plain_recipe)
        self.gallery = Gallery(self.model, references, recipe_of, arrays)
        manner = Manner(is_guarded, is_drafting)
        folder = store.folder if store else None
        self._asker_of = lru_cache(maxsize=16)(
            lambda asked: Asker(self.model, asked, manner, ReplyMemory(folder, _memory_key(bundle, asked)))
        )
        self._asker = self._asker_of(self.question)
        self._shown: Shown | None = None
        self.decider = decider or Decider(store, bundle, engine.name)
        prefixes = PrefixStore(engine, bundle, arrays, self._asker.exact)
        self._stages = Stages(self.model, self.gallery, prefixes, self.decider, recipe_of)
        self._several = Several(self._stages, self._asker, self.look)

    @property
    def grid(self) -> tuple[int, int]:
        """Return the rows and columns of masks."""
        return self.model.grid

    @property
    def prompt(self) -> Prompt:
        """Return the prompt, complete but for the photos."""
        return self._asker.prompt

    @property
    def preprocessing(self) -> Preprocessing:
        """Return how photos become patches."""
        return self.model.preprocessing

    @property
    def drafter(self) -> Drafter | None:
        """Return what guesses tokens ahead; None when it is switched off."""
        return self._asker.drafter

    def inspect(self, frame: Frame) -> Verdict:
        """Return the verdict on a frame; every fault is NOT_DECIDABLE with its reason, never an exception."""
        return self.look(frame).verdict

    def look(self, frame: Frame, emit: Emit = unheard) -> Inspection:
        """Inspect a frame and keep what led to the verdict; `emit` is told what becomes known, the verdict last."""
        trace = Trace()
        try:
            verdict = self._judged(frame, trace, emit)
        except Exception as fault:  # the line must get a verdict whatever went wrong
            verdict = verdict_from_fault(frame, trace, fault)
        teller(frame, trace, emit)(EventKind.VERDICT, verdict)
        return trace.inspection(verdict)

    def look_together(self, frames: Sequence[Frame], emit: Emit = unheard) -> list[Inspection]:
        """Inspect frames that wait at the same time: the same verdicts as one by one, in less time together.

        One call of the vision graph encodes all of them, one pass of the decoder reads all prompts with their drafts. A
        frame's `Timing` holds its share of what is done together. Where the engine reads one prompt at a time, and
        after a fault of what is shared, the frames are inspected one after the other.
        """
        self._shown = None
        most = self.model.engine.max_batch
        groups = [frames[begin : begin + most] for begin in range(0, len(frames), most)]
        return [inspection for group in groups for inspection in self._several.look(group, emit)]

    def _judged(self, frame: Frame, trace: Trace, emit: Emit) -> Verdict:
        asker, self._shown = self._asker, None
        shown = self._shown = self._stages.show(frame, trace)
        reading = self._stages.reading(asker, shown, trace)
        with trace.watch.stage("prefill"):
            trace.cell_scores = asker.read(*reading)
        shown.ids = asker.prompt.ids
        return self._stages.verdict(asker, frame, trace, emit)

    def ask(self, frame: Frame, question: Question, emit: Emit = unheard) -> Reply:
        """Put another question about a frame; of the frame looked at last only the question is read.

        Raises JudoEdgeError when the frame or its reference cannot be read.
        """
        asker, trace = self._asker_of(question), Trace()
        shown, self._shown = self._shown, None
        if shown is None or shown.frame is not frame:
            shown = self._stages.show(frame, trace)
        self._shown = shown
        self._read(asker, shown, Evidence(frame.part))
        trace.passes = self.model.decoder.passes
        return asker.reply(asker.write(teller(frame, trace, emit)))

    def _read(self, asker: Asker, shown: Shown, evidence: Evidence) -> None:
        """Read a question about a frame; of the frame that was read last only the question."""
        known, shown.ids = shown.ids, None
        prompt = asker.prompt.juxtapose(shown.query.rows, shown.chosen.embedding.rows)
        if known is not None and self.model.decoder.has_room(prompt, self.model.profile.max_new_tokens):
            asker.read_on(prompt, _num_shared(asker.prompt.ids, known), evidence)
        else:
            prompt, prefix = self._stages.prompt(asker, shown)
            asker.read(prompt, evidence, prefix)
        shown.ids = asker.prompt.ids


def _num_shared(one: Ints, other: Ints) -> int:
    """Count the tokens that two prompts begin with alike; at least the last of the first stays to be read."""
    length = min(one.size - 1, other.size)
    differ = np.flatnonzero(one[:length] != other[:length])
    return int(differ[0]) if differ.size else length


def _memory_key(bundle: Bundle, question: Question) -> str:
    """Return what earlier replies belong to: the vocabulary of their ids, and the question."""
    vocabulary = bundle.manifest.files[bundle.manifest.tokenizer].sha256
    return sha256_of_bytes("\n".join((vocabulary, question.text, *question.options)).encode())


def _plain_recipe(_: str) -> PartRecipe:
    """Return the recipe of a part of which nothing is set."""
    return PartRecipe()
