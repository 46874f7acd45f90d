"""Commands of the deployment engineer: import a prompt, export a bundle, show what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from judo_edge.cli.app import BundleName, Force, app, noted, opened_bundle, prompts
from judo_edge.cli.stopping import export_bar, print_needs, stopping
from judo_edge.errors import DependencyError


@prompts.command("import")
def prompt_import(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The official evaluator file; it is parsed, never run.")],
    out: Annotated[Path, typer.Option("--out", help="Profile to write, TOML.")],
    grid: Annotated[int, typer.Option("--grid", min=1, help="Rows and columns of the mask.")] = 16,
    name: Annotated[str, typer.Option("--name", help="Name of the profile.")] = "judo",
    prefix_n: Annotated[
        bool, typer.Option("--prefix-n", help="Begin the user text with n as the evaluator does.")
    ] = False,
    allow_other: Annotated[
        bool, typer.Option("--allow-other", help="Accept a text that is not the published one.")
    ] = False,
    force: Force = False,
) -> None:
    """Import JUDO's system text from its official evaluator file."""
    from judo_edge.protocol.importer import profile_from_evaluator
    from judo_edge.protocol.profile import save_profile

    prefix = "n" if prefix_n else "\n"
    imported = profile_from_evaluator(file, grid, name=name, prefix=prefix, allow_other=allow_other)
    save_profile(imported.profile, out, force)
    if imported.warning:
        noted(imported.warning)
    typer.echo(f"{out}: profile {name}, {grid}x{grid} cells, system text SHA-256 {imported.profile.system_sha256}")


@app.command()
def export(
    checkpoint: Annotated[
        str, typer.Argument(metavar="CHECKPOINT", help="Folder, or the name of a shipped checkpoint.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Bundle folder to write.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Name of a recipe, or a TOML file.")] = "cpu-int8",
    adapter: Annotated[list[str] | None, typer.Option("--adapter", help="LoRA folder; may be given again.")] = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="Prompt profile, if the checkpoint has none.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", help="Folder written by judo-edge calibrate.")
    ] = None,
    probe: Annotated[
        Path | None, typer.Option("--probe", help="Cell probe written by judo-edge fit-probe, if not the checkpoint's.")
    ] = None,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Leave the checkpoint's cell probe out.")] = False,
    dialect: Annotated[
        str, typer.Option("--dialect", help="legacy or modern graphs, in place of the recipe's choice.")
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it needs in disk, memory and time; export nothing.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Discard an unfinished export instead of going on with it.")
    ] = False,
    force: Force = False,
) -> None:
    """Make a bundle from a checkpoint and its adapters; an interrupted export goes on when it is run again."""
    try:
        from judo_edge.export import pipeline
    except ModuleNotFoundError as error:
        found = f"export needs the package {error.name!r}"
        raise DependencyError(found, "the extra export", "pip install 'judo-edge[export]'") from error
    order = pipeline.export_order(
        checkpoint, adapter or [], recipe, out, profile,
        calibration=calibration, dialect=dialect, force=force, restart=restart, probe=probe, no_probe=no_probe,
    )  # fmt: skip
    with stopping(out), export_bar() as report:
        if not dry_run:
            pipeline.export(order, report, noted)
        needed = pipeline.preflight(order, report) if dry_run else None
    if needed:
        print_needs(order.recipe.name, needed)
    else:
        typer.echo(f"{out}: written; judo-edge info {out} shows what is in it")


@app.command()
def info(bundle: BundleName) -> None:
    """Verify a bundle and show what was decided when it was made."""
    from judo_edge.bundle import info_rows
    from judo_edge.terminal import print_table

    print_table((), info_rows(opened_bundle(bundle)))
