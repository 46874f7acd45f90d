from __future__ import annotations

import json
from pathlib import Path

import pytest

from judo_edge.errors import ConfigError, InputError
from judo_edge.station.users import Role, User, UserStore

PASSWORD = "correct horse battery"


def store(folder: Path) -> UserStore:
    return UserStore(folder / "data" / "users.json")


def test_only_the_right_password_of_a_known_user_is_accepted(tmp_path: Path) -> None:
    users = store(tmp_path)
    users.add("eva", PASSWORD, Role.ENGINEER)
    assert users.check("eva", PASSWORD) == User("eva", Role.ENGINEER)
    assert users.check("eva", PASSWORD + "x") is None
    assert users.check("eva", "") is None
    assert users.check("adam", PASSWORD) is None


def test_the_file_is_private_and_holds_no_password(tmp_path: Path) -> None:
    users = store(tmp_path)
    users.add("eva", PASSWORD, Role.ENGINEER)
    users.add("ole", PASSWORD, Role.OPERATOR)
    path = tmp_path / "data" / "users.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in path.read_text()
    first, second = json.loads(path.read_text())["users"]
    assert first["digest"] != second["digest"], "a salt of its own for each user"
    assert sorted(one.name for one in path.parent.iterdir()) == ["users.json", "users.lock"]


@pytest.mark.parametrize("password", ["", "short", "x" * 9, "x" * 1001])
def test_short_and_endless_passwords_are_refused(tmp_path: Path, password: str) -> None:
    with pytest.raises(InputError, match="10 to 1000 characters"):
        store(tmp_path).add("eva", password, Role.OPERATOR)


@pytest.mark.parametrize("name", ["", "a b", "<b>", "../eva", "x" * 65, "eva\n"])
def test_a_name_is_plain(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="user name"):
        store(tmp_path).add(name, PASSWORD, Role.OPERATOR)


def test_another_process_changes_are_seen(tmp_path: Path) -> None:
    running, command = store(tmp_path), store(tmp_path)
    assert running.list() == ()
    command.add("eva", PASSWORD, Role.OPERATOR)
    assert running.list() == (User("eva", Role.OPERATOR),)
    command.set_password("eva", "another long one")
    assert running.check("eva", PASSWORD) is None
    assert running.check("eva", "another long one") == User("eva", Role.OPERATOR)
    command.remove("eva")
    assert running.check("eva", "another long one") is None and running.get("eva") is None


def test_a_name_is_taken_once_and_only_a_user_is_changed(tmp_path: Path) -> None:
    users = store(tmp_path)
    users.add("eva", PASSWORD, Role.OPERATOR)
    with pytest.raises(InputError, match="exists already"):
        users.add("eva", PASSWORD, Role.ENGINEER)
    for change in (lambda: users.remove("adam"), lambda: users.set_password("adam", PASSWORD)):
        with pytest.raises(InputError, match="no user 'adam'"):
            change()
    assert users.list() == (User("eva", Role.OPERATOR),)


def test_a_broken_file_lets_nobody_in(tmp_path: Path) -> None:
    users = store(tmp_path)
    users.add("eva", PASSWORD, Role.OPERATOR)
    (tmp_path / "data" / "users.json").write_text('{"users": [{"name": "eva"}]}')
    with pytest.raises(ConfigError, match="cannot be read"):
        users.check("eva", PASSWORD)


def test_an_engineer_may_what_an_operator_may() -> None:
    assert Role.ENGINEER.covers(Role.OPERATOR) and Role.ENGINEER.covers(Role.ENGINEER)
    assert Role.OPERATOR.covers(Role.OPERATOR) and not Role.OPERATOR.covers(Role.ENGINEER)
