"""OpenVINO GenAI: weights in three sizes, with and without prefix caching and prompt lookup.

The export needs optimum-intel, which needs an older transformers, in an environment of its own.
"""

from __future__ import annotations

from itertools import product

from judo_edge.bench.peers.peer import Converter, Peer

PACKAGES = ("openvino", "openvino-genai")
INSTALL = "pip install openvino==2026.4.1 openvino-genai==2026.4.1"
EXPORT_PACKAGES = ("optimum-intel", "transformers", "nncf")
EXPORT_INSTALL = "pip install optimum-intel==2.2.0 transformers==4.57.6 openvino==2026.4.1 nncf pillow"
PRECISIONS = {"fp32": "f32", "bf16": "", "int8": "", "int4": ""}
"""Name -> precision that is forced on it. bf16 is the float32 export in what OpenVINO itself chooses on the CPU."""


def openvino_peers() -> tuple[Peer, ...]:
    """Return every combination of weights, prefix caching (`+cache`) and prompt lookup (`+lookup`)."""
    combinations = product(PRECISIONS, (False, True), (False, True))
    return tuple(_peer(name, has_cache, has_lookup) for name, has_cache, has_lookup in combinations)


def _peer(precision: str, has_cache: bool, has_lookup: bool) -> Peer:
    name = f"openvino-{precision}{'+cache' if has_cache else ''}{'+lookup' if has_lookup else ''}"
    forced = PRECISIONS[precision]
    options: dict[str, bool | str] = {"prefix_caching": has_cache, "prompt_lookup": has_lookup, "precision": forced}
    converter = _converter("fp32" if precision == "bf16" else precision)
    return Peer(name, "openvino", PACKAGES, INSTALL, "openvino_backend.py", options, converter)


def _converter(weights: str) -> Converter:
    export = ("-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", "{hub}")
    groups = ("--group-size-fallback", "adjust") if weights == "int4" else ()  # widths that are no multiple of 128
    arguments = (*export, "--task", "image-text-to-text", "--weight-format", weights, *groups, "{out}")
    return Converter("openvino-export", EXPORT_PACKAGES, EXPORT_INSTALL, arguments, f"openvino-{weights}")
