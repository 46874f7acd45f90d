"""What a station's file names: bundles, references, cameras, ports, certificates, users."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from judo_edge.core import Decision
from judo_edge.errors import InputError, JudoEdgeError
from judo_edge.station.config import RecipeTable, StationConfig
from judo_edge.station.doctor.findings import Finding, fail, ok, warn
from judo_edge.station.masters import masters_of_recipe
from judo_edge.station.supervisor.folders import run_folder_of
from judo_edge.station.workers import SOCKET_NAME

CAMERA_SECONDS = 30.0
_LEAST_DAYS = 30
_BROKER_SECONDS = 3.0


def recipe(config: StationConfig, table: RecipeTable) -> Iterator[Finding]:
    """Open and verify a recipe's bundle, its signature and its gates; look at references and decision."""
    from judo_edge.bundle.acceptance import acceptance_text, check_accepted
    from judo_edge.station.judge.bundles import current_bundle

    name = f"recipe {table.id}"
    bundle = current_bundle(config, table)
    yield ok(f"{name} bundle", f"{bundle.manifest.name}, digest {bundle.subject_digest[:12]}, every file verified")
    check_accepted(bundle, table.accept_failed)
    known = acceptance_text(bundle)
    if known.startswith("passed"):
        yield ok(f"{name} gate", known)
    else:
        yield warn(f"{name} gate", known, "judo-edge verify BUNDLE --against CHECKPOINT --items ITEMS.csv")
    if table.public_key is None:
        yield warn(f"{name} signature", "not asked for", "judo-edge sign BUNDLE, then set public_key")
    else:
        from judo_edge.station.judge.signing import verified_signer

        yield ok(f"{name} signature", f"of {verified_signer(bundle, config.path(table.public_key))[:16]}")
    yield from _references(config, table, bundle)


def _references(config: StationConfig, table: RecipeTable, bundle: object) -> Iterator[Finding]:
    from judo_edge.bundle import Bundle
    from judo_edge.runtime.decisions import applicable_decision, circumstances_of
    from judo_edge.runtime.references import ReferenceStore

    assert isinstance(bundle, Bundle)
    name, store = f"recipe {table.id}", ReferenceStore(config.store)
    references = store.references(table.part)
    if not references:
        enroll = f"judo-edge enroll --part {table.part} --store {config.store} GOOD_PHOTOS"
        yield fail(f"{name} references", f"no good part {table.part!r} in {config.store}", enroll)
        return
    for one in references:
        store.image(one)
    yield ok(f"{name} references", f"{len(references)} good parts, pixels as enrolled")
    here = circumstances_of(bundle, config.station.engine, [one.reference_id for one in references])
    decision, why = applicable_decision(config.store, table.part, here)
    if decision is None:
        yield warn(f"{name} decision", why, "until then JUDO's own words decide, and it over-calls defects")
    else:
        yield ok(f"{name} decision", f"version {decision.version}, threshold {decision.threshold:.3g}")


def masters(config: StationConfig, table: RecipeTable) -> Iterator[Finding]:
    """See that challenge parts are laid out where the station needs them to say OK."""
    folder = config.path(config.challenge.masters)
    found = [master.wanted for master in masters_of_recipe(folder, table.id)]
    num_bad, name = found.count(Decision.NOK), f"recipe {table.id} masters"
    action = f"put photos of known-bad parts into {folder / table.id / 'fail'}, of known-good ones into pass beside it"
    if config.challenge.is_required and not num_bad:
        yield fail(name, "none that must fail, and one is required: the station says no OK", action)
    elif not found:
        yield warn(name, "none: nothing shows at start and shift that bad parts are still found", action)
    else:
        yield ok(name, f"{num_bad} must fail, {len(found) - num_bad} must pass")


def camera(config_file: Path, name: str) -> Iterator[Finding]:
    """Open a camera in a process of its own and take photos, within a time limit: a driver may hang."""
    command = (sys.executable, "-m", "judo_edge.station.doctor.look", str(config_file), name)
    label = f"camera {name}"
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=CAMERA_SECONDS, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        yield fail(label, f"no answer from the driver within {CAMERA_SECONDS:.0f} s", "unplug it, plug it in again")
        return
    last = (found.stdout.strip().splitlines() or [""])[-1]
    try:
        yield Finding.model_validate({"name": label, **json.loads(last)})
    except ValueError:
        text = (found.stderr.strip().splitlines() or [f"exit status {found.returncode}"])[-1]
        yield fail(label, text, "see what the driver needs")


def running(config: StationConfig) -> bool:
    """Tell whether this station's hub answers at its socket."""
    path = run_folder_of(config) / SOCKET_NAME
    with suppress(OSError), socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(2.0)
        caller.connect(str(path))
        return True
    return False


def hub(config: StationConfig) -> Iterator[Finding]:
    """Say whether the station runs now, and how it is."""
    if not running(config):
        yield ok("station", "does not run now")
        return
    from judo_edge.station.client import StationClient
    from judo_edge.station.supervisor.progress import text_of_status

    async def asked() -> str:
        async with StationClient(run_folder_of(config) / SOCKET_NAME, "doctor") as client:
            return text_of_status(await asyncio.wait_for(client.status(), 5.0))

    yield ok("station", f"runs: {asyncio.run(asked())}")


def ports(config: StationConfig) -> Iterator[Finding]:
    """See that what façades listen on is free, or theirs already."""
    tables = (("opcua", config.opcua), ("web", config.web))
    for name, table in tables:
        if not table.is_on or not table.port:
            continue
        with socket.socket(socket.AF_INET6 if ":" in table.host else socket.AF_INET) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((table.host, table.port))
            except OSError as error:
                yield _taken(config, name, f"{table.host}:{table.port}", error, table.port)
            else:
                yield ok(f"port {name}", f"{table.host}:{table.port} is free")


def broker(config: StationConfig) -> Iterator[Finding]:
    """See that the MQTT broker takes connections, where one is to be told."""
    if not config.mqtt.is_on:
        return
    host, port = config.mqtt.host, config.mqtt.port
    try:
        socket.create_connection((host, port), timeout=_BROKER_SECONDS).close()
    except OSError as error:
        action = "start it, or correct mqtt.host and mqtt.port; results are kept until then"
        yield warn("mqtt", f"no broker at {host}:{port}: {error.strerror or error}", action)
    else:
        yield ok("mqtt", f"a broker listens at {host}:{port}")


def _taken(config: StationConfig, name: str, address: str, error: OSError, port: int) -> Finding:
    if running(config):
        return ok(f"port {name}", f"{address} is in use, and this station runs")
    found = f"{address}: {error.strerror}{_holder(port)}"
    return fail(f"port {name}", found, f"end that program, or set {name}.port")


def _holder(port: int) -> str:
    """Name the process that listens on a port, where this user may see it."""
    wanted = f":{port:04X}"
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
            inodes |= {f"socket:[{row[9]}]" for row in rows if row[1].endswith(wanted) and row[3] == "0A"}
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if str(handle.readlink()) in inodes:
                command = (handle.parent.parent / "comm").read_text().strip()
                return f", held by {command} (process {handle.parent.parent.name})"
    return ""


def certificates(config: StationConfig) -> Iterator[Finding]:
    """Look at the age of every certificate that the station uses."""
    paths = sorted((config.data / "pki").rglob("*.der")) + sorted((config.data / "pki").rglob("*.pem"))
    paths += [config.path(path) for path in (config.web.certificate, config.mqtt.ca) if path is not None]
    for path in paths:
        if "key" in path.name:
            continue
        yield _certificate(path)


def _certificate(path: Path) -> Finding:
    try:
        from cryptography import x509
    except ModuleNotFoundError:
        return warn(
            f"certificate {path.name}", "the package cryptography is not installed", "judo-edge[opcua] brings it"
        )
    try:
        data = path.read_bytes()
        read = x509.load_pem_x509_certificate if data.startswith(b"-----") else x509.load_der_x509_certificate
        end = read(data).not_valid_after_utc
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}", "a certificate", "replace the file") from error
    days = (end - datetime.now(timezone.utc)).days
    text = f"{path.name} is valid until {end:%Y-%m-%d} ({days} days)"
    if days < 0:
        return fail("certificate", text, "make or fetch a new one, and have clients trust it")
    return warn("certificate", text, "renew it in time") if days < _LEAST_DAYS else ok("certificate", text)


def users(config: StationConfig) -> Iterator[Finding]:
    """See that somebody may use page and OPC UA server, where one is on."""
    from judo_edge.station.users import FILE_NAME, Role, UserStore

    if not (config.opcua.is_on or config.web.is_on):
        return
    known = UserStore(config.data / FILE_NAME).list()
    add = "judo-edge station user add NAME --station FILE --role engineer"
    if not known:
        yield fail("users", "none: nobody can log in", add)
    elif not any(user.role is Role.ENGINEER for user in known):
        yield warn("users", f"{len(known)}, none is an engineer", add)
    else:
        yield ok("users", f"{len(known)}")


def folders(config: StationConfig) -> Iterator[Finding]:
    """See that the run folder can be used, and how old the boot is that it belongs to."""
    folder = run_folder_of(config)
    parent = folder
    while not parent.exists():
        parent = parent.parent
    if os.access(parent, os.W_OK):
        yield ok("run folder", f"{folder}, machine up for {time.clock_gettime(time.CLOCK_MONOTONIC) / 3600:.0f} h")
    else:
        raise JudoEdgeError(f"run folder {folder}: {parent} cannot be written to", "", "set station.run_folder")
