"""What tests of the OPC UA server share: a data folder with users and a trusted client, and the server's process."""

import contextlib
import subprocess
import sys
from pathlib import Path

from asyncua.crypto import cert_gen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from judo_edge.station.users import Role, UserStore

ROOT = Path(__file__).parents[1]
OPERATOR, ENGINEER, PASSWORD = "line", "anna", "a long enough password"
URI = "urn:localhost:test:line"


def client_certificate(folder, uri=URI):
    """Make a client's key and certificate; returns both as PEM files."""
    folder.mkdir(parents=True, exist_ok=True)
    key = cert_gen.generate_private_key()
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName("localhost")]
    made = cert_gen.generate_self_signed_app_certificate(key, "line", {}, names, [ExtendedKeyUsageOID.CLIENT_AUTH])
    (folder / "key.pem").write_bytes(cert_gen.dump_private_key_as_pem(key))
    (folder / "certificate.pem").write_bytes(made.public_bytes(Encoding.PEM))
    return folder / "key.pem", folder / "certificate.pem"


def station_file(folder, recipe="lid-7", **opcua):
    """Write a STATION.toml with users and one trusted client; returns its path."""
    _, certificate = client_certificate(folder / "client")
    trusted = folder / "data" / "pki" / "trusted"
    trusted.mkdir(parents=True)
    (trusted / "line.pem").write_bytes(certificate.read_bytes())
    store = UserStore(folder / "data" / "users.json")
    store.add(OPERATOR, PASSWORD, Role.OPERATOR)
    store.add(ENGINEER, PASSWORD, Role.ENGINEER)
    settings = "".join(f'{key} = "{value}"\n' for key, value in opcua.items())
    path = folder / "station.toml"
    path.write_text(
        '[station]\nname = "line-1"\ndata = "data"\n'
        f'[[recipes]]\nid = "{recipe}"\nbundle = "nano"\nproduct = "lid"\n'
        f"[opcua]\nis_on = true\nport = 0\n{settings}"
    )
    return path


@contextlib.contextmanager
def process(*words):
    """Run a Python module that prints its address on the first line; yields the address, ends it afterwards."""
    running = subprocess.Popen(
        [sys.executable, "-m", *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield running.stdout.readline().strip()
    finally:
        running.stdin.close()
        if "tools" in str(words[0]):
            running.terminate()
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()
        running.stdout.close()


NODESETS = {
    "nodeset": "Opc.Ua.MachineVision.NodeSet2.xml",
    "result_nodeset": "Opc.Ua.Machinery_Result.NodeSet2.xml",
}
"""Settings of [opcua] and the files that they want."""


def nodesets():
    """Return paths of the NodeSet files by setting; empty where there are none."""
    for folder in (ROOT.parent / "shared/data/opcua", ROOT / "tests/node/node_modules/node-opcua-nodesets/nodesets"):
        found = {setting: folder / name for setting, name in NODESETS.items()}
        if all(path.is_file() for path in found.values()):
            return found
    return {}
