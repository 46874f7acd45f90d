"""What `judo-edge info` shows: the manifest as rows of (what, value). Formatting is left to the CLI."""

from __future__ import annotations

from collections import Counter

from judo_edge.bundle.acceptance import acceptance_rows
from judo_edge.bundle.reader import Bundle


def info_rows(bundle: Bundle) -> list[tuple[str, str]]:
    """Return the rows of the table: origin, acceptance, model, decisions, files with size and SHA-256."""
    return [
        *_origin_rows(bundle),
        *acceptance_rows(bundle),
        *_model_rows(bundle),
        *_decision_rows(bundle),
        *_file_rows(bundle),
    ]


def size_text(count: int) -> str:
    """Return a number of bytes for a reader, e.g. `12.3 MB` (decimal units)."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def _origin_rows(bundle: Bundle) -> list[tuple[str, str]]:
    manifest = bundle.manifest
    source = manifest.source
    rows = [
        ("bundle", manifest.name),
        ("digest", bundle.digest),
        ("created", manifest.created),
        ("checkpoint", f"{source.checkpoint}, digest {source.digest}"),
    ]
    rows += [("adapter", f"{item.name}, {item.tensors} tensors, digest {item.digest}") for item in source.adapters]
    rows.append(("recipe", ", ".join(f"{key}={value}" for key, value in manifest.recipe.items())))
    rows.append(("made with", ", ".join(f"{tool} {version}" for tool, version in manifest.tools.items())))
    return rows


def _model_rows(bundle: Bundle) -> list[tuple[str, str]]:
    model, pixels = bundle.manifest.model, bundle.manifest.preprocessing
    side = pixels.image_size // (model.patch_size * model.spatial_merge_size)
    heads = f"{model.num_heads} heads ({model.num_kv_heads} key-value) of {model.head_dim}"
    return [
        ("model", model.architecture),
        ("decoder", f"{model.num_layers} layers, hidden {model.hidden_size}, {heads}, vocabulary {model.vocab_size}"),
        ("vision", f"{model.vision_depth} blocks, hidden {model.vision_hidden_size}"),
        ("image", f"{pixels.image_size}x{pixels.image_size} pixels, {side * side} tokens"),
        ("KV cache", f"{size_text(model.kv_bytes_per_token)} per token"),
        *_probe_rows(bundle),
    ]


def _probe_rows(bundle: Bundle) -> list[tuple[str, str]]:
    probe = bundle.manifest.probe
    if probe is None:
        return []
    where = f"after layer {probe.tap}, {probe.values} values for each token"
    return [("cell probe", f"{where}, from {probe.source}, sha256 {probe.digest}")]


def _decision_rows(bundle: Bundle) -> list[tuple[str, str]]:
    counts = Counter(item.form for item in bundle.manifest.decisions.values())
    return [(f"stored as {form}", f"{count} tensors") for form, count in sorted(counts.items())]


def _file_rows(bundle: Bundle) -> list[tuple[str, str]]:
    files = bundle.manifest.files
    rows = [(name, f"{size_text(item.bytes)}, sha256 {item.sha256}") for name, item in sorted(files.items())]
    return [*rows, ("size", size_text(sum(item.bytes for item in files.values())))]
