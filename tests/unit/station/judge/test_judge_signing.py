"""Signed bundles: what a signature covers, every way it does not hold, and what a station takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("model_signing.signing", reason="needs the extra `signing` (model-signing, pyOpenSSL)")

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from judo_edge.bundle import Bundle, open_bundle
from judo_edge.bundle.acceptance import Outcome, write_acceptance
from judo_edge.cli import main
from judo_edge.errors import BundleError, DependencyError, InputError, OutputError
from judo_edge.station.judge import signing
from judo_edge.station.judge.prepared import Preparer
from judo_edge.station.judge.signing import sign_bundle, signature_path, verified_signer
from tests.judging import enrolled, station_config
from tests.scripted import photo, scripted_bundle


def key_pair(folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> tuple[Path, Path]:
    key = ec.generate_private_key(curve or ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return scripted_bundle(tmp_path / "bundle")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return key_pair(tmp_path, "key")


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_a_signed_bundle_names_its_signer_wherever_it_is_moved(
    curve: ec.EllipticCurve, bundle: Bundle, tmp_path: Path
) -> None:
    private, public = key_pair(tmp_path, "key", curve)
    signer = sign_bundle(bundle, private)
    assert verified_signer(bundle, public) == signer and len(signer) == 64
    der = subprocess.run(
        ("openssl", "pkey", "-pubin", "-in", str(public), "-outform", "DER"), check=True, capture_output=True
    ).stdout
    assert signing.sha256_of_bytes(der) == signer
    shutil.move(bundle.folder, tmp_path / "moved")
    shutil.move(signature_path(bundle), tmp_path / "moved.sig")
    assert verified_signer(open_bundle(tmp_path / "moved"), public) == signer


def test_signing_needs_no_network(bundle: Bundle, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    assert sign_bundle(bundle, keys[0]) == verified_signer(bundle, keys[1])


@pytest.mark.parametrize("name", ["decoder.data", "manifest.json", "profile.toml"])
def test_a_changed_file_breaks_the_signature(name: str, bundle: Bundle, keys: tuple[Path, Path]) -> None:
    sign_bundle(bundle, keys[0])
    path = bundle.folder / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(BundleError, match=f"does not hold: .*{name}"):
        verified_signer(bundle, keys[1])


def test_a_file_more_or_less_breaks_the_signature(bundle: Bundle, keys: tuple[Path, Path]) -> None:
    sign_bundle(bundle, keys[0])
    (bundle.folder / "more").write_text("")
    with pytest.raises(BundleError, match="Extra files"):
        verified_signer(bundle, keys[1])
    (bundle.folder / "more").unlink()
    (bundle.folder / "vision.data").unlink()
    with pytest.raises(BundleError, match="Missing files"):
        verified_signer(bundle, keys[1])


def test_a_verification_after_signing_asks_for_another_signature(bundle: Bundle, keys: tuple[Path, Path]) -> None:
    sign_bundle(bundle, keys[0])
    outcome = Outcome(failed=(), against="ck", items="items", engine="scripted")
    verified = write_acceptance(bundle, outcome, {"figures": {}})
    with pytest.raises(BundleError, match="does not hold"):
        verified_signer(verified, keys[1])
    sign_bundle(verified, keys[0], force=True)
    assert verified_signer(verified, keys[1])


def test_another_key_or_none_is_refused(bundle: Bundle, keys: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not signed"):
        verified_signer(bundle, keys[1])
    stranger, its = key_pair(tmp_path, "stranger")
    sign_bundle(bundle, stranger)
    with pytest.raises(BundleError, match="does not hold"):
        verified_signer(bundle, keys[1])
    assert verified_signer(bundle, its)


def test_a_strangers_signature_that_claims_our_key_is_refused(
    bundle: Bundle, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """The hint of the key in the file is not what is believed."""
    sign_bundle(bundle, keys[0])
    ours = json.loads(signature_path(bundle).read_text())
    sign_bundle(bundle, key_pair(tmp_path, "stranger")[0], force=True)
    theirs = json.loads(signature_path(bundle).read_text())
    theirs["verificationMaterial"] = ours["verificationMaterial"]
    signature_path(bundle).write_text(json.dumps(theirs))
    with pytest.raises(BundleError, match="does not hold: InvalidSignature"):
        verified_signer(bundle, keys[1])


@pytest.mark.parametrize("text", ["", "{}", "[]", "\x00", '{"mediaType": 1}'])
def test_a_damaged_signature_is_refused(text: str, bundle: Bundle, keys: tuple[Path, Path]) -> None:
    sign_bundle(bundle, keys[0])
    signature_path(bundle).write_text(text)
    with pytest.raises(BundleError, match="does not hold"):
        verified_signer(bundle, keys[1])


def test_keys_that_cannot_be_used(bundle: Bundle, keys: tuple[Path, Path], tmp_path: Path) -> None:
    secret = ec.generate_private_key(ec.SECP256R1())
    locked = secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word"))
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, content in (("locked", locked), ("rsa", other), ("text", b"no key"), ("public", keys[1].read_bytes())):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="P-256"):
            sign_bundle(bundle, tmp_path / name)
    with pytest.raises(InputError, match="No such file"):
        verified_signer(bundle, tmp_path / "nowhere")
    assert not signature_path(bundle).exists()


def test_an_earlier_signature_is_replaced_only_when_told(bundle: Bundle, keys: tuple[Path, Path]) -> None:
    sign_bundle(bundle, keys[0])
    with pytest.raises(OutputError, match="exists already"):
        sign_bundle(bundle, keys[0])
    with pytest.raises(OutputError, match="parent folder"):
        sign_bundle(bundle, keys[0], bundle.folder / "no" / "such.sig")
    assert sorted(path.name for path in bundle.folder.parent.iterdir()) == [
        "bundle",
        "bundle.sig",
        "key.pem",
        "key.pub",
    ]


def test_a_station_takes_only_what_its_key_has_signed(bundle: Bundle, keys: tuple[Path, Path], tmp_path: Path) -> None:
    config = station_config(tmp_path, recipe={"public_key": Path("key.pub")})
    enrolled(config, photo(5))
    with pytest.raises(BundleError, match="is not signed"):
        Preparer(config).plan("lid")
    signer = sign_bundle(bundle, keys[0])
    recipe = Preparer(config).plan("lid").recipe
    assert recipe.signer == signer
    assert Preparer(station_config(tmp_path)).plan("lid").recipe.signer == ""  # nobody asked
    shutil.copytree(bundle.folder, tmp_path / "bundles" / "old")
    shutil.rmtree(bundle.folder)
    scripted_bundle(tmp_path / "bundle", max_new_tokens=100)
    with pytest.raises(BundleError, match="is not signed"):  # a rollback is no way around it
        Preparer(config).plan("lid", recipe.internal_id)
    shutil.copy(tmp_path / "bundle.sig", tmp_path / "bundles" / "old.sig")
    assert Preparer(config).plan("lid", recipe.internal_id).recipe.signer == signer
    with pytest.raises(BundleError, match="does not hold"):
        Preparer(config).plan("lid")


def test_commands(bundle: Bundle, keys: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    name, (private, public) = str(bundle.folder), map(str, keys)
    assert main(["verify-signature", name, "--public-key", public]) == 2
    assert main(["sign", name, "--key", private]) == 0
    assert main(["verify-signature", name, "--public-key", public]) == 0
    assert "bundle: signed by key" in capsys.readouterr().out
    (bundle.folder / "vision.data").write_text("vision.dat!")
    assert main(["sign", name, "--key", private, "--force"]) == 2  # nobody signs a damaged bundle


def test_without_the_extra_the_error_names_it(
    bundle: Bundle, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "model_signing"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(DependencyError, match=r"judo-edge\[signing\]"):
        sign_bundle(bundle, keys[0])
