"""Commands of who releases bundles: sign one, and check a signature; offline, with a key of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from judo_edge.cli.app import BundleName, Force, app, opened_bundle

Signature = Annotated[
    Path | None, typer.Option("--signature", metavar="FILE", help="By default the bundle's name with .sig, beside it.")
]


@app.command()
def sign(
    bundle: BundleName,
    key: Annotated[Path, typer.Option("--key", metavar="KEY.pem", help="Private elliptic-curve key, PEM.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Signature; see --signature.")] = None,
    force: Force = False,
) -> None:
    """Sign a bundle after its verification, with OpenSSF model-signing and without any account or network.

    A key pair is made by `openssl ecparam -name prime256v1 -genkey -noout -out KEY.pem` and `openssl ec -in KEY.pem
    -pubout -out KEY.pub`. The station's recipe names KEY.pub as `public_key` and then takes no other bundle.
    """
    from judo_edge.station.judge.signing import sign_bundle, signature_path

    opened = opened_bundle(bundle)
    fingerprint = sign_bundle(opened, key, out, force)
    typer.echo(f"{out or signature_path(opened)}: signed by key {fingerprint}")


@app.command("verify-signature")
def verify_signature(
    bundle: BundleName,
    public_key: Annotated[Path, typer.Option("--public-key", metavar="KEY.pub", help="Public key, PEM.")],
    signature: Signature = None,
) -> None:
    """Check that a bundle is what a key has signed; exit code 2 when it is not."""
    from judo_edge.station.judge.signing import verified_signer

    opened = opened_bundle(bundle)
    typer.echo(f"{opened.folder}: signed by key {verified_signer(opened, public_key, signature)}")
