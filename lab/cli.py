"""The command line, made from the operations' option models: `python -m lab OPERATION --option value`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from lab.errors import LabError
from lab.ops import OPERATIONS, TABLES, Operation
from lab.progress import Tick

POSITIONAL = {
    "bench": "what",
    "list": "what",
    "describe": "checkpoint",
    "keep": "file",
    **dict.fromkeys(("show", "watch", "again", "stop", "resume", "rename", "delete"), "run"),
    "work": "folder",
}
EPILOG = (
    "Options of a trigger, target, sampler, attack or dataset follow a dot: --trigger grey_box --trigger.size 8, "
    "--attack baddiffusion --attack.trigger stop_sign --attack.poison_rate 0.2; or give JSON in one piece."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one operation; 0 done, 1 refused with a sentence on stderr, 130 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["app"]:
            return _app(words[1:])
        return _run(words)
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
    print(
        json.dumps(result, indent=None if options.json else 2, ensure_ascii=False)
        if options.json
        else table(result)
    )
    return 0


def _app(words: list[str]) -> int:
    page = argparse.ArgumentParser(prog="python -m lab app", description="Start the lab's page.")
    page.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    page.add_argument("--port", type=int, help="port (default: the first free one from 7860 on)")
    from lab.ui import launch

    launch(**vars(page.parse_args(words)))
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
    for name, field in operation.options.model_fields.items():
        text = f"{field.description or _kinds(field.metadata)}".replace("%", "%%")
        read = str if field.annotation is str else literal  # a checkpoint may be called 5, or 1e3
        if POSITIONAL.get(operation.name) == name:
            command.add_argument(name, nargs=None if field.is_required() else "?", type=read, help=text)
        elif field.annotation is bool:
            command.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, help=text)
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


def table(result: Any) -> str:
    """A result as text for people."""
    if isinstance(result, list):
        width = max((len(str(line["name"])) for line in result), default=0)
        return "\n".join(_line(line, width) for line in result) or "nothing yet"
    if "rows" in result and "checkpoint" in result:
        return "\n".join(
            [f"{result['checkpoint']}  target {result['target']['kind']}", *map(_row, result["rows"])]
        )
    if "timings" in result:
        machine = ", ".join(f"{k} {v}" for k, v in result["machine"].items())
        rest = [*map(_curve, result["costs"]), *map(_layer, result["layers"])]
        return "\n".join([machine, *map(_timing, result["timings"]), *rest])
    if "differences" in result:
        sides = [_side(name, result[name]) for name in ("a", "b")]
        return "\n".join([*sides, *map(_difference, result["differences"])])
    if "scores" in result:
        return "\n".join(
            filter(None, [_row(result), f"pictures in {result['out']}" if result.get("out") else ""])
        )
    return json.dumps(_without_pictures(result), indent=2, ensure_ascii=False)


def _without_pictures(result: Any) -> Any:
    """A result without the pictures in it, which no terminal shows; --json has them."""
    if isinstance(result, dict):
        return {name: _without_pictures(value) for name, value in result.items()}
    if isinstance(result, list | tuple):
        return [_without_pictures(value) for value in result]
    return "(a picture)" if isinstance(result, str) and result.startswith("data:image/") else result


def _line(line: dict[str, Any], width: int) -> str:
    done = f"step {line['step']} of {line['total']}" if "step" in line else ""
    words = [line.get("state", ""), done, line.get("title", ""), line.get("help", "")]
    head = "  ".join(filter(None, [str(line["name"]).ljust(width), *words]))
    options = [f"{' ' * width}    {name}: {text}" for name, text in line.get("options", {}).items()]
    return "\n".join([head, *options])


def _row(row: dict[str, Any]) -> str:
    how = f"{row['scheduler']}, {row['sampler']['steps']} steps, clip {row['clip']}, seed {row['seed']}, n {row['n']}"
    scores = "  ".join(f"{s['name']} {s['value']:.4f}{s['unit']}" for s in row["scores"])
    return f"{row['condition']:>9}: {scores}\n{'':>11}{how}"


def _side(name: str, run: dict[str, Any]) -> str:
    last = "  ".join(f"{what} {points[-1][1]:.4f}" for what, points in run["curves"].items() if points)
    return f"{name}: {run['title']} ({run['run']}), {run['condition']}, step {run['step']} of {run['total']}  {last}"


def _difference(line: dict[str, str]) -> str:
    return f"   {line['what']}: {line['a']} | {line['b']}"


def _curve(curve: dict[str, Any]) -> str:
    points = ", ".join(
        f"{amount:g}: {seconds:.3g} s"
        for amount, seconds in zip(curve["amounts"], curve["seconds"], strict=True)
    )
    return f"{curve['name']:<12} grows with exponent {curve['exponent']:.2f}  ({points})"


def _layer(layer: dict[str, Any]) -> str:
    limit = f"{layer['peak_share']:4.0%} of the peak at {layer['per_byte']:.0f} operations a byte"
    return f"{layer['time_share']:6.1%}  {layer['name']:<58} {layer['count']:>3}  {limit if layer['operations'] else ''}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _timing(timing: dict[str, Any]) -> str:
    share = timing["peak_share"]
    limit = "" if share is None else f", {share:.0%} of the matmul peak"
    rates = f"{timing['ours']:.4g} and {timing['rivals']:.4g} {timing['unit']}/s{limit}"
    notes = "".join(f"\n      {name}: {_short(value)}" for name, value in timing["notes"].items())
    ratio = f"{timing['ratio']:.2f}× ({timing['low']:.2f} to {timing['high']:.2f})"
    return (
        f"{timing['name']}: {ratio} {timing['rival']}\n      {rates}, medians of {timing['repeats']}{notes}"
    )
