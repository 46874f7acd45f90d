"""The application object, and what its commands share: option types, exit codes, opening a bundle by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from judo_edge.bundle import Bundle

EXIT_GATE, EXIT_UNDECIDABLE, EXIT_FAULT, EXIT_STOPPED = 1, 3, 70, 130

app = typer.Typer(
    name="judo-edge",
    help="From a JUDO checkpoint to a verdict on the line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
prompts = typer.Typer(help="Prompt profiles: how the model is asked.", no_args_is_help=True)
app.add_typer(prompts, name="prompt")

BundleName = Annotated[str, typer.Argument(metavar="BUNDLE", help="Bundle folder, or the name of a shipped model.")]
AcceptFailed = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-failed", metavar="GATE", help="Use the bundle although it failed this gate; repeat for each."
    ),
]
EngineName = Annotated[
    str,
    typer.Option(
        "--engine", metavar="NAME", help="onnxruntime, onnxruntime-cuda, openvino or tensorrt (needs its plans)."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier output of the same kind.")]
Part = Annotated[str, typer.Option("--part", help="Part number.")]
Store = Annotated[Path, typer.Option("--store", help="Folder of enrolled good parts.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Threads per operator, 0 for as many as cores.")]


def opened_bundle(name: str) -> Bundle:
    """Open a bundle folder or the export of a shipped model; BundleError when it is neither."""
    from judo_edge.shipped import bundle_from_name

    return bundle_from_name(name, noted)


def accepted_bundle(name: str, accept_failed: list[str] | None) -> Bundle:
    """Open a bundle for use; BundleError when it failed a gate of its verification that is not accepted by name."""
    from judo_edge.bundle.acceptance import check_accepted

    bundle = opened_bundle(name)
    if failed := check_accepted(bundle, accept_failed or ()):
        noted(f"using a bundle that failed its verification: {', '.join(failed)}")
    return bundle


def noted(text: str) -> None:
    """Tell something on stderr that is no error."""
    from judo_edge.terminal import note

    note(text)
