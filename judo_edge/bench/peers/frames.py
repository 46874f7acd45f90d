"""What a rival is asked and what it answers, as values; and how far two replies agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from judo_edge.config import Frozen
from judo_edge.core import Image
from judo_edge.protocol.profile import PromptProfile, prompt_text
from judo_edge.protocol.questions import Question
from judo_edge.runtime.tokenizer import Tokenizer
from judo_edge.vision.geometry import Preprocessing
from judo_edge.vision.patches import resized_image


@dataclass(frozen=True)
class PeerFrame:
    """One request, the same for every rival."""

    prompt: str
    """Qwen2.5-VL's chat text with one placeholder for each visual token."""
    prompt_ids: tuple[int, ...]
    """The same as judo-edge tokenizes it."""
    photos: tuple[Image, Image]
    """In the order of the prompt, resized as judo-edge does."""
    end_ids: tuple[int, ...]
    """Ids that end the reply."""


class PeerAnswer(Frozen):
    """One reply of a rival."""

    ids: tuple[int, ...]
    """All generated ids, the end token included."""
    text: str = ""
    """As the rival decodes it; empty when it only gives ids."""
    seconds: float
    """From the photos in memory, resized, to the finished reply."""
    first_seconds: float
    """Until the first token was known, as the rival itself tells."""
    vision_seconds: float | None = None
    """In the vision part, where the rival tells."""
    reused: str = ""
    """What was reused from earlier frames, in words."""
    peak_bytes: int = 0
    """Peak resident memory of the rival's process so far."""


@dataclass(frozen=True)
class PeerResult:
    """What one rival did."""

    name: str
    problem: str = ""
    """Why it did not finish, in words; empty when it did."""
    versions: dict[str, str] = field(default_factory=dict)
    prepare_seconds: float = 0.0
    """Conversion of the checkpoint; next to nothing when it was converted before."""
    load_seconds: float = 0.0
    answers: tuple[PeerAnswer, ...] = ()
    """In the order of the frames, as far as it came. The first is cold: leave it out of a time per part."""

    @property
    def warm_seconds(self) -> float | None:
        """Return the median seconds of all frames but the first; None when there is none."""
        return median(answer.seconds for answer in self.answers[1:]) if len(self.answers) > 1 else None


@dataclass(frozen=True)
class Agreement:
    """How far replies agree with others, frame by frame."""

    num_frames: int
    num_equal: int
    """Replies that are equal to the last token."""
    common: tuple[int, ...]
    """Tokens that each pair of replies has in common from the start."""


def peer_frame(
    profile: PromptProfile,
    preprocessing: Preprocessing,
    tokenizer: Tokenizer,
    question: Question,
    photos: tuple[Image, Image],
    end_ids: Sequence[int],
) -> PeerFrame:
    """Return the request for a query and its normal reference, photos of any size in this order."""
    text = prompt_text(profile, question, preprocessing.num_tokens)
    first, second = profile.in_image_order(*(resized_image(photo, preprocessing) for photo in photos))
    ids = tuple(int(token) for token in tokenizer.ids_from_text(text))
    return PeerFrame(text, ids, (first, second), tuple(end_ids))


def agreement(replies: Sequence[Sequence[int]], others: Sequence[Sequence[int]]) -> Agreement:
    """Compare replies in pairs, as far as both sides have come."""
    pairs = list(zip(replies, others, strict=False))
    common = tuple(_common_length(reply, other) for reply, other in pairs)
    equal = sum(tuple(reply) == tuple(other) for reply, other in pairs)
    return Agreement(len(pairs), equal, common)


def _common_length(reply: Sequence[int], other: Sequence[int]) -> int:
    differs = (place for place, (one, two) in enumerate(zip(reply, other, strict=False)) if one != two)
    return next(differs, min(len(reply), len(other)))
