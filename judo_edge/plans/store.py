"""Plans on disk: one sealed file for each graph of a bundle and environment, in the user's cache folder.

A file is: magic, HMAC-SHA256 of the rest, length of the header, header (JSON: what the plan is), the builder's bytes. A
plan that was changed, cut short, sealed by another user or made for something else is refused by name before any of its
bytes reach TensorRT. Plans never enter a bundle.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, ValidationError

from judo_edge.config import Frozen
from judo_edge.errors import PlanError
from judo_edge.files import cache_folder, output_errors
from judo_edge.plans.environment import Environment
from judo_edge.plans.profiles import Profile

_MAGIC = b"JUDOPLN1"
_SEAL = hashlib.sha256().digest_size
_LENGTH = 8
_MAX_HEADER = 1 << 20
_SUFFIX = ".plan"


class PlanHeader(Frozen):
    """What a plan is; sealed together with its bytes."""

    bundle: str
    """Content digest of the bundle that the graph is from."""
    graph: str
    environment: Environment
    profiles: tuple[Profile, ...]
    """In the plan's order."""


class Plan(BaseModel):
    """A plan whose seal was found right."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    header: PlanHeader
    data: memoryview
    """The builder's bytes, in memory: what was checked is what will be used."""


def plan_path(folder: Path, bundle: str, environment: Environment, graph: str) -> Path:
    """Return the file of one graph's plan below a store's folder."""
    return folder / bundle[:16] / environment.key / f"{graph}{_SUFFIX}"


def plans_folder() -> Path:
    """Return the usual folder of a user's plans."""
    return cache_folder() / "plans"


class PlanWriter:
    """Takes a plan's bytes as they come and seals them."""

    def __init__(self, stream: BinaryIO, header: PlanHeader, key: bytes) -> None:
        """Write the header, leaving room for the seal."""
        self._stream, self._seal, self.size = stream, hmac.new(key, digestmod=hashlib.sha256), 0
        text = header.model_dump_json().encode()
        stream.write(_MAGIC + bytes(_SEAL))
        self._put(len(text).to_bytes(_LENGTH, "little") + text)

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes of the plan."""
        self._put(data)
        self.size += len(data)

    def close(self) -> None:
        """Put the seal in its place and flush."""
        self._stream.seek(len(_MAGIC))
        self._stream.write(self._seal.digest())
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _put(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._seal.update(data)


class PlanStore:
    """The sealed plans below one folder."""

    def __init__(self, folder: Path, key: bytes) -> None:
        """Remember where plans are kept and with what they are sealed; nothing is created."""
        self.folder, self._key = folder, key

    def path(self, bundle: str, environment: Environment, graph: str) -> Path:
        """Return the file of one graph's plan, whether it exists or not."""
        return plan_path(self.folder, bundle, environment, graph)

    @contextmanager
    def writer(self, header: PlanHeader) -> Iterator[PlanWriter]:
        """Yield a writer beside the plan's file; it is renamed when the block ends well, otherwise removed.

        Raises OutputError when the disk refuses, PlanError when nothing was written.
        """
        path = self.path(header.bundle, header.environment, header.graph)
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        try:
            with output_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with partial.open("wb") as stream:
                    writer = PlanWriter(stream, header, self._key)
                    yield writer
                    if not writer.size:
                        raise PlanError(f"the builder gave no bytes for {header.graph}")
                    writer.close()
                partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def write(self, header: PlanHeader, data: bytes | memoryview) -> Path:
        """Seal a plan that is in memory and return its file."""
        with self.writer(header) as writer:
            writer.write(data)
        return self.path(header.bundle, header.environment, header.graph)

    def read(self, bundle: str, environment: Environment, graph: str, rebuild: str) -> Plan:
        """Read and check a plan.

        Raises PlanError that names the file and `rebuild`, the command that makes it anew, when it is missing, cut
        short, changed, sealed with another key, or made for another bundle, environment or graph.
        """
        path = self.path(bundle, environment, graph)
        try:
            raw = path.read_bytes()
        except FileNotFoundError as error:
            raise PlanError(f"no plan of {graph} for {environment}", str(path), rebuild) from error
        except OSError as error:
            raise PlanError(f"{path}: {error.strerror}", "a readable plan", rebuild) from error
        plan = _checked(raw, path, self._key, rebuild)
        wanted = (bundle, environment, graph)
        if (plan.header.bundle, plan.header.environment, plan.header.graph) != wanted:
            found = f"{path} was made for {plan.header.graph} of {plan.header.bundle[:16]}, {plan.header.environment}"
            raise PlanError(found, f"{graph} of {bundle[:16]}, {environment}", rebuild)
        return plan

    def holds(self, header: PlanHeader) -> bool:
        """Tell whether an authentic plan with just this header is there."""
        try:
            plan = self.read(header.bundle, header.environment, header.graph, "")
        except PlanError:
            return False
        return plan.header == header


def _checked(raw: bytes, path: Path, key: bytes, rebuild: str) -> Plan:
    """Compare the seal before anything of the file is understood."""
    start = len(_MAGIC) + _SEAL
    if not raw.startswith(_MAGIC) or len(raw) < start + _LENGTH:
        raise PlanError(f"{path} is not a plan of judo-edge", "a sealed plan", rebuild)
    body = memoryview(raw)[start:]
    if not hmac.compare_digest(hmac.digest(key, body, "sha256"), raw[len(_MAGIC) : start]):
        raise PlanError(f"{path} was changed, cut short or made by another user", "a plan sealed here", rebuild)
    length = int.from_bytes(body[:_LENGTH], "little")
    try:
        header = PlanHeader.model_validate_json(bytes(body[_LENGTH : _LENGTH + min(length, _MAX_HEADER)]))
    except ValidationError as error:
        raise PlanError(f"{path} was made by another version of judo-edge", "this version's plan", rebuild) from error
    return Plan(header=header, data=body[_LENGTH + length :])
