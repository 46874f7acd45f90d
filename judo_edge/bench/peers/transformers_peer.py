"""transformers' own generate: what every other runtime is compared with, and the slowest."""

from __future__ import annotations

from judo_edge.bench.peers.peer import Peer

PACKAGES = ("torch", "transformers", "pillow")
INSTALL = "pip install torch==2.13.0 transformers==5.23.0 pillow"


def transformers_peers() -> tuple[Peer, ...]:
    """Return transformers in float32 and bfloat16."""
    dtypes = {"fp32": "float32", "bf16": "bfloat16"}
    return tuple(
        Peer(f"transformers-{name}", "transformers", PACKAGES, INSTALL, "transformers_backend.py", {"dtype": dtype})
        for name, dtype in dtypes.items()
    )
