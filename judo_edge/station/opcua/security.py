"""Who may speak to the server: certificates, users, and what each role may do.

Own key and certificate lie in `<data>/pki/own`, trusted clients' certificates (DER or PEM) in `<data>/pki/trusted`. One
that is not trusted is written to `<data>/pki/rejected`, from where an engineer may move it; no restart is needed.
Trust is in the very certificate, not in who issued it.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto import cert_gen
from asyncua.crypto.permission_rules import SimpleRoleRuleset, UserRole
from asyncua.crypto.permission_rules import User as SessionUser
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from judo_edge.errors import ConfigError
from judo_edge.files import output_errors, sha256_of_bytes, write_atomic
from judo_edge.station.attempts import Attempts
from judo_edge.station.config import StationConfig
from judo_edge.station.opcua.space import CALLER
from judo_edge.station.users import FILE_NAME, User, UserStore

_log = logging.getLogger(__name__)
_DAYS, _RENEW_DAYS = 3650, 30
_MAX_REJECTED, _MAX_CERTIFICATE = 50, 64 << 10
_POLICIES = {
    "Basic256Sha256": ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    "Aes128_Sha256_RsaOaep": ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    "Aes256_Sha256_RsaPss": ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
}


@dataclass
class StationSessionUser(SessionUser):
    """A session's user as asyncua keeps it, with ours."""

    station_user: User | None = None


class Users:
    """asyncua's user manager over the station's users; also checks the certificate of the channel once more.

    A session may be activated from another channel than the one that made it, whose certificate nobody looked at.
    """

    def __init__(self, store: UserStore, trust: TrustList) -> None:
        """Take the station's users and the trusted certificates."""
        self._store, self._trust, self._attempts = store, trust, Attempts()

    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        """Return the session's user, None when name, password or certificate are not right."""
        if not username or certificate is None or not self._trust.is_trusted(bytes(certificate)):
            _log.warning("a session without user name, or over an untrusted certificate, is refused")
            return None
        secret = password.decode("utf-8", "replace") if isinstance(password, bytes) else str(password or "")
        user = self._checked(str(username), secret, bytes(certificate))
        return StationSessionUser(UserRole.User, user.name, user) if user else None

    def _checked(self, name: str, secret: str, certificate: bytes) -> User | None:
        """Check a password, unless its client has to wait: a check takes 0.1 s of the server's loop.

        A client is its certificate; where any certificate will do, it is the name that is tried.
        """
        keys = [name if self._trust.trusts_all else sha256_of_bytes(certificate)]
        if self._attempts.wait(keys) > 0:
            _log.warning("user %.64r is refused: its client has to wait after wrong passwords", name)
            return None
        self._attempts.count(keys)
        try:
            user = self._store.check(name, secret)
        except ConfigError as error:
            _log.error("nobody can log in: %s", error)
            return None
        if user:
            self._attempts.forget(keys)
        else:
            _log.warning("user %.64r is refused: no such user, or another password", name)
        return user


class Roles(SimpleRoleRuleset):
    """Notes who is asking for every request; methods look at it. Nobody may change the address space."""

    def check_validity(self, user: Any, action_type_id: ua.NodeId, body: Any) -> bool:
        """Tell whether a session may make this kind of request."""
        known = user.station_user if isinstance(user, StationSessionUser) else None
        CALLER.set(known)
        return known is not None and bool(super().check_validity(user, action_type_id, body))


class TrustList:
    """The certificates of clients, read from their folder each time one is asked for."""

    def __init__(self, folder: Path, trust_all: bool = False) -> None:
        """Name the folder `<data>/pki`; with `trust_all` every certificate will do."""
        self._trusted, self._rejected, self._trust_all = folder / "trusted", folder / "rejected", trust_all
        for one in (self._trusted, self._rejected):
            with output_errors(one):
                one.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def trusts_all(self) -> bool:
        """Tell whether any certificate will do."""
        return self._trust_all

    def is_trusted(self, der: bytes) -> bool:
        """Tell whether a certificate, given as DER, may connect."""
        return self._trust_all or der in set(self._certificates())

    def _certificates(self) -> list[bytes]:
        found = [_der_from_file(path) for path in sorted(self._trusted.iterdir())]
        return [der for der in found if der]

    async def check(self, certificate: x509.Certificate, application: ua.ApplicationDescription) -> None:
        """Refuse a session whose certificate is out of date, of another application, or not trusted."""
        der = certificate.public_bytes(serialization.Encoding.DER)
        now = datetime.now(timezone.utc)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise ServiceError(ua.StatusCodes.BadCertificateTimeInvalid)
        if application.ApplicationUri not in _uris(certificate):
            raise ServiceError(ua.StatusCodes.BadCertificateUriInvalid)
        if not self.is_trusted(der):
            self._reject(certificate, der)
            raise ServiceError(ua.StatusCodes.BadCertificateUntrusted)

    def _reject(self, certificate: x509.Certificate, der: bytes) -> None:
        name = f"{certificate.fingerprint(hashes.SHA256()).hex()[:32]}.der"
        if (self._rejected / name).exists() or len(list(self._rejected.iterdir())) >= _MAX_REJECTED:
            return
        write_atomic(self._rejected / name, der)
        text = "a client's certificate is not trusted yet: %.100r; do: if it is yours, mv %s %s/"
        _log.warning(text, certificate.subject.rfc4514_string(), self._rejected / name, self._trusted)


def application_uri(config: StationConfig) -> str:
    """Return the server's ApplicationUri: one per machine and station."""
    return f"urn:{socket.gethostname()}:judo-edge:{config.station.name}"


async def secure(server: Server, config: StationConfig) -> None:
    """Let only encrypted channels, trusted certificates and the station's users in."""
    trust = TrustList(config.data / "pki", config.opcua.trust_all_clients)
    server.iserver.user_manager = Users(UserStore(config.data / FILE_NAME), trust)
    server.allow_remote_admin(False)
    server.set_identity_tokens([ua.UserNameIdentityToken])
    server.set_security_policy([_POLICIES[name] for name in config.opcua.policies], permission_ruleset=Roles())
    server.set_certificate_validator(trust.check)
    key, certificate = own_certificate(config)
    await server.load_certificate(certificate)
    await server.load_private_key(key)


def own_certificate(config: StationConfig) -> tuple[Path, Path]:
    """Return the server's key and certificate, made at the first start and when they no longer fit or soon end."""
    folder = config.data / "pki" / "own"
    key, certificate = folder / "key.pem", folder / "certificate.der"
    hosts = [host for host in (config.opcua.advertised, config.opcua.host, socket.gethostname()) if host]
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        if not key.exists():
            write_atomic(key, cert_gen.dump_private_key_as_pem(cert_gen.generate_private_key()), is_private=True)
            certificate.unlink(missing_ok=True)
    if not _fits(certificate, application_uri(config), hosts):
        write_atomic(certificate, _certificate(key, config, hosts), force=True)
    return key, certificate


def _certificate(key_file: Path, config: StationConfig, hosts: Sequence[str]) -> bytes:
    key: Any = serialization.load_pem_private_key(key_file.read_bytes(), None)
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(application_uri(config))]
    names += [_general_name(host) for host in dict.fromkeys(hosts)]
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    title = f"judo-edge {config.station.name}"[:64]
    made = cert_gen.generate_self_signed_app_certificate(key, title, {}, names, uses, days=_DAYS)
    der: bytes = made.public_bytes(serialization.Encoding.DER)
    return der


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _fits(path: Path, uri: str, hosts: Sequence[str]) -> bool:
    try:
        found = x509.load_der_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        return False
    until = found.not_valid_after_utc - timedelta(days=_RENEW_DAYS)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return datetime.now(timezone.utc) < until and uri in _uris(found) and all(_general_name(h) in names for h in hosts)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)


def _der_from_file(path: Path) -> bytes:
    """Return the certificate in a file, nothing when it holds none."""
    try:
        data = path.read_bytes() if path.stat().st_size <= _MAX_CERTIFICATE else b""
        is_pem = b"-----BEGIN CERTIFICATE-----" in data
        found = x509.load_pem_x509_certificate(data) if is_pem else x509.load_der_x509_certificate(data)
    except (OSError, ValueError):
        _log.warning("%s holds no certificate", path)
        return b""
    return found.public_bytes(serialization.Encoding.DER)
