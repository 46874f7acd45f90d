"""Signatures over bundles, by OpenSSF model-signing with plain elliptic-curve keys: offline, without any account.

The signature of `<bundle>` is `<bundle>.sig` beside it, because a bundle's folder holds nothing that its manifest does
not list. It covers the manifest, so a bundle is signed after its verification. Keys are PEM files on the curves P-256,
P-384 or P-521, such as `openssl ecparam -name prime256v1 -genkey -noout` makes. Needs the extra `signing`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from judo_edge.bundle import Bundle
from judo_edge.errors import BundleError, DependencyError, InputError, OutputError, first_line
from judo_edge.files import output_errors, sha256_of_bytes, sync_to_disk

SUFFIX = ".sig"
_SIGN = "judo-edge sign BUNDLE --key KEY.pem"


def signature_path(bundle: Bundle) -> Path:
    """Return where the signature of a bundle lies."""
    return bundle.folder.with_name(bundle.folder.name + SUFFIX)


def sign_bundle(bundle: Bundle, key: Path, out: Path | None = None, force: bool = False) -> str:
    """Sign a bundle with a private key and return the fingerprint of the public one.

    Raises InputError for a key of another kind, OutputError when the signature exists and `force` is not given or when
    it cannot be written, DependencyError without the extra.
    """
    signing = _library("signing")
    path = out or signature_path(bundle)
    if path.exists() and not force:
        raise OutputError(f"{path} exists already", action="pass --force to replace it, or choose another name")
    public = _loaded(key, "private").public_key()
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    try:
        with output_errors(path):
            signing.Config().use_elliptic_key_signer(private_key=key).sign(bundle.folder, partial)
            sync_to_disk(partial)
            partial.replace(path)
            sync_to_disk(path.parent)
    finally:
        partial.unlink(missing_ok=True)
    return _fingerprint(public)


def verified_signer(bundle: Bundle, public_key: Path, signature: Path | None = None) -> str:
    """Return the fingerprint of the key that signed a bundle as it lies on the disk now.

    BundleError when it is not signed, signed with another key or was changed since; InputError for a key that cannot
    be used; DependencyError without the extra.
    """
    verifying = _library("verifying")
    path = signature or signature_path(bundle)
    public = _loaded(public_key, "public")
    if not path.is_file():
        raise BundleError(f"{bundle.folder} is not signed: there is no {path}", "a signature", _SIGN)
    try:
        verifying.Config().use_elliptic_key_verifier(public_key=public_key).verify(bundle.folder, path)
    except Exception as error:  # the library raises many kinds, and each means the same: not a signature that holds
        text = first_line(error) or type(error).__name__
        raise BundleError(f"the signature {path} does not hold: {text}", f"one by {public_key}", _SIGN) from error
    return _fingerprint(public)


def _library(name: str) -> Any:
    from importlib import import_module

    try:
        return import_module(f"model_signing.{name}")
    except ModuleNotFoundError as error:
        found = f"signatures need the package {error.name!r}"
        raise DependencyError(found, "the extra signing", "pip install 'judo-edge[signing]'") from error


def _loaded(path: Path, kind: str) -> Any:
    """Return a private or public key of the supported curves."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    wanted = f"a {kind} key on P-256, P-384 or P-521 as PEM, without a password"
    try:
        raw = path.read_bytes()
        is_private = kind == "private"
        key = serialization.load_pem_private_key(raw, None) if is_private else serialization.load_pem_public_key(raw)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {first_line(error)}", wanted, "check the key") from error
    curve = getattr(key, "curve", None)
    if not isinstance(curve, (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)):
        raise InputError(f"{path} is no such key", wanted, "make one with openssl ecparam")
    return key


def _fingerprint(public: Any) -> str:
    """Return the SHA-256 of a public key's DER, as `openssl pkey -pubin -outform DER | sha256sum` says it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256_of_bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
