"""Who may use a station: names, roles and salted password hashes in `<data>/users.json`.

One store for web page and OPC UA server. The file is read again when it changes, so that users are added and removed
while a station runs. Knows no transport and no session.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

from pydantic import Field

from judo_edge.config import Frozen, model_from_data
from judo_edge.errors import ConfigError, InputError
from judo_edge.files import output_errors, sync_to_disk, write_atomic

FILE_NAME = "users.json"
"""In the station's data folder."""
MIN_PASSWORD, MAX_PASSWORD = 10, 1000
"""Characters of a password; the longest keeps one attempt from costing more than its hash."""
_COST, _BLOCK, _PARALLEL, _SALT, _LENGTH = 2**14, 8, 5, 16, 32
"""scrypt with N = 2^14, r = 8, p = 5 , a setting that OWASP's password storage cheat sheet names: 16 MiB."""
_MAX_MEMORY = 64 << 20
_HEX = r"^[0-9a-f]+$"


class Role(str, Enum):
    """What a user may do."""

    OPERATOR = "operator"
    """See, trigger, confirm and overrule, ask."""
    ENGINEER = "engineer"
    """Also recipes, references, states and conditions."""

    def covers(self, wanted: Role) -> bool:
        """Tell whether who has this role may do what `wanted` may."""
        return self is Role.ENGINEER or self is wanted


@dataclass(frozen=True)
class User:
    """Someone who may use the station."""

    name: str
    role: Role


class _Hashed(Frozen):
    """A user as the file keeps one."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.@-]{1,64}$")]
    role: Role
    salt: Annotated[str, Field(pattern=_HEX)]
    digest: Annotated[str, Field(pattern=_HEX)]
    """scrypt of the password, hex."""


class _File(Frozen):
    users: tuple[_Hashed, ...] = ()


class UserStore:
    """The users of one station."""

    def __init__(self, path: Path) -> None:
        """Name the file (0600); one that does not exist holds nobody."""
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._users: dict[str, _Hashed] = {}
        salt, digest = secrets.token_hex(_SALT), secrets.token_hex(_LENGTH)
        self._nobody = _Hashed(name="nobody", role=Role.OPERATOR, salt=salt, digest=digest)

    def check(self, name: str, password: str) -> User | None:
        """Return the user whose password this is; takes as long for a name that nobody has. ConfigError: a broken file.

        Takes some 0.1 s of one core: call it in a thread where others wait.
        """
        known = self._read().get(name)
        kept = known or self._nobody
        digest = _digest(password[:MAX_PASSWORD], bytes.fromhex(kept.salt))
        is_right = hmac.compare_digest(digest, kept.digest)
        return User(known.name, known.role) if known and is_right else None

    def get(self, name: str) -> User | None:
        """Return a user without a password, to see whether a session's user still is one."""
        found = self._read().get(name)
        return User(found.name, found.role) if found else None

    def stamp(self, name: str) -> str:
        """Return what changes whenever a user's password or role does; empty when there is no such user."""
        found = self._read().get(name)
        return hashlib.sha256(found.model_dump_json().encode()).hexdigest() if found else ""

    def list(self) -> tuple[User, ...]:
        """Return all users by name."""
        return tuple(User(one.name, one.role) for _, one in sorted(self._read().items()))

    def add(self, name: str, password: str, role: Role) -> User:
        """Add a user; InputError for a name that is taken or no name, or a password that is too short."""
        added = _hashed(name, _checked(password), role)
        with self._changing() as users:
            if name in users:
                raise InputError(f"user {name!r} exists already", "a new name", "remove the user first")
            users[name] = added
        return User(name, role)

    def remove(self, name: str) -> None:
        """Remove a user; InputError when there is none of that name."""
        with self._changing() as users:
            self._known(users, name)
            del users[name]

    def set_password(self, name: str, password: str) -> None:
        """Give a user another password; InputError when there is none of that name or it is too short."""
        _checked(password)
        with self._changing() as users:
            users[name] = _hashed(name, password, self._known(users, name).role)

    def _known(self, users: dict[str, _Hashed], name: str) -> _Hashed:
        if name not in users:
            raise InputError(f"there is no user {name!r}", f"one of {', '.join(sorted(users)) or 'nobody yet'}")
        return users[name]

    def _read(self) -> dict[str, _Hashed]:
        """Return the users, read again if the file is another one than before."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._seen, self._users = None, {}
            return self._users
        seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if seen != self._seen:
            self._users, self._seen = _users_from_file(self._path), seen
        return self._users

    @contextmanager
    def _changing(self) -> Iterator[dict[str, _Hashed]]:
        """Yield the users to change and write them; one process at a time."""
        with output_errors(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            users = dict(self._read())
            yield users
            content = _File(users=tuple(users.values())).model_dump_json(indent=1).encode()
            write_atomic(self._path, content, force=True, is_private=True)
            with output_errors(self._path):
                sync_to_disk(self._path.parent)
        finally:
            os.close(lock)


def _checked(password: str) -> str:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        wanted = f"{MIN_PASSWORD} to {MAX_PASSWORD} characters"
        raise InputError(f"a password of {len(password)} characters", wanted, "choose another one")
    return password


def _hashed(name: str, password: str, role: Role) -> _Hashed:
    salt = secrets.token_bytes(_SALT)
    data = {"name": name, "role": role, "salt": salt.hex(), "digest": _digest(password, salt)}
    try:
        return model_from_data(_Hashed, data, "user")
    except ConfigError as error:
        wanted = "1 to 64 letters, digits or any of _ . @ -"
        raise InputError(f"user name {name!r}", wanted, "choose another name") from error


def _digest(password: str, salt: bytes) -> str:
    secret = password.encode("utf-8", "surrogatepass")
    digest = hashlib.scrypt(secret, salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL, maxmem=_MAX_MEMORY, dklen=_LENGTH)
    return digest.hex()


def _users_from_file(path: Path) -> dict[str, _Hashed]:
    try:
        found = _File.model_validate_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as a list of users", "the file as judo-edge wrote it") from error
    return {one.name: one for one in found.users}
