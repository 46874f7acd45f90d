"""The station's OPC UA server: OPC 40100-1 and 40001-101 for vision clients, flat tags for PLCs.

Knows the station only by `station.api`. asyncua is imported here alone, so nothing else imports this package before
the server's process does; `check_installed` says in words that it is lacking.
"""

from __future__ import annotations

from importlib.util import find_spec

from judo_edge.errors import DependencyError

MACHINE_VISION = "http://opcfoundation.org/UA/MachineVision"
MACHINERY_RESULT = "http://opcfoundation.org/UA/Machinery/Result/"
STATION = "urn:judo-edge:station"
"""Namespaces, in the order in which the server registers them: indices 2, 3 and 4."""
SINK = "opcua"
"""Name under which results are acknowledged to the station."""


def check_installed() -> None:
    """Raise DependencyError when asyncua is not installed."""
    if find_spec("asyncua") is None:
        raise DependencyError("asyncua is not installed", action="pip install 'judo-edge[opcua]'")
