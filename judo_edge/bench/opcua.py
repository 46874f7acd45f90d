"""How long a PLC waits: the Trigger method and the result event of a running OPC UA server, from a client's side.

Knows of the server only what `judo-edge opcua describe` tells: NodeIds. The clock is the client's own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from judo_edge.bench.statistics import Summary, summary_from_values
from judo_edge.config import Frozen
from judo_edge.errors import DependencyError, InputError, first_line

_METHODS, _TRIGGER, _SYSTEM = "ns=4;s=Tags.Methods", "ns=4;s=Tags.Methods.Trigger", "ns=4;s=VisionSystem"
_RESULT_READY = "ns=2;i=1024"
_URI = "urn:judo-edge:bench"
_PUBLISHING = 20
"""Milliseconds between two publications."""
_DRAIN = 10.0
"""Seconds that the last results may take."""


class OpcuaReport(Frozen):
    """What was measured; milliseconds."""

    rate: float
    """Parts per second that were asked for."""
    seconds: float
    triggered: int
    refused: int
    results: int
    method: Summary | None
    """From the call of Trigger to its answer."""
    event: Summary | None
    """From the call of Trigger to the event with its result, publishing every 20 ms."""


@dataclass
class _Run:
    """What a run has seen."""

    started: dict[str, float] = field(default_factory=dict)
    arrived: dict[str, float] = field(default_factory=dict)
    calls: list[float] = field(default_factory=list)
    refused: int = 0

    def event_notification(self, event: Any) -> None:
        """Note when a result came; asyncua calls this by name."""
        self.arrived[str(event.JobId.Id)] = time.perf_counter()


def measure(
    url: str, user: str, password: str, rate: float, seconds: float, pki: Path, note: Callable[[str], None]
) -> OpcuaReport:
    """Trigger at a rate for some seconds.

    `pki` holds the client's key and certificate, made there at the first run. InputError when the server does not let
    it in, DependencyError without asyncua.
    """
    try:
        import asyncua
    except ModuleNotFoundError as error:
        found = "this measurement needs asyncua"
        raise DependencyError(found, "the extra opcua", "pip install 'judo-edge[opcua]'") from error
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # it tells what is raised as well
    key, certificate = own_certificate(pki, note)
    try:
        return asyncio.run(_measured(url, user, password, rate, seconds, key, certificate))
    except (OSError, asyncio.TimeoutError, asyncua.ua.UaError) as error:
        raise InputError(
            f"{url}: {_why(error)}", "a server that lets us in", _what_to_do(error, certificate)
        ) from error


def _why(error: Exception) -> str:
    names = {
        ConnectionRefusedError: "nothing listens there",
        asyncio.TimeoutError: "no answer",
        TimeoutError: "no answer",
    }
    return names.get(type(error)) or f"{type(error).__name__}: {first_line(error)}"


def _what_to_do(error: Exception, certificate: Path) -> str:
    """Say what helps against the refusals that a server has."""
    trust = f"copy {certificate} into <data>/pki/trusted of the station"
    known = {
        "BadCertificateUntrusted": trust,
        "BadSecurityChecksFailed": trust,
        "BadUserAccessDenied": "check user and password",
        "BadIdentityTokenRejected": "check user and password",
    }
    return known.get(
        type(error).__name__, "start the station, and see that host and port are those of its [opcua] table"
    )


def own_certificate(pki: Path, note: Callable[[str], None]) -> tuple[Path, Path]:
    """Return the client's key and certificate, made where there are none."""
    from asyncua.crypto import cert_gen
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID

    key_file, certificate = pki / "key.pem", pki / "certificate.der"
    if not (key_file.exists() and certificate.exists()):
        pki.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = cert_gen.generate_private_key()
        key_file.touch(mode=0o600)
        key_file.write_bytes(cert_gen.dump_private_key_as_pem(key))
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(_URI)]
        made = cert_gen.generate_self_signed_app_certificate(
            key, "judo-edge bench", {}, names, [ExtendedKeyUsageOID.CLIENT_AUTH]
        )
        certificate.write_bytes(made.public_bytes(Encoding.DER))
        note(f"made {certificate}: copy it into <data>/pki/trusted of the station")
    return key_file, certificate


async def _measured(
    url: str, user: str, password: str, rate: float, seconds: float, key: Path, certificate: Path
) -> OpcuaReport:
    from asyncua import Client
    from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

    if not urlparse(url).port:
        raise InputError(f"url {url!r}", "opc.tcp://HOST:PORT/judo-edge/")
    client = Client(url, timeout=10)
    client.application_uri = _URI
    client.set_user(user)
    client.set_password(password)
    await client.set_security(SecurityPolicyBasic256Sha256, str(certificate), str(key))
    run = _Run()
    async with client:
        await client.load_data_type_definitions()
        subscription = await client.create_subscription(_PUBLISHING, run)
        kind, system = client.get_node(_RESULT_READY), client.get_node(_SYSTEM)
        await subscription.subscribe_events(system, kind, queuesize=1000)
        await _trigger(client, run, rate, seconds)
        await _until_drained(run)
    return _report(run, rate, seconds)


async def _trigger(client: Any, run: _Run, rate: float, seconds: float) -> None:
    methods, trigger = client.get_node(_METHODS), client.get_node(_TRIGGER)
    begin = time.perf_counter()
    for number in range(max(1, round(rate * seconds))):
        await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))
        start = time.perf_counter()
        accepted, job_id, _ = await methods.call_method(trigger, f"bench-{number}", "")
        run.calls.append(time.perf_counter() - start)
        if accepted:
            run.started[str(job_id)] = start
        else:
            run.refused += 1


async def _until_drained(run: _Run) -> None:
    end = time.perf_counter() + _DRAIN
    while run.started.keys() - run.arrived.keys() and time.perf_counter() < end:
        await asyncio.sleep(0.02)


def _report(run: _Run, rate: float, seconds: float) -> OpcuaReport:
    waited = [run.arrived[job] - start for job, start in run.started.items() if job in run.arrived]
    return OpcuaReport(
        rate=rate,
        seconds=seconds,
        triggered=len(run.started),
        refused=run.refused,
        results=len(waited),
        method=summary_from_values(run.calls, 1000),
        event=summary_from_values(waited, 1000),
    )


def rows_from_report(report: OpcuaReport) -> list[tuple[str, ...]]:
    """Return the table: what was waited for, and p50, p99 and max in milliseconds."""
    rows = []
    for name, summary in (("Trigger method", report.method), ("trigger to result event", report.event)):
        figures = (summary.p50, summary.p99, summary.max) if summary else ()
        rows.append((name, str(summary.count if summary else 0), *(f"{figure:.1f}" for figure in figures)))
    return rows
