"""The commands of who runs a station: its users."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from judo_edge.cli.app import app, noted
from judo_edge.errors import InputError

if TYPE_CHECKING:
    from judo_edge.station.users import UserStore

station = typer.Typer(help="A station: its users.", no_args_is_help=True)
users = typer.Typer(help="Who may use the web page and the OPC UA server.", no_args_is_help=True)
station.add_typer(users, name="user")
app.add_typer(station, name="station")

Name = Annotated[str, typer.Argument(metavar="NAME", help="User name.")]
StationFile = Annotated[Path, typer.Option("--station", metavar="STATION.toml", help="Settings of the station.")]
Password = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input instead of asking for it.")
]


@users.command("add")
def add_user(
    name: Name,
    station: StationFile,
    role: Annotated[str, typer.Option("--role", help="operator or engineer.")] = "operator",
    password_stdin: Password = False,
) -> None:
    """Add a user."""
    from judo_edge.station.users import Role

    roles = [one.value for one in Role]
    if role not in roles:
        raise InputError(f"role {role!r}", f"one of {', '.join(roles)}")
    added = _store(station).add(name, _password(password_stdin), Role(role))
    noted(f"{added.name} may use the station as {added.role.value}")


@users.command("password")
def set_password(name: Name, station: StationFile, password_stdin: Password = False) -> None:
    """Give a user another password."""
    _store(station).set_password(name, _password(password_stdin))
    noted(f"{name} has another password")


@users.command("list")
def list_users(station: StationFile) -> None:
    """List the users and their roles."""
    from judo_edge.terminal import print_table

    print_table(("user", "role"), [(one.name, one.role.value) for one in _store(station).list()])


@users.command("remove")
def remove_user(name: Name, station: StationFile) -> None:
    """Remove a user; open sessions end at their next request."""
    _store(station).remove(name)
    noted(f"{name} is no longer a user")


def _store(station: Path) -> UserStore:
    from judo_edge.station.config import station_from_file
    from judo_edge.station.users import FILE_NAME, UserStore

    return UserStore(station_from_file(station).data / FILE_NAME)


def _password(is_from_stdin: bool) -> str:
    if is_from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
