"""The training loop of JUDO-nano: batches, losses, optimisers, checkpoints.

Four losses are added: the reply's tokens; the dense cell loss on the second image's tokens (the later cell probe); the
place loss (each visual token names its own row and column), which gives the reply's digits something to read; and the
row loss (each token of the mask text knows the cells of its row and the next), which teaches where to look them up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from judo_edge.adapt.architecture import GRID, IMAGE_SIZE, MERGED
from judo_edge.adapt.dataset import DrawnSet
from judo_edge.adapt.forward import (
    embeddings_from_patches,
    hidden_states,
    patches_from_photos,
    rotary_tables,
    vision_plan,
)
from judo_edge.adapt.samples import nano_profile, sample_from_truth, split_prompt
from judo_edge.adapt.tokenizer import special_ids
from judo_edge.core import CellMask
from judo_edge.protocol.questions import detection_question
from judo_edge.vision.mrope import positions_from_ids

TAP = 3
"""Decoder layers before the cell probe reads the residual stream."""
ROW_TAP = 5
"""Decoder layers before the row head reads it."""
TOKENS = MERGED * MERGED


@dataclass(frozen=True)
class Batch:
    """Token ids (B, S) with both images' placeholders, targets (B, S) with -100 where none, and the truth."""

    ids: Tensor
    targets: Tensor | None
    """None in the seeing stage, which has no text after the images."""
    rows: Tensor | None
    """(B, S) grid row that the mask text is in at each token, 0 outside; None where there is no text."""
    cells: Tensor
    """(B, GRID, GRID) float."""
    photos: Tensor | None
    """(B, 2, side, side, 3) uint8, None in the reading stage."""


class Heads(nn.Module):
    """What training adds beside the model: cell probe, place and row heads, and the reading stage's crude vision."""

    def __init__(self, width: int) -> None:
        """Create the heads for hidden size `width`."""
        super().__init__()
        self.cells = nn.Linear(width, 4)
        self.place = nn.Linear(width, 2 * MERGED)
        self.rows = nn.Linear(width, 2 * GRID)
        self.crude = nn.Linear(4, width)


def tokens_from_cells(cells: Tensor) -> Tensor:
    """Regroup (B, GRID, GRID) cells to (B, TOKENS, 4): the 2x2 cells that one visual token covers."""
    grid = cells.view(-1, MERGED, 2, MERGED, 2).permute(0, 1, 3, 2, 4)
    return grid.reshape(-1, TOKENS, 4)


def turned(rng: np.random.Generator, photos: npt.NDArray[np.uint8] | None, cells: npt.NDArray[np.bool_]) -> Any:
    """Turn and mirror photos and cells alike, one of eight ways, and permute the colours."""
    turns, mirror = int(rng.integers(0, 4)), bool(rng.integers(0, 2))
    cells = np.rot90(cells[:, ::-1] if mirror else cells, turns)
    if photos is None:
        return None, cells
    photos = np.rot90(photos[:, :, ::-1] if mirror else photos, turns, axes=(1, 2))
    return photos[..., rng.permutation(3)], cells


class Batches:
    """Draws batches without end: samples a pool, sorts it by length, yields its batches in random order."""

    def __init__(
        self, drawn: DrawnSet, tokenizer: Tokenizer, size: int, seed: int, goal: str = "pairs", skip_good: float = 0.0
    ) -> None:
        """Prepare the prompt head; `goal` is reading (mask text, no photos), seeing (photos, no text) or pairs."""
        self.drawn, self.tokenizer, self.size, self.goal = drawn, tokenizer, size, goal
        self.skip_good = skip_good
        self.rng = np.random.default_rng(seed)
        self.opening = {tokenizer.token_to_id(text) for text in ("Ġ(", ")-(")}
        self.closing = {tokenizer.token_to_id("Ġ</")}
        self.numbers = {tokenizer.token_to_id(str(number)): number for number in range(1, GRID + 1)}
        self.pad = special_ids(tokenizer)["<|endoftext|>"]
        self.profile = nano_profile()
        self.head = tokenizer.encode(split_prompt(self.profile, detection_question(), TOKENS)[0]).ids

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches for ever."""
        while True:
            pool = [self._item() for _ in range(self.size * 8)]
            pool.sort(key=lambda item: len(item[0]))
            groups = [pool[i : i + self.size] for i in range(0, len(pool), self.size)]
            for index in self.rng.permutation(len(groups)):
                yield self._batch(groups[int(index)])

    def _item(self) -> tuple[list[int], int, npt.NDArray[np.bool_], Any]:
        index = int(self.rng.integers(0, len(self.drawn)))
        reading = self.goal == "reading"
        while self.drawn.defects[index] < 0 and self.rng.random() < self.skip_good:
            index = int(self.rng.integers(0, len(self.drawn)))
        photos = None if reading else self.drawn.photos[index]
        photos, cells = turned(self.rng, photos, self.drawn.cells[index])
        if self.goal == "seeing":
            return self.head, 0, cells, photos
        sample = sample_from_truth(self.rng, CellMask.from_array(cells), self.drawn.defect(index))
        reply = sample.reply.split("\n")[0] if reading else sample.reply
        tail = self.tokenizer.encode(split_prompt(self.profile, sample.question, TOKENS)[1]).ids
        target = self.tokenizer.encode(reply + "<|im_end|>").ids
        return self.head + tail + target, len(target), cells, photos

    def _batch(self, items: list[Any]) -> Batch:
        longest = max(len(item[0]) for item in items)
        ids = torch.full((len(items), longest), self.pad)
        targets = torch.full((len(items), longest), -100)
        rows = torch.zeros((len(items), longest), dtype=torch.long)
        for row, (tokens, num_targets, _, _) in enumerate(items):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            if num_targets:
                targets[row, len(tokens) - num_targets - 1 : len(tokens) - 1] = torch.tensor(tokens[-num_targets:])
                rows[row, len(tokens) - num_targets : len(tokens)] = torch.tensor(self.rows_of(tokens[-num_targets:]))
        cells = torch.from_numpy(np.stack([item[2] for item in items]).astype(np.float32))
        photos = None if self.goal == "reading" else torch.from_numpy(np.stack([item[3] for item in items]))
        if self.goal == "seeing":
            return Batch(ids, None, None, cells, photos)
        return Batch(ids, targets, rows, cells, photos)

    def rows_of(self, reply: list[int]) -> list[int]:
        """Return the grid row that is being written at each token of a reply, 0 outside the mask."""
        rows, row, opened = [], 0, False
        for token in reply:
            if opened and token in self.numbers:
                row = self.numbers[token]
            elif token in self.closing:
                row = 0
            opened = token in self.opening
            rows.append(row)
        return rows


class Learner:
    """Model, heads and the loss of one batch."""

    def __init__(self, model: Any, heads: Heads, head_length: int) -> None:
        """Hold the parts; `head_length` is the number of tokens up to the end of the second image."""
        self.model, self.heads = model, heads
        self.second = head_length - 1 - TOKENS
        self.first = self.second - 2 - TOKENS
        self.plan = vision_plan(model.config.vision_config, IMAGE_SIZE)
        self.decode, self.encode, self.dtype = hidden_states, embeddings_from_patches, torch.float32

    def compiled(self) -> Learner:
        """Fuse the element-wise work with torch.compile (needs a C++ compiler); the results stay the same."""
        self.decode = torch.compile(hidden_states, dynamic=True, fullgraph=True)
        self.encode = torch.compile(embeddings_from_patches, dynamic=False, fullgraph=True)
        return self

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the scalar losses of a batch: cell, place, and with a text reply (and its share right) and row."""
        language = self.model.model.language_model
        tables = rotary_tables(language.config, self.positions(batch.ids))
        tapped = self.decode(language.layers[:TAP], self._embeds(batch), tables)
        visual = self._visual(tapped)
        cells = self.heads.cells(visual[:, 1]).float()
        found = {
            "cell": F.binary_cross_entropy_with_logits(cells, tokens_from_cells(batch.cells)),
            "place": self._place_loss(visual),
        }
        if batch.targets is not None and batch.rows is not None:
            read = self.decode(language.layers[TAP:ROW_TAP], tapped, tables)
            hidden = language.norm(self.decode(language.layers[ROW_TAP:], read, tables))
            found |= self._reply_losses(hidden, batch.targets)
            found["row"] = self._row_loss(read, batch.rows, batch.cells)
        return found

    def positions(self, ids: Tensor) -> Tensor:
        """Return the M-RoPE positions (3, S) that all prompts of a batch share: their images stand in one place."""
        found, _ = positions_from_ids(ids[0].numpy(), self.model.config.image_token_id, MERGED, MERGED)
        return torch.from_numpy(found)

    def _reply_losses(self, hidden: Tensor, targets: Tensor) -> dict[str, Tensor]:
        wanted = targets >= 0
        logits, targets = self.model.lm_head(hidden[wanted]).float(), targets[wanted]
        right = (logits.argmax(-1) == targets).float().mean()
        return {"reply": F.cross_entropy(logits, targets), "right": right}

    def _row_loss(self, stream: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
        inside = rows > 0
        if not inside.any():
            return torch.zeros(())
        item, row = inside.nonzero()[:, 0], rows[inside]
        cells = F.pad(cells, (0, 0, 0, 1))
        truth = torch.cat([cells[item, row - 1], cells[item, row]], dim=1)
        logits = self.heads.rows(F.rms_norm(stream[inside], stream.shape[-1:])).float()
        return F.binary_cross_entropy_with_logits(logits, truth)

    def _visual(self, stream: Tensor) -> Tensor:
        """Return the normalised residual stream of both images' tokens, (B, 2, TOKENS, D)."""
        both = torch.stack([stream[:, at : at + TOKENS] for at in (self.first, self.second)], dim=1)
        return F.rms_norm(both, both.shape[-1:])

    def _place_loss(self, visual: Tensor) -> Tensor:
        logits = self.heads.place(visual).float().view(-1, TOKENS, 2, MERGED)
        rows = torch.arange(TOKENS) // MERGED
        truth = torch.stack([rows, torch.arange(TOKENS) % MERGED], dim=1).expand(logits.shape[0], -1, -1)
        return F.cross_entropy(logits.reshape(-1, MERGED), truth.reshape(-1))

    def _embeds(self, batch: Batch) -> Tensor:
        table = self.model.model.language_model.embed_tokens
        embeds = table(batch.ids)
        visual = self._crude(batch) if batch.photos is None else self._seen(batch.photos)
        first, second = self.first, self.second
        parts = [embeds[:, :first], visual[:, 0], embeds[:, first + TOKENS : second], visual[:, 1]]
        return torch.cat([*parts, embeds[:, second + TOKENS :]], dim=1).to(self.dtype)

    def _seen(self, photos: Tensor) -> Tensor:
        patches = patches_from_photos(photos.flatten(0, 1))
        rows = self.encode(self.model.model.visual, self.plan, patches)
        return rows.view(photos.shape[0], 2, TOKENS, -1)

    def _crude(self, batch: Batch) -> Tensor:
        """Invent visual tokens for the reading stage: random content in both images, marked cells in the query."""
        content = torch.randn(batch.cells.shape[0], TOKENS, self.heads.crude.out_features) * 0.5
        marked = content + self.heads.crude(tokens_from_cells(batch.cells))
        return torch.stack([marked, content + 0.1 * torch.randn_like(content)], dim=1)


_BY_ADAM = ("embed_tokens", "lm_head", "heads.", "lora_")


def optimizers(model: nn.Module, heads: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices; AdamW for embeddings, heads, norms, biases and adapters."""
    named = [(n, p) for n, p in [*model.named_parameters(), *heads.named_parameters("heads")] if p.requires_grad]
    matrix = [p for n, p in named if p.ndim == 2 and not any(k in n for k in _BY_ADAM)]
    chosen = {id(p) for p in matrix}
    rest = [p for _, p in named if id(p) not in chosen]
    adam = torch.optim.AdamW(rest, lr=lr * 0.75, betas=(0.9, 0.98), weight_decay=0.0)
    if not matrix:
        return [adam]
    return [torch.optim.Muon(matrix, lr=lr, weight_decay=0.02, momentum=0.95, adjust_lr_fn="match_rms_adamw"), adam]
