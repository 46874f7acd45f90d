"""The rivals: other runtimes that write the same checkpoint's replies to the same prompt and photos.

Each runs in a Python of its own, because their dependencies exclude one another; none needs judo-edge there.
"""

from judo_edge.bench.peers.frames import PeerAnswer, PeerFrame, PeerResult, peer_frame
from judo_edge.bench.peers.registry import PEERS, peers_from_names
from judo_edge.bench.peers.run import installed_peers, run_peers

__all__ = [
    "PEERS",
    "PeerAnswer",
    "PeerFrame",
    "PeerResult",
    "installed_peers",
    "peer_frame",
    "peers_from_names",
    "run_peers",
]
