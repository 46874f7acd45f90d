"""The rivals by name."""

from __future__ import annotations

from collections.abc import Sequence

from judo_edge.bench.peers.llamacpp_peer import llamacpp_peers
from judo_edge.bench.peers.openvino_peer import openvino_peers
from judo_edge.bench.peers.peer import Peer
from judo_edge.bench.peers.transformers_peer import transformers_peers
from judo_edge.errors import InputError

PEERS: dict[str, Peer] = {peer.name: peer for peer in (*transformers_peers(), *openvino_peers(), *llamacpp_peers())}
"""All rivals; none is imported or started by this."""
DEFAULT_PEERS = (
    "transformers-fp32",
    "transformers-bf16",
    "openvino-fp32+cache",
    "openvino-int8",
    "openvino-int8+cache",
    "openvino-int8+cache+lookup",
    "openvino-int4+cache",
    "openvino-int4+cache+lookup",
    "llamacpp-fp32+cache",
    "llamacpp-q8_0",
    "llamacpp-q8_0+cache",
    "llamacpp-q8_0+cache+drafts",
    "llamacpp-q4_0+cache",
    "llamacpp-q4_0+cache+drafts",
)
"""The settings in which each has been fastest, with a plain one of each beside them."""


def peers_from_names(names: Sequence[str]) -> tuple[Peer, ...]:
    """Return the rivals of these names in their order; InputError for an unknown one."""
    for name in names:
        if name not in PEERS:
            raise InputError(f"no rival {name!r}", f"one of {', '.join(PEERS)}", "correct --peers")
    return tuple(PEERS[name] for name in names)
