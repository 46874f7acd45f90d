"""The command of the deployment engineer that measures a checkpoint on the user's own pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judo_edge.cli.app import Force, app, noted
from judo_edge.errors import DependencyError

if TYPE_CHECKING:
    from judo_edge.calibration.file import CalibrationFile, Settings
    from judo_edge.calibration.samples import PairSet
    from judo_edge.calibration.steps import Subject


@app.command()
def calibrate(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder, or the name of a shipped checkpoint.")
    ],
    items: Annotated[Path, typer.Option("--items", help="Labelled set; its train items are calibrated on.")],
    out: Annotated[Path, typer.Option("--out", help="Calibration folder to write.")],
    adapter: Annotated[list[str] | None, typer.Option("--adapter", help="LoRA folder; may be given again.")] = None,
    accept: Annotated[
        list[Path] | None, typer.Option("--accept", help="Another acceptance set to keep apart; may be given again.")
    ] = None,
    samples: Annotated[int | None, typer.Option("--samples", min=4, help="At most so many pairs.")] = 64,
    min_samples: Annotated[int, typer.Option("--min-samples", min=4, help="Fewest pairs to accept.")] = 16,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Prompt profile, if the checkpoint has none.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option("--settings", help="TOML file of seed, numbers of tokens and grids of the search.")
    ] = None,
    gram: Annotated[
        bool, typer.Option("--gram", help="Store second moments too: (in, in) for each input of at most 8192.")
    ] = False,
    force: Force = False,
) -> None:
    """Measure what each layer of a checkpoint sees on good and defective pairs, and what each form costs there."""
    try:
        from judo_edge.calibration.file import Settings
        from judo_edge.calibration.samples import Choice, pairs_from_csv
        from judo_edge.calibration.writer import check_target
    except ModuleNotFoundError as error:
        found = f"calibrate needs the package {error.name!r}"
        raise DependencyError(found, "the extra export", "pip install 'judo-edge[export]'") from error
    from judo_edge.config import model_from_toml

    check_target(out, force)
    subject = subject_from_checkpoint(checkpoint, adapter or [], profile)
    grid = (subject.profile.grid_rows, subject.profile.grid_cols)
    wanted = model_from_toml(Settings, settings) if settings else Settings()
    wanted = wanted.model_copy(update={"gram": gram or wanted.gram})
    chosen = pairs_from_csv(items, grid, Choice(samples, min_samples, wanted.held_out), accept or [])
    for reason, count in chosen.left_out.items():
        noted(f"{count} items left out: {reason}")
    file = _measured(subject, chosen, out, wanted, force)
    _show(file, out)


def _measured(subject: Subject, chosen: PairSet, out: Path, settings: Settings, force: bool) -> CalibrationFile:
    """Run under a bar; stopped by Ctrl-C, say how to go on."""
    from judo_edge.calibration.run import CalibrationProgress
    from judo_edge.calibration.run import calibrate as calibrate_pairs
    from judo_edge.terminal import bar

    with bar() as progress:
        task = progress.add_task("calibrate", total=None, state="")

        def report(state: CalibrationProgress) -> None:
            progress.update(task, completed=state.done, total=state.total, state=state.step)

        try:
            return calibrate_pairs(subject, chosen, out, settings, force, report)
        except KeyboardInterrupt:
            noted(f"stopped; the same command goes on from the last finished part ({out.name}.partial)")
            raise


def subject_from_checkpoint(checkpoint: str, adapters: list[str], profile: Path | None) -> Subject:
    """Open what is calibrated: merged weights, config, prompt and pixels, by the same readers that export uses."""
    from judo_edge.calibration.steps import Subject
    from judo_edge.export.adapter import open_adapter
    from judo_edge.export.checkpoint import open_checkpoint
    from judo_edge.export.facts import preprocessing, profile_file, tokenizer_file
    from judo_edge.export.graphs.fake import config_from
    from judo_edge.export.lora import MergedWeights, source_of
    from judo_edge.export.pipeline import adapter_folder, checkpoint_folder
    from judo_edge.files import sha256_of_file
    from judo_edge.protocol.profile import load_profile
    from judo_edge.vision.geometry import Preprocessing

    folder = checkpoint_folder(checkpoint)
    opened = open_checkpoint(folder)
    weights = MergedWeights(opened, [open_adapter(adapter_folder(folder, name)) for name in adapters])
    config, file = config_from(opened.config), profile_file(folder, profile)
    asked = load_profile(file)
    pixels, vision = preprocessing(folder, asked.image_size), config.vision_config
    return Subject(
        config=config,
        weights=weights,
        source=source_of(opened, weights.adapters, opened.digest()),
        profile=asked,
        profile_sha256=sha256_of_file(file),
        preprocessing=Preprocessing(
            resize=asked.resize,
            image_size=pixels.image_size,
            patch_size=vision.patch_size,
            temporal_patch_size=vision.temporal_patch_size,
            merge_size=vision.spatial_merge_size,
            mean=pixels.mean,
            std=pixels.std,
        ),
        tokenizer=tokenizer_file(folder),
    )


def _show(file: CalibrationFile, out: Path) -> None:
    """Print the parts that lose most, and where the rest is."""
    from judo_edge.calibration.file import ERROR_FORMS
    from judo_edge.terminal import print_table

    worst = sorted(file.layers, key=lambda layer: -layer.output_errors["int8-static"])[:5]
    rows = [(layer.name, *(f"{100 * layer.output_errors[form]:.3g} %" for form in ERROR_FORMS)) for layer in worst]
    print_table(("part", *ERROR_FORMS), rows, "The five parts whose output W8A8 changes most.")
    count, tokens = len(file.provenance.samples), sum(file.provenance.tokens.values())
    typer.echo(f"{out}: written from {count} pairs, {tokens} tokens; the plot is {out / 'sensitivity.svg'}")
