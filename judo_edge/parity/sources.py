"""What a bundle is compared with: another bundle, or a checkpoint that is exported in float32 for the purpose.

Refuses a reference that was made from something else, or that is asked in another way: its replies would say nothing.
Export, and with it torch, is imported only when a checkpoint has to be exported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from judo_edge.bundle import MANIFEST_NAME, Bundle, Source, open_bundle
from judo_edge.errors import BundleError, ConfigError, DependencyError, InputError
from judo_edge.files import sha256_of_bytes
from judo_edge.protocol.profile import load_profile

if TYPE_CHECKING:
    from judo_edge.export.pipeline import Progress

REFERENCE_RECIPE = "cpu-fp32"


def reference_bundle(
    against: str,
    adapters: Sequence[str],
    bundle: Bundle,
    cache: Path,
    allow_other_source: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None] = lambda _: None,
) -> Bundle:
    """Open the reference of a bundle: a bundle folder, or a checkpoint (folder or shipped name) with its adapters.

    A checkpoint is exported once into a folder of `cache`, with the prompt profile of the bundle. Raises InputError
    when it was made from other weights and `allow_other_source` is not given.
    """
    if (Path(against) / MANIFEST_NAME).is_file():
        if adapters:
            raise ConfigError(
                f"--adapter beside the bundle {against}", "adapters beside a checkpoint", "drop --adapter"
            )
        reference = open_bundle(against)
        _check_source(bundle.manifest.source, reference.manifest.source, allow_other_source)
    else:
        source = _checkpoint_source(against, adapters)
        _check_source(bundle.manifest.source, source, allow_other_source)
        reference = _exported(against, adapters, source, bundle, cache, progress, note)
    _check_same_question(bundle, reference)
    return reference


def _checkpoint_source(against: str, adapters: Sequence[str]) -> Source:
    try:
        from judo_edge.export.adapter import open_adapter
        from judo_edge.export.checkpoint import open_checkpoint
        from judo_edge.export.lora import source_of
        from judo_edge.export.pipeline import adapter_folder, checkpoint_folder
    except ModuleNotFoundError as error:
        found = f"a checkpoint as reference has to be exported, which needs the package {error.name!r}"
        raise DependencyError(found, "the extra export", "pip install 'judo-edge[export]'") from error
    folder = checkpoint_folder(against)
    opened = [open_adapter(adapter_folder(folder, item)) for item in adapters]
    checkpoint = open_checkpoint(folder)
    return source_of(checkpoint, opened, checkpoint.digest())


def _check_source(ours: Source, theirs: Source, allow_other: bool) -> None:
    """Compare checkpoint and adapters by their digests, adapters also by what they changed."""
    if allow_other:
        return
    action = "give the checkpoint and adapters that it was made from, or pass --allow-other-source"
    if ours.digest != theirs.digest:
        found = f"a reference from the checkpoint {theirs.checkpoint} ({theirs.digest[:12]})"
        raise InputError(found, f"{ours.checkpoint} ({ours.digest[:12]}) as in the bundle", action)
    if {(item.digest, item.tensors) for item in ours.adapters} != {
        (item.digest, item.tensors) for item in theirs.adapters
    }:
        raise InputError(f"a reference with {_names(theirs)}", f"{_names(ours)} as in the bundle", action)


def _names(source: Source) -> str:
    names = [f"{item.name} ({item.digest[:12]}, {item.tensors} tensors)" for item in source.adapters]
    return f"adapters {', '.join(names)}" if names else "no adapter"


def _exported(
    against: str,
    adapters: Sequence[str],
    source: Source,
    bundle: Bundle,
    cache: Path,
    progress: Progress | None,
    note: Callable[[str], None],
) -> Bundle:
    """Export the reference, or take the one of an earlier verification."""
    from judo_edge.export.pipeline import export_bundle

    profile = bundle.path_of(bundle.manifest.profile)
    folder = cache / f"reference-{source.checkpoint}-{_key(source, profile)}"
    if folder.is_dir():
        try:
            return open_bundle(folder)
        except BundleError as error:
            note(f"exporting the reference again: {error}")
    else:
        note(f"exporting the reference once to {folder}")
    return open_bundle(
        export_bundle(against, adapters, REFERENCE_RECIPE, folder, profile, force=True, progress=progress)
    )


def _key(source: Source, profile: Path) -> str:
    """Name what decides the export: the weights, the question and the version of this package."""
    from judo_edge import __version__

    parts = [__version__, source.digest, *(item.digest for item in source.adapters)]
    return sha256_of_bytes("\n".join(parts).encode() + profile.read_bytes())[:12]


def _check_same_question(bundle: Bundle, reference: Bundle) -> None:
    """Refuse two bundles whose ids or patches do not mean the same."""
    ours, theirs = bundle.manifest, reference.manifest
    differing = {
        "prompt profile": load_profile(bundle.path_of(ours.profile)) != load_profile(reference.path_of(theirs.profile)),
        "tokenizer": ours.files[ours.tokenizer].sha256 != theirs.files[theirs.tokenizer].sha256,
        "preprocessing": ours.preprocessing != theirs.preprocessing,
        "shape of the model": ours.model != theirs.model,
    }
    if names := [name for name, differs in differing.items() if differs]:
        found = f"a reference with another {' and another '.join(names)}"
        raise InputError(found, "the same, so that replies can be compared", "compare with a bundle of the same model")
