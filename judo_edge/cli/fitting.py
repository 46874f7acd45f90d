"""The command of the deployment engineer that fits a cell probe on the user's own good photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judo_edge.cli.app import Force, app, noted
from judo_edge.cli.calibrating import subject_from_checkpoint
from judo_edge.errors import ConfigError, DependencyError

if TYPE_CHECKING:
    from judo_edge.adapt.probe.fit import ProbeFit
    from judo_edge.adapt.probe.pairs import Settings
    from judo_edge.calibration.samples import Photo
    from judo_edge.calibration.steps import Subject


@app.command()
def fit_probe(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder, or the name of a shipped checkpoint.")
    ],
    images: Annotated[
        list[Path],
        typer.Option("--images", help="Good photo, folder of them, or items.csv (its good train items); repeat it."),
    ],
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("cell_probe.safetensors"),
    adapter: Annotated[list[str] | None, typer.Option("--adapter", help="LoRA folder; may be given again.")] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Prompt profile, if the checkpoint has none.")
    ] = None,
    taps: Annotated[
        str, typer.Option("--taps", help="Decoder layers to try, such as 3,4,5; five depths unless given.")
    ] = "",
    pairs: Annotated[int, typer.Option("--pairs", min=32, help="Pairs to draw.")] = 200,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the drawn defects.")] = 0,
    force: Force = False,
) -> None:
    """Fit a cell probe on defects drawn on your good photos; no gradient passes through the model."""
    try:
        from judo_edge.adapt.probe.pairs import Settings, photos_from_paths
    except ModuleNotFoundError as error:
        found = f"fit-probe needs the package {error.name!r}"
        raise DependencyError(found, "the extra export", "pip install 'judo-edge[export]'") from error
    settings = Settings(pairs=pairs, seed=seed, taps=_numbers(taps))
    photos = photos_from_paths(images)
    fit = _fitted(subject_from_checkpoint(checkpoint, adapter or [], profile), photos, out, settings, force)
    _show(fit, out)


def _fitted(subject: Subject, photos: tuple[Photo, ...], out: Path, settings: Settings, force: bool) -> ProbeFit:
    """Run under a bar; stopped by Ctrl-C, say how to go on."""
    from judo_edge.adapt.probe import fit
    from judo_edge.calibration.run import CalibrationProgress
    from judo_edge.terminal import bar

    with bar() as progress:
        task = progress.add_task("fit-probe", total=None, state="")

        def report(state: CalibrationProgress) -> None:
            progress.update(task, completed=state.done, total=state.total, state=state.step)

        try:
            return fit.fit_probe(subject, photos, out, settings, force, report)
        except KeyboardInterrupt:
            noted(f"stopped; the same command goes on from the last finished part ({out.name}.partial)")
            raise


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"--taps {text!r}", "numbers with commas between them", "correct it") from error
    if any(number < 1 for number in numbers):
        raise ConfigError(f"--taps {text!r}", "numbers of layers from 1 on", "correct it")
    return numbers


def _show(fit: ProbeFit, out: Path) -> None:
    """Print the figures of every tap."""
    from judo_edge.terminal import print_table

    rows = [(str(item.tap), f"{item.cell_auroc:.3f}", f"{item.image_auroc:.3f}") for item in fit.taps]
    caption = f"{fit.held_out} held-out of {fit.pairs} pairs, drawn on {fit.photos} photos."
    print_table(("tap", "cell AUROC", "image AUROC"), rows, caption)
    typer.echo(f"{out}: written for tap {fit.best.tap}; judo-edge export --probe {out} takes it into a bundle")
