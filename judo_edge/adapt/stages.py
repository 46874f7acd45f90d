"""The stages that make JUDO-nano, each resumable from the last state on disk.

1. reading: the decoder alone learns to turn marked cells into text (no pictures, cheap).
2. seeing: the vision tower and the lower decoder layers learn to compare (dense cell loss, no text).
3. pairs: the whole model learns from drawn pairs of the base kinds.
4. writing: the same with the row loss and fewer good pairs; the rate falls to nothing.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import nn

from judo_edge.adapt.dataset import DrawnSet
from judo_edge.adapt.train import Batches, Heads, Learner, optimizers


@dataclass(frozen=True)
class Stage:
    """Settings of one training stage."""

    name: str
    steps: int
    """Steps that are run."""
    lr: float
    batch: int = 32
    goal: str = "pairs"
    """reading, seeing or pairs: see the top of this file."""
    cell_weight: float = 1.0
    place_weight: float = 0.2
    row_weight: float = 1.0
    skip_good: float = 0.0
    """Share of drawn good pairs that are passed over: they teach little text, and with half of the drawn ones the
    model missed defects and called none falsely."""
    warmup: int = 30
    schedule: int = 0
    """Steps over which the rate is laid out; more than `steps` when a stage hands over before its rate has fallen."""
    decay: float = 0.4
    """Share of the steps over which the rate falls linearly to 2 %."""
    seed: int = 0
    save_every: int = 100

    def rate(self, step: int) -> float:
        """Return the learning rate at `step`."""
        total = self.schedule or self.steps
        left = (total - step) / (self.decay * total) if self.decay else 1.0
        return self.lr * max(0.02, min(1.0, (step + 1) / self.warmup, left))

    def total(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the weighted sum of the losses that a batch has."""
        weights = {"reply": 1.0, "row": self.row_weight, "cell": self.cell_weight, "place": self.place_weight}
        return torch.stack([weight * losses[name] for name, weight in weights.items() if name in losses]).sum()

    def shrunk(self, share: float) -> Stage:
        """Return the stage with a share of its steps."""
        steps = max(1, round(self.steps * share))
        return replace(self, steps=steps, schedule=max(steps, round(self.schedule * share)))


def run_stage(
    stage: Stage,
    model: nn.Module,
    heads: Heads,
    drawn: DrawnSet,
    tokenizer: Tokenizer,
    folder: Path,
    compiled: bool = True,
) -> None:
    """Train `model` and `heads` in place; state and log go to `folder`, from where an interrupted stage resumes."""
    batches = Batches(drawn, tokenizer, stage.batch, stage.seed, stage.goal, stage.skip_good)
    learner = Learner(model, heads, len(batches.head))
    learner.dtype = torch.bfloat16
    if compiled:
        learner.compiled()
    optims = optimizers(model, heads, stage.lr)
    start = _resumed(folder / f"{stage.name}.pt", model, heads, optims)
    batches.rng = np.random.default_rng(stage.seed + start)
    stream, began = iter(batches), time.monotonic()
    for step in range(start, stage.steps):
        _set_rate(optims, stage.rate(step) / stage.lr)
        with torch.autocast("cpu", torch.bfloat16):
            losses = learner.losses(next(stream))
            loss = stage.total(losses)
        loss.backward()
        nn.utils.clip_grad_norm_([p for p in (*model.parameters(), *heads.parameters()) if p.grad is not None], 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        _log(folder, stage, step, losses, time.monotonic() - began)
        if (step + 1) % stage.save_every == 0 or step + 1 == stage.steps:
            _save(folder / f"{stage.name}.pt", step + 1, model, heads, optims)


def _set_rate(optims: list[torch.optim.Optimizer], share: float) -> None:
    for optim in optims:
        for group in optim.param_groups:
            group.setdefault("full_lr", group["lr"])
            group["lr"] = group["full_lr"] * share


def _log(folder: Path, stage: Stage, step: int, losses: dict[str, torch.Tensor], seconds: float) -> None:
    row = {k: round(float(losses[k].detach()), 4) for k in losses}
    with (folder / f"{stage.name}.jsonl").open("a") as log:
        log.write(json.dumps({"step": step, "seconds": round(seconds, 1), **row}) + "\n")


def _save(path: Path, step: int, model: nn.Module, heads: Heads, optims: list[torch.optim.Optimizer]) -> None:
    state = {
        "step": step,
        "model": model.state_dict(),
        "heads": heads.state_dict(),
        "optims": [o.state_dict() for o in optims],
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def _resumed(path: Path, model: nn.Module, heads: Heads, optims: list[torch.optim.Optimizer]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    heads.load_state_dict(state["heads"])
    for optim, saved in zip(optims, state["optims"], strict=True):
        optim.load_state_dict(saved)
    return int(state["step"])
