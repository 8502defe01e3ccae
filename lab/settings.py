"""How the lab is served: one table, read from the environment (LAB_HOST, LAB_PORT, …) and from `python -m lab app`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lab.archives import MAX_ZIP
from lab.errors import LabError
from lab.people import LOCAL, Person, Role
from lab.variants import Options

Named = BeforeValidator(lambda value: value.split(",") if isinstance(value, str) else value)
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Settings(Options):
    """Everything that whoever serves a lab decides."""

    host: str = Field(default="127.0.0.1", max_length=255, description="address to listen on")
    port: int | None = Field(
        default=None, ge=1, le=65535, description="port; the first free one from 7860 on"
    )
    login: Literal["none", "users", "oauth"] = Field(
        default="none", description="none, users (the file of `user`), or oauth (Hugging Face, on a Space)"
    )
    train: Literal["auto", "everybody", "users", "teachers", "nobody"] = Field(
        default="auto",
        description="who may train: everybody, users, teachers, nobody; auto: who logged in, and everybody on this machine",
    )
    teachers: Annotated[tuple[str, ...], Named] = Field(
        default=(), max_length=100, description="Hugging Face names of the teachers, with commas between"
    )
    most: int = Field(
        default=100_000,
        ge=1,
        le=10**9,
        description="images × steps of one request of somebody who is not local",
    )
    pace: int = Field(default=30, ge=1, le=10_000, description="heavy requests a minute of one of them")
    queue: int = Field(default=64, ge=1, le=1000, description="requests that may wait at once")
    upload_mib: int = Field(
        default=MAX_ZIP // 2**20, ge=1, le=MAX_ZIP // 2**20, description="largest uploaded file in MiB"
    )
    mcp: bool = Field(default=False, description="also serve MCP tools; needs requirements-mcp.txt")

    @model_validator(mode="after")
    def _is_possible(self) -> Settings:
        if self.login == "oauth" and not os.environ.get(
            "OAUTH_CLIENT_ID"
        ):  # Gradio would log everybody in as us
            raise LabError(
                "Login through Hugging Face works on a Space with `hf_oauth: true`; elsewhere use users."
            )
        return self

    @classmethod
    def read(cls, environment: Mapping[str, str] = os.environ, **given: Any) -> Settings:
        """Settings from LAB_HOST, LAB_LOGIN and so on; what is given, but for None, comes before them."""
        said = {
            name: environment[f"LAB_{name.upper()}"]
            for name in cls.model_fields
            if f"LAB_{name.upper()}" in environment
        }
        hosted = "0.0.0.0" if environment.get("SPACE_ID") else environment.get("GRADIO_SERVER_NAME")
        usual = {"host": hosted} if hosted else {}
        wanted = {name: value for name, value in given.items() if value is not None}
        return cls.of(**{**usual, **said, **wanted})

    @property
    def is_local(self) -> bool:
        """Whether only people at this machine come, and none of them logs in: all are one owner."""
        return self.login == "none" and self.host in LOOPBACK

    def person(self, name: str, role: Role) -> Person:
        """Somebody who came to the page, with what they may do."""
        if self.is_local:
            return Person(LOCAL, "teacher")
        return Person(name, role, self._may_train(role), self.most, self.pace)

    def _may_train(self, role: Role) -> bool:
        allowed = {
            "auto": ("teacher", "student"),
            "users": ("teacher", "student"),
            "teachers": ("teacher",),
            "everybody": ("teacher", "student", "visitor"),
            "nobody": (),
        }
        return role in allowed[self.train]
