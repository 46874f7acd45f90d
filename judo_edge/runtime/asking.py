"""One question put to the model: its prompt, its marks in the logits, its drafts, and the reply.

Knows how a pass over the prompt and the writing of the reply fit together. What the reply means for the part is in
`decision`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from judo_edge.core import CellMask, Floats, Reply
from judo_edge.protocol.questions import Question
from judo_edge.protocol.reply import ReplyStream, reply_from_text
from judo_edge.runtime.cells import cell_scores_from_probe
from judo_edge.runtime.decoder import FirstPass, PromptInputs
from judo_edge.runtime.drafts import Attempt, Drafter, Evidence, ReplyMemory, drafter_from_tokenizer
from judo_edge.runtime.engines.base import KeysValues
from judo_edge.runtime.generation import Ending, Generation, Limits, Reasoning, Tell, Writer
from judo_edge.runtime.margins import MarginReader, landmarks_from_tokenizer
from judo_edge.runtime.model import Model
from judo_edge.runtime.prefix import prefix_from_bundle
from judo_edge.runtime.together import Ask, read_together


@dataclass(frozen=True)
class Manner:
    """How replies are written."""

    is_guarded: bool = True
    """Whether the grammar mends a slip inside a mask and ends a useless one; if not, replies are plain greedy."""
    is_drafting: bool = True
    """Whether tokens are guessed ahead, which changes no reply."""


class Reading(NamedTuple):
    """A prompt that is to be read together with others."""

    prompt: PromptInputs
    evidence: Evidence
    prefix: KeysValues | None = None


class Read(NamedTuple):
    """A prompt that was read together with others; its reply waits to be written."""

    first: FirstPass
    evidence: Evidence
    attempt: Attempt | None
    """The draft that was read with it; None without a drafter."""


class Asker:
    """Asks one question about one pair of photos after the other."""

    def __init__(self, model: Model, question: Question, manner: Manner, memory: ReplyMemory) -> None:
        """Make the prompt and find the marks; `memory` keeps earlier replies to guess from.

        Raises BundleError when the vocabulary does not separate the choices of a reply.
        """
        self.model, self.question = model, question
        self.prompt = model.prompt(question)
        self.drafter: Drafter | None = None
        """Guesses tokens ahead; None when it is switched off."""
        if manner.is_drafting:
            letters = question.letters
            self.drafter = drafter_from_tokenizer(model.tokenizer, model.end_tokens, letters, model.grid, memory)
        self.exact = prefix_from_bundle(model.bundle, self.prompt.ids)
        """The bundle's own keys and values of the prompt's first tokens; None when it has none."""
        self._cap = model.profile.max_new_tokens
        limits = Limits(model.end_tokens, self._cap, manner.is_guarded)
        self._writer = Writer(model.decoder, model.tokenizer, limits, self.drafter)
        self._landmarks = landmarks_from_tokenizer(model.tokenizer, question.letters, *model.grid)

    def read(self, prompt: PromptInputs, evidence: Evidence, prefix: KeysValues | None = None) -> Floats | None:
        """Read the prompt and a first draft in one pass; return the cell probe's (rows, cols), None without one.

        `prefix` are the keys and values of the prompt's first positions, which are then not read again.
        """
        draft = self._drafted(evidence)
        decoded = self.model.decoder.prefill(prompt, self._cap, draft, prefix)
        return self._probed(None if decoded.cells is None else decoded.cells[0], len(draft), evidence)

    def read_on(self, prompt: PromptInputs, kept: int, evidence: Evidence) -> None:
        """Read the prompt behind its first `kept` positions, which another question about the same photos has left."""
        draft = self._drafted(evidence)
        self.model.decoder.reread(prompt, kept, draft)

    def read_together(self, readings: Sequence[Reading]) -> list[Read]:
        """Read several prompts in one pass, each with a first draft; each reply is then taken up and written."""
        asks, attempts = [], []
        for prompt, evidence, prefix in readings:
            asks.append(Ask(prompt, self._drafted(evidence), prefix))
            attempts.append(self.drafter.attempt if self.drafter else None)
        firsts = read_together(self.model.engine, self.model.embed, asks, self._cap)
        return [Read(first, one.evidence, its) for first, one, its in zip(firsts, readings, attempts, strict=True)]

    def take_up(self, read: Read) -> Floats | None:
        """Make ready to write the reply to one of several prompts; return its cell probe as `read` does."""
        self.model.decoder.take_up(read.first)
        if self.drafter and read.attempt:
            self.drafter.resume(read.attempt)
        return self._probed(read.first.cells, len(read.first.draft), read.evidence)

    def _probed(self, cells: Floats | None, num_drafted: int, evidence: Evidence) -> Floats | None:
        """Return the probe's (rows, cols) from its values (S, K) of the positions read, and mark what stands out."""
        if cells is None:
            return None
        # Counted from the prompt's end: a known prefix is not in the probe, and drafted tokens are.
        tokens = cells[self.prompt.second_photo() - len(self.prompt) - num_drafted]
        scores = cell_scores_from_probe(tokens, *self.model.grid)
        evidence.marked = CellMask.from_array(scores > 0)
        return scores

    def _drafted(self, evidence: Evidence) -> tuple[int, ...]:
        if self.drafter is None:
            return ()
        self.drafter.begin(evidence)
        return self.drafter.next_draft(self._cap - 1)

    def write(self, tell: Tell, reasoning: Reasoning = Reasoning.ALWAYS) -> Generation:
        """Write the reply to the prompt that was read; `tell` is told what becomes known."""
        margins = MarginReader(self._landmarks, self.question)
        stream = ReplyStream(*self.model.grid, self.question.letters)
        generation = self._writer.write(margins, stream, tell, reasoning)
        if self.drafter:
            self.drafter.finish(self.model.decoder.passes)
        return generation

    def reply(self, generation: Generation) -> Reply:
        """Read a reply; what was not asked for is not missing."""
        reply = reply_from_text(generation.text, *self.model.grid, self.question.letters)
        if generation.ending is Ending.UNASKED:
            reply = replace(reply, problems=tuple(text for text in reply.problems if not text.endswith("is missing")))
        return reply
