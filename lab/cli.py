"""The command line, made from the operations' option models: `python -m lab OPERATION --option value`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from lab import space
from lab.borrowed import gradio
from lab.errors import LabError
from lab.ops import OPERATIONS, TABLES, Operation
from lab.printing import table
from lab.progress import Tick
from lab.settings import Settings

GONE = 141  # 128 + SIGPIPE, what a shell calls a command whose reader has gone
POSITIONAL = {
    "bench": ("what",),
    "list": ("what",),
    "describe": ("checkpoint",),
    "keep": ("file",),
    "hide": ("picture",),
    "reveal": ("checkpoint",),
    **dict.fromkeys(("show", "watch", "again", "stop", "resume", "attend", "rename", "delete"), ("run",)),
    "work": ("folder",),
    "study": ("what", "name"),
    "castle": ("what", "do"),
    "hub": ("what", "text"),
    "discard": ("checkpoint",),
    "export": ("checkpoint",),
    "import": ("file",),
    "publish": ("checkpoint", "repo"),
    "user": ("what", "name"),
}
EPILOG = (
    "Options of a trigger, target, sampler, attack or dataset follow a dot: --trigger grey_box --trigger.size 8, "
    "--attack baddiffusion --attack.trigger stop_sign --attack.poison_rate 0.2; or give JSON in one piece."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one operation; 0 done, 1 refused with a sentence on stderr, 130 stopped, 141 nobody read its result."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["app"]:
            return _app(words[1:])
        return _run(words[1:] if words[:2] == ["hub", "publish"] else words)  # beside hub search and pull
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a folder that cannot be written, a full disk
        where = f" ({error.filename})" if error.filename else ""
        print(f"error: {error.strerror or error}{where}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(words: list[str]) -> int:
    options, dotted = parser().parse_known_args(words)
    operation = OPERATIONS[options.operation]
    values = {k: v for k, v in vars(options).items() if k not in ("operation", "json")}
    result = follow(operation(**nested(values, dotted)), quiet=options.json)
    return _say(json.dumps(result, ensure_ascii=False) if options.json else table(result))


def _say(text: str) -> int:
    """Print; a reader that has gone, such as `head`, ends it in silence, as it ends other commands."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return GONE
    return 0


def _app(words: list[str]) -> int:
    page = argparse.ArgumentParser(prog="python -m lab app", description="Start the lab's page.")
    for name, field in Settings.model_fields.items():
        how: dict[str, Any] = {"action": argparse.BooleanOptionalAction} if field.annotation is bool else {}
        text = f"{field.description} (default: {field.default}; also LAB_{name.upper()})"
        page.add_argument(f"--{name.replace('_', '-')}", default=None, help=text.replace("%", "%%"), **how)
    space.arrive()
    gradio()
    from lab.ui import launch

    launch(Settings.read(**vars(page.parse_args(words))))
    return 0


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="python -m lab", description="A hands-on lab for backdoors in diffusion models."
    )
    commands = top.add_subparsers(dest="operation", required=True, metavar="OPERATION")
    commands.add_parser("app", help="Start the lab's page.")
    for operation in OPERATIONS.values():
        _add(commands, operation)
    return top


def _add(commands: Any, operation: Operation) -> None:
    first_line = (operation.fn.__doc__ or "").strip().split("\n")[0]
    command = commands.add_parser(
        operation.name,
        help=first_line,
        description=first_line,
        epilog=EPILOG,
        argument_default=argparse.SUPPRESS,
    )
    command.add_argument(
        "--json",
        action="store_true",
        default=False,
        help="print the result as one line of JSON, nothing else",
    )
    fields = operation.options.model_fields
    positional = POSITIONAL.get(operation.name, ())
    for name, field in ((name, fields[name]) for name in dict.fromkeys([*positional, *fields])):
        text = f"{field.description or _kinds(field.metadata)}".replace("%", "%%")
        read = str if field.annotation is str else literal  # a checkpoint may be called 5, or 1e3
        if name in positional:
            command.add_argument(name, nargs=None if field.is_required() else "?", type=read, help=text)
        elif field.annotation is bool:
            flag = f"--{name.replace('_', '-')}"
            command.add_argument(flag, dest=name, action=argparse.BooleanOptionalAction, help=text)
        else:
            command.add_argument(
                f"--{name.replace('_', '-')}", dest=name, metavar="VALUE", type=read, help=text
            )


def _kinds(metadata: list[Any]) -> str:
    registry = next((entry for entry in metadata if entry in TABLES.values()), None)
    return f"{registry.what}: {', '.join(registry)}" if registry is not None else ""


def nested(values: dict[str, Any], dotted: Sequence[str]) -> dict[str, Any]:
    """Flat options and `--a.b value` pairs as nested options; values are read as JSON where they are JSON."""
    tree = dict(values)
    for flag, value in pairs(dotted):
        *path, leaf = flag.removeprefix("--").replace("-", "_").split(".")
        place = tree
        for part in path:
            inner = place.get(part)
            if not isinstance(inner, dict):
                place[part] = inner = {"kind": inner} if inner else {}
            place = inner
        place[leaf] = literal(value)
    return tree


def pairs(dotted: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Flag and value pairs; a lone or undotted flag is refused."""
    words = [part for word in dotted for part in (word.split("=", 1) if word.startswith("--") else [word])]
    for flag, value in zip(words[::2], [*words[1::2], None], strict=False):
        if flag.startswith("--") and "." in flag and value is None:
            raise LabError(f"{flag} needs a value.")
        if not flag.startswith("--") or "." not in flag:
            raise LabError(f"{flag!r} is not an option here; `--help` shows them.")
        yield flag, str(value)


def literal(value: Any) -> Any:
    """Text as JSON where it is a number, list or object; else the text; commas make a list of names."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value.split(",") if "," in value else value


def follow(result: Any, quiet: bool) -> Any:
    """Exhaust a long operation with a progress line on stderr and return its result."""
    if not isinstance(result, Iterator):
        return result
    last = None
    for news in result:
        if isinstance(news, Tick):
            _show(news, quiet)
        else:
            last = news
    return last


def _show(tick: Tick, quiet: bool) -> None:
    if quiet or (not sys.stderr.isatty() and tick.step % 100 and tick.step != tick.total):
        return
    values = "  ".join(f"{name} {value:.4f}" for name, value in tick.values.items())
    end = "\n" if tick.step == tick.total or not sys.stderr.isatty() else "\r"
    print(f"{tick.step}/{tick.total} {tick.text} {values}".ljust(90), end=end, file=sys.stderr, flush=True)
