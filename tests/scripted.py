"""A bundle without a model, and an engine that writes given replies: everything around the model can be tested with it.

The tokenizer is a real byte-level BPE in JUDO's manner; the graphs are empty files. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image as PillowImage
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from judo_edge.bundle import (
    Bundle,
    BundleWriter,
    EmbeddingEntry,
    GraphEntry,
    Manifest,
    ModelFacts,
    Preprocessing,
    Source,
    open_bundle,
)
from judo_edge.core import CellMask, Floats, Image, Ints
from judo_edge.errors import EngineError
from judo_edge.protocol.profile import PromptProfile, save_profile
from judo_edge.protocol.reply import text_from_parts
from judo_edge.runtime.engines.base import Decoded, Encoded

SPECIALS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
HIDDEN, LAYERS, KV_HEADS, HEAD_DIM = 8, 2, 1, 4
IMAGE_SIZE, SIDE = 56, 2
GRID = 16
_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"

GOOD = text_from_parts(CellMask(GRID, GRID), "The query matches the normal reference.", "B")
BAD = text_from_parts(CellMask.of(GRID, GRID, [(2, 3), (2, 4), (3, 4)]), "The query shows a scratch.", "A")


@lru_cache(maxsize=1)
def tokenizer() -> Tokenizer:
    """Return a small BPE trained on replies; numbers up to 16 and ` None` are single tokens as in JUDO-nano."""
    numbers = " ".join(f"({r},{c})-({r},{c}) ," for r in range(1, 17) for c in range(1, 17))
    letters = [text_from_parts(CellMask(GRID, GRID), "The query", letter) for letter in "ABCD"]
    raw = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated")
    raw.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator([numbers, GOOD, BAD, *letters * 4], trainer)
    raw.add_special_tokens(list(SPECIALS))
    return raw


def ids_of(text: str) -> list[int]:
    """Return the ids of a text with the end token after it."""
    return [*tokenizer().encode(text, add_special_tokens=False).ids, tokenizer().token_to_id("<|im_end|>")]


def scripted_bundle(folder: Path, image_order: str = "query-first", max_new_tokens: int = 120) -> Bundle:
    """Write and open a bundle whose graphs are empty files."""
    vocab = tokenizer().get_vocab_size()
    profile = PromptProfile(
        name="scripted", image_order=image_order, resize=IMAGE_SIZE, image_size=IMAGE_SIZE,
        system="Inspect.", max_new_tokens=max_new_tokens,
    )  # fmt: skip
    with BundleWriter(folder) as writer:
        for name in ("vision.onnx", "vision.data", "decoder.onnx", "decoder.data"):
            writer.path(name).write_text(name)
        tokenizer().save(str(writer.path("tokenizer.json")))
        save_profile(profile, writer.path("profile.toml"))
        table = np.random.default_rng(0).standard_normal((vocab, HIDDEN)).astype(np.float16)
        writer.path("embedding.bin").write_bytes(table.tobytes())
        writer.commit(scripted_manifest(vocab))
    return open_bundle(folder)


def scripted_manifest(vocab: int) -> Manifest:
    """Return the manifest of a bundle whose two graphs are named but empty."""
    graphs = {
        name: GraphEntry(file=f"{name}.onnx", data=f"{name}.data", opset=20, inputs={}, outputs={})
        for name in ("vision", "decoder")
    }
    pad, start, end, eos = (
        tokenizer().token_to_id(token)
        for token in ("<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_end|>")
    )
    facts = ModelFacts(
        architecture="scripted", hidden_size=HIDDEN, num_layers=LAYERS, num_heads=2, num_kv_heads=KV_HEADS,
        head_dim=HEAD_DIM, intermediate_size=8, vocab_size=vocab, rope_theta=10.0, mrope_section=(1, 1, 0),
        image_pad_id=pad, vision_start_id=start, vision_end_id=end, eos_ids=(eos,), vision_depth=1,
        vision_hidden_size=8, vision_window_size=112, patch_size=14, temporal_patch_size=2, spatial_merge_size=2,
    )  # fmt: skip
    return Manifest(
        name="scripted", created="2026-01-01T00:00:00Z", tools={}, model=facts, recipe={"name": "none"},
        source=Source(checkpoint="ck", digest="0" * 64), graphs=graphs,
        embedding=EmbeddingEntry(file="embedding.bin", dtype="float16", shape=(vocab, HIDDEN)),
        preprocessing=Preprocessing(image_size=IMAGE_SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        decisions={},
    )  # fmt: skip


class ScriptedEngine:
    """Writes `script(reddest)` as its reply, where `reddest` is the mean red of the query photo, 0 to 255.

    The wanted token has logit 8 and `None`'s rival at the first mask token 8 - 3 = 5, so margins are known.
    """

    name = "scripted"
    digest = "0" * 64
    max_batch = 1

    def __init__(self, script: Callable[[float], str], broken: str = "") -> None:
        """`broken` names the method that fails."""
        self.script, self.broken = script, broken
        self.probe: Floats | None = None
        """What a cell probe says of a prompt's tokens, (1, S, K)."""
        self.num_encoded = 0
        self.reds: list[float] = []
        """Mean red of the first photo in each text that was begun."""
        self.length = 0
        self._ids: list[int] = []
        self._step = self._prompt = 0
        self._is_reread = False

    def __enter__(self) -> ScriptedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def encode(self, patches: Floats) -> Encoded:
        """Return rows that hold the mean red of the photo."""
        if self.broken == "encode":
            raise EngineError("the vision graph failed", action="look at it")
        self.num_encoded += len(patches)
        reds = patches.reshape(len(patches), -1, 3, 392)[:, :, 0].mean(axis=(1, 2))
        return Encoded(np.tile(reds[:, None, None], (1, SIDE * SIDE, HIDDEN)).astype(np.float32))

    def start(self, capacity: int, prefix: Floats | None = None, batch: int = 1) -> None:
        self.length, self._prompt = 0 if prefix is None else prefix.shape[0], 0

    def keys_values(self, begin: int, end: int) -> Floats:
        return np.zeros((end - begin, LAYERS, 2, 1, KV_HEADS, HEAD_DIM), np.float32)

    def rewind(self, length: int) -> None:
        self._is_reread = length < self._prompt  # another question about the photos that were read
        self.length, self._step = length, max(0, length - self._prompt + 1)

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        """Return the logits of the next scripted tokens, whatever was read; after the script its last one again."""
        num_new = inputs_embeds.shape[1]
        self.length += num_new
        if self.broken == "decode":
            raise ZeroDivisionError("a bug")
        if is_prompt := not self._prompt:
            self._begin(inputs_embeds)
        if is_prompt or self._is_reread:
            self._prompt, self._is_reread = self.length - len(rows) + 1, False  # a draft is no part of the prompt
        logits = np.zeros((1, len(rows), tokenizer().get_vocab_size()), dtype=np.float32)
        for row in range(len(rows)):
            logits[0, row, self._ids[min(self._step + row, len(self._ids) - 1)]] = 8.0
            for rival in (" None", " ("):
                token = tokenizer().encode(rival).ids[0]
                logits[0, row, token] = max(logits[0, row, token], 5.0)
        self._step += len(rows)
        return Decoded(logits, self._probed(num_drafted=len(rows) - 1) if is_prompt else None)

    def _probed(self, num_drafted: int) -> Floats | None:
        """Return the probe of the prompt, and zeros for the tokens drafted behind it."""
        return None if self.probe is None else np.pad(self.probe, ((0, 0), (0, num_drafted), (0, 0)))

    def _begin(self, inputs_embeds: Floats) -> None:
        """Find the query's rows: the first ones whose values are all equal."""
        constant = np.flatnonzero(np.ptp(inputs_embeds[0], axis=1) == 0)
        if not constant.size:  # the text before the photos, read for its keys and values alone
            self._ids, self._step = [0], 0
            return
        red = (float(inputs_embeds[0, constant[0], 0]) * 0.5 + 0.5) * 255
        self.reds.append(red)
        self._ids, self._step = ids_of(self.script(red)), 0


class ScriptedBatch(ScriptedEngine):
    """The same for several prompts in one pass, each written by a `ScriptedEngine` of its own.

    Keys and values of a batch hold each prompt's red and length, so that it can go on alone. A red that `is_broken`
    names gives logits that are no numbers.
    """

    max_batch = 4

    def __init__(
        self, script: Callable[[float], str], broken: str = "", is_broken: Callable[[float], bool] = lambda red: False
    ) -> None:
        super().__init__(script, broken)
        self.is_broken = is_broken
        self.batches: list[int] = []
        """Prompts of each pass."""
        self.encodes: list[int] = []
        """Photos of each call."""
        self._items: list[ScriptedEngine] = []

    def encode(self, patches: Floats) -> Encoded:
        if self.broken == "batch encode" and len(patches) > 1:
            raise EngineError("the vision graph takes no batch")
        self.encodes.append(len(patches))
        return super().encode(patches)

    def start(self, capacity: int, prefix: Floats | None = None, batch: int = 1) -> None:
        super().start(capacity, prefix)
        self._items = [ScriptedEngine(self.script) for _ in range(batch if batch > 1 else 0)]
        for item in self._items:
            item.start(capacity, prefix)
        if prefix is not None and prefix[0, 0, 0, 0, 0, 1]:
            red, prompt = prefix[0, 0, 0, 0, 0, :2].tolist()
            self._ids, self._prompt = ids_of(self.script(red)), int(prompt)
            self._step = len(prefix) - self._prompt + 1

    def keys_values(self, begin: int, end: int) -> Floats:
        if not self._items:
            return super().keys_values(begin, end)
        found = np.zeros((end - begin, LAYERS, 2, len(self._items), KV_HEADS, HEAD_DIM), np.float32)
        for number, item in enumerate(self._items):
            found[..., number, :, 0], found[..., number, :, 1] = item.reds[0], item._prompt
        return found

    def advance(self, inputs_embeds: Floats, positions: Ints, rows: Ints) -> Decoded:
        self.batches.append(len(inputs_embeds))
        if not self._items:
            return super().advance(inputs_embeds, positions, rows)
        if self.broken == "batch decode":
            raise EngineError("the decoder takes no batch")
        found = []
        for number, item in enumerate(self._items):
            item.probe = self.probe
            found.append(item.advance(inputs_embeds[number : number + 1], positions[:, number : number + 1], rows))
            if self.is_broken(item.reds[0]):
                found[-1].logits[:] = np.nan
        self.length += inputs_embeds.shape[1]
        cells = [one.cells for one in found if one.cells is not None]
        return Decoded(np.concatenate([one.logits for one in found]), np.concatenate(cells) if cells else None)


def red_means_bad(red: float) -> str:
    """Return the reply of a model that calls red photos defective."""
    return BAD if red > 128 else GOOD


def photo(red: int, seed: int = 0, size: tuple[int, int] = (60, 80)) -> Image:
    """Return a (height, width) photo with a given red and a little noise in the other channels."""
    image = np.random.default_rng(seed).integers(0, 60, (*size, 3), dtype=np.uint8)
    image[..., 0] = red
    return image


def save_photo(path: Path, red: int, seed: int = 0, size: tuple[int, int] = (60, 80)) -> Path:
    """Write a photo as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PillowImage.fromarray(photo(red, seed, size)).save(path)
    return path


def engine_from_bundle(bundle: Bundle, threads: int) -> ScriptedEngine:
    """Stand in for an engine of the registry."""
    return ScriptedEngine(red_means_bad)
