"""What whoever serves a lab asks of it: whether it is ready, and who may come in."""

from __future__ import annotations

import tempfile
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import Field

from lab.errors import LabError
from lab.models import names
from lab.places import CHECKPOINTS, home
from lab.settings import Settings
from lab.store import Store
from lab.users import Users
from lab.variants import Options


class UserOptions(Options):
    """Who, and what is done."""

    what: Literal["list", "add", "remove"] = Field(default="list", description="list, add or remove")
    name: str = Field(default="", max_length=60, description="login name")
    role: Literal["student", "teacher"] = Field(
        default="student", description="a teacher sees everybody's runs"
    )
    password: str = Field(
        default="",
        max_length=256,
        repr=False,
        description="asked for where it is not given; a command line is no place for it",
    )


def user(options: UserOptions) -> list[dict[str, Any]]:
    """Who may log in to a served lab: list, add or remove users; afterwards the list, never with a hash."""
    users = Users()
    if options.what == "add":
        users.add(options.name, options.password or _typed(), options.role)
    elif options.what == "remove":
        users.remove(options.name)
    return [{"name": name, "state": each.role} for name, each in users.all().items()]


def _typed() -> str:
    """A password from standard input: unseen at a terminal, one line of it elsewhere."""
    import getpass
    import sys

    return getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")


def ready(settings: Settings) -> dict[str, bool]:
    """What must be there before anybody is served: models, a disk to write on, a queue, and who may log in."""
    return {
        "checkpoints": any((CHECKPOINTS / name).is_dir() for name in names()),
        "disk": _is_writable(),
        "queue": _has_queue(),
        "login": settings.login != "users" or _has_users(),
    }


def _is_writable() -> bool:
    try:
        home().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home()) as file:
            return file.write(b"ready") == 5
    except OSError:
        return False


def _has_queue() -> bool:
    """Whether the supervisor's lock can be taken, or somebody holds it."""
    try:
        root = Store().root
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "supervisor.lock").acquire(timeout=0):
            return True
    except Timeout:
        return True
    except OSError:
        return False


def _has_users() -> bool:
    try:
        return bool(Users().all())
    except LabError:
        return False
