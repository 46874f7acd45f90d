"""llama.cpp through xllamacpp: it keeps the KV and the encoding of what a prompt begins with, photos included."""

from __future__ import annotations

from itertools import product

from judo_edge.bench.peers.peer import SCRIPTS, Converter, Peer
from judo_edge.files import sha256_of_file

PACKAGES = ("xllamacpp",)
INSTALL = "pip install xllamacpp gguf numpy"
TYPES = {"fp32": "f32", "q8_0": "q8_0", "q4_0": "q4_0"}
_SCRIPT = SCRIPTS / "gguf_from_hub.py"


def llamacpp_peers() -> tuple[Peer, ...]:
    """Return every combination of weights, prompt cache (`+cache`) and drafts from earlier text (`+drafts`)."""
    combinations = product(TYPES, (False, True), (False, True))
    return tuple(_peer(name, has_cache, has_drafts) for name, has_cache, has_drafts in combinations)


def _peer(weights: str, has_cache: bool, has_drafts: bool) -> Peer:
    name = f"llamacpp-{weights}{'+cache' if has_cache else ''}{'+drafts' if has_drafts else ''}"
    options = {"prompt_cache": has_cache, "ngram_drafts": has_drafts}
    return Peer(name, "llamacpp", PACKAGES, INSTALL, "llamacpp_backend.py", options, _converter(TYPES[weights]))


def _converter(kind: str) -> Converter:
    folder = f"gguf-{kind}-{sha256_of_file(_SCRIPT)[:8]}"
    return Converter("llamacpp", ("gguf", "numpy"), INSTALL, (str(_SCRIPT), "{hub}", "{out}", kind), folder)
