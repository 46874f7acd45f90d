"""The bundle: a folder with a manifest, the one artifact between export and runtime.

Knows files, hashes and what the manifest says; knows no torch, no ONNX and no engine.
"""

from judo_edge.bundle.info import info_rows
from judo_edge.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST_NAME,
    Acceptance,
    AdapterSource,
    EmbeddingEntry,
    FileEntry,
    GraphEntry,
    Manifest,
    ModelFacts,
    PrefixEntry,
    Preprocessing,
    ProbeEntry,
    Source,
    TensorDecision,
    TensorSpec,
)
from judo_edge.bundle.reader import Bundle, open_bundle
from judo_edge.bundle.writer import BundleWriter, check_output

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST_NAME",
    "Acceptance",
    "AdapterSource",
    "Bundle",
    "BundleWriter",
    "EmbeddingEntry",
    "FileEntry",
    "GraphEntry",
    "Manifest",
    "ModelFacts",
    "PrefixEntry",
    "Preprocessing",
    "ProbeEntry",
    "Source",
    "TensorDecision",
    "TensorSpec",
    "check_output",
    "info_rows",
    "open_bundle",
]
