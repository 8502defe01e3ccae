"""The users of a served lab: names, roles and salted scrypt hashes in one file that only its owner can read."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from cachetools import TTLCache
from filelock import FileLock
from pydantic import Field

from lab.errors import LabError, UnknownName
from lab.models import as_json
from lab.people import checked
from lab.pictures import write_atomically
from lab.places import home
from lab.variants import Options, unknown

# RFC 7914; these take 32 MiB and some 80 ms for each guess
COST: dict[str, int] = {"n": 2**15, "r": 8, "p": 1, "maxmem": 2**26}
MAX_PASSWORD = 256
SHORTEST = 8
WRONG, PAUSE = 10, 60.0  # wrong passwords for one name, after which it lets nobody in for so many seconds
_TRIED: TTLCache[str, int] = TTLCache(10_000, PAUSE)
_LOCK = Lock()


class User(Options):
    """One line of the file."""

    role: Literal["student", "teacher"] = "student"
    salt: str = Field(max_length=64)
    hash: str = Field(max_length=128)

    def opens_with(self, password: str) -> bool:
        """Whether this is the password; takes as long for a wrong one."""
        return hmac.compare_digest(_hash(password, self.salt), self.hash)


NOBODY = User(salt="AAAA", hash="")  # is asked for a name that is not there, so that time does not tell


class Users:
    """The file of users, read anew each time: who is removed is out at once."""

    def __init__(self, path: Path | None = None):
        self.path = path or Path(os.environ.get("LAB_USERS") or home() / "users.json")

    def all(self) -> dict[str, User]:
        """Everybody in the file, by name; none where there is no file."""
        try:
            found = json.loads(self.path.read_bytes())
            return {checked(name): User.of(**user) for name, user in found.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            raise LabError(f"The file of users, {self.path.name}, is damaged; nobody can log in.") from None

    def accepts(self, name: str, password: str) -> bool:
        """Whether somebody of this name has this password; after too many wrong ones nobody has, for a minute.

        Who is logged in already stays so, whatever somebody else tries under their name.
        """
        user, key = self.all().get(name, NOBODY), name[:60]
        with _LOCK:
            _TRIED[key] = tried = _TRIED.get(key, 0) + 1  # before it is checked: guesses come side by side
        if tried > WRONG or len(password) > MAX_PASSWORD or not user.opens_with(password):
            return False
        with _LOCK:
            _TRIED.pop(key, None)
        return True

    def add(self, name: str, password: str, role: Literal["student", "teacher"]) -> None:
        """Write somebody into the file; the same name again gets another password or role."""
        if not SHORTEST <= len(password) <= MAX_PASSWORD:
            raise LabError(f"A password has {SHORTEST} to {MAX_PASSWORD} characters.")
        salt = base64.b64encode(secrets.token_bytes(16)).decode()
        user = User(role=role, salt=salt, hash=_hash(password, salt))
        with FileLock(f"{self._ready()}.lock"):
            self._write({**self.all(), checked(name): user})

    def remove(self, name: str) -> None:
        """Take somebody out of the file; their runs and pictures stay."""
        with FileLock(f"{self._ready()}.lock"):
            left = self.all()
            if left.pop(name, None) is None:
                raise UnknownName(unknown("user", name, list(left)))
            self._write(left)

    def _ready(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.path

    def _write(self, users: dict[str, User]) -> None:
        plain: dict[str, Any] = {name: user.model_dump() for name, user in sorted(users.items())}
        write_atomically(self.path, as_json(plain), mode=0o600)


def _hash(password: str, salt: str) -> str:
    found = hashlib.scrypt(password.encode(), salt=base64.b64decode(salt), dklen=32, **COST)
    return base64.b64encode(found).decode()
