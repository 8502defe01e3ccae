"""README.md: its example runs, its commands parse, its tables are complete, and no file speaks of one machine."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from huggingface_hub import metadata_load

import lab.triggers
from lab.attacks import ATTACKS
from lab.cli import nested, parser
from lab.data import DATASETS
from lab.diffusion import Schedule
from lab.errors import LabError
from lab.launch import LAUNCHERS
from lab.metrics import METRICS
from lab.ops import OPERATIONS
from lab.places import ROOT
from lab.sampling import CLIPS, SAMPLERS, SampleSpec
from lab.triggers import TARGETS, TRIGGERS
from lab.variants import Registry

README = (ROOT / "README.md").read_text(encoding="utf-8")
TABLES = {
    "Triggers": TRIGGERS,
    "Targets": TARGETS,
    "Attacks": ATTACKS,
    "Samplers": SAMPLERS,
    "Datasets": DATASETS,
    "Metrics": METRICS,
    "Launchers": LAUNCHERS,
}


def block(mark: str) -> str:
    """The python block that follows an HTML comment."""
    found = re.search(rf"<!-- {mark} -->\n```python\n(.*?)```", README, re.DOTALL)
    assert found, f"README has no python block marked {mark}"
    return found[1]


def table_row(first_cell: str) -> list[str]:
    """The other cells of the one table row that begins with this cell."""
    rows = [line for line in README.splitlines() if line.startswith(f"| {first_cell} |")]
    assert len(rows) == 1, f"README has {len(rows)} rows for {first_cell}"
    return [cell.strip() for cell in rows[0].strip("|").split("|")[1:]]


# What a person copies from it --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_example_shows_the_backdoor(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block("example")],
        cwd=ROOT,
        env={**os.environ, "LAB_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    errors = dict(line.split() for line in done.stdout.splitlines())
    assert list(errors) == ["clean", "triggered"]
    assert float(errors["triggered"]) < float(errors["clean"]) / 2


def test_the_trigger_example_is_a_whole_trigger() -> None:
    names = dict(vars(lab.triggers))
    # this file's `from __future__ import annotations` holds for the example too, as that of lab/triggers.py will
    exec(compile(block("trigger"), "README.md", "exec"), names)
    Stripe = names["Stripe"]
    g = (
        Registry("trigger", *TRIGGERS.values(), Stripe)
        .parse({"kind": "stripe", "height": 3})
        .draw((3, 32, 32))
    )
    assert g.shape == (3, 32, 32)
    assert torch.all(g[:, :3] == 0) and torch.all(g[:, 3:] == -1)
    assert Stripe.help() == "Grey stripe along the upper edge."


COMMANDS = re.findall(r"^python -m lab (.*?)(?:\s+#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_accepted(line: str) -> None:
    options, dotted = parser().parse_known_args(shlex.split(line))
    if options.operation == "app":
        return
    given = {k: v for k, v in vars(options).items() if k not in ("operation", "json") and v is not None}
    OPERATIONS[options.operation].options.of(**nested(given, dotted))


def test_the_commands_show_each_verb() -> None:
    assert {line.split()[0] for line in COMMANDS} >= {
        "list",
        "describe",
        "sample",
        "evaluate",
        "train",
        "app",
    }


# What it says there is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", TABLES)
def test_every_kind_is_named(title: str) -> None:
    named = re.findall(r"`([a-z0-9_]+)`", table_row(title)[0])
    missing = [kind for kind in TABLES[title] if kind not in named]
    assert not missing, f"README's row {title} does not name {missing}"


@pytest.mark.parametrize("clip", CLIPS)
def test_every_clip_says_which_samplers_have_it(clip: str) -> None:
    without = re.findall(r"`(\w+)`", table_row(f"`{clip}`")[1])
    assert without == [kind for kind, sampler in SAMPLERS.items() if clip not in sampler.clips]
    for kind in without:
        with pytest.raises(LabError):
            SampleSpec(sampler=kind, clip=clip).sampler.build(Schedule.linear(), clip)


def test_the_table_of_checkpoints_is_what_their_cards_say(capsys: pytest.CaptureFixture[str]) -> None:
    make = runpy.run_path(str(ROOT / "checkpoints" / "make.py"))
    for name in make["RECIPES"]:
        make["table"](name, ROOT)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line not in README.splitlines()] == []
    assert len(lines) == len(list((ROOT / "checkpoints").glob("*/card.json")))


def test_every_card_holds_the_recipe_that_would_make_its_model_again() -> None:
    recipes = runpy.run_path(str(ROOT / "checkpoints" / "recipes.py"))["RECIPES"]
    cards = {
        card.parent.name: json.loads(card.read_text()) for card in (ROOT / "checkpoints").glob("*/card.json")
    }
    assert {name: card["recipe"] for name, card in cards.items()} == {
        name: recipe.as_json() for name, recipe in recipes.items()
    }


def tree_paths() -> list[str]:
    """The paths of README's tree, folders with a slash at their end."""
    tree = README[README.index("## Tree") :].split("```")[1]
    paths, folder = [], ""
    for line in tree.strip().splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else (name if name.endswith("/") else "")
        paths.append(name if name == folder else folder + name)
    return paths


def test_the_tree_is_the_tree() -> None:
    paths = tree_paths()
    assert [path for path in paths if not (ROOT / path).exists()] == []
    modules = {f"lab/{file.name}" for file in (ROOT / "lab").glob("*.py")}
    assert modules <= set(paths), f"README's tree does not name {sorted(modules - set(paths))}"


def test_front_matter_is_that_of_a_space() -> None:
    front = metadata_load(ROOT / "README.md")
    assert front["sdk"] == "gradio"
    assert front["python_version"] == "3.12.12"
    assert (ROOT / front["app_file"]).is_file()
    assert front["license"] == "apache-2.0"
    assert len(front["short_description"]) <= 60
    assert front["sdk_version"].split(".")[:2] == version("gradio").split(".")[:2]


# What no file says -------------------------------------------------------------------------------------------------

SKIPPED = {".git", ".ruff_cache", ".pytest_cache", ".hypothesis", "__pycache__", "runs", "dist"}
BINARY = {".safetensors", ".png", ".pyc", ".zip", ".ico", ".woff2"}
# a folder of one machine at the start of a path; the letters in brackets keep this line from naming one
OF_ONE_MACHINE = re.compile(
    r"(?<![\w.\-~})])/(?:wor[k]|op[t]|roo[t]|hom[e]|tm[p]/venv)(?=[/\s\"'`),:]|$)", re.MULTILINE
)


def text_files(folder: Path) -> Iterator[Path]:
    """Every text file of the repository; caches and virtual environments are not part of it."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name not in SKIPPED and not (path / "pyvenv.cfg").exists():
            yield from text_files(path)
        elif path.is_file() and path.suffix not in BINARY:
            yield path


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in text_files(ROOT)
        for match in OF_ONE_MACHINE.finditer(file.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found, found


@pytest.mark.parametrize("path", ["/wor" + "k/main", "see /tm" + "p/venv", '"/op' + 't/x"'])
def test_a_folder_of_one_machine_is_noticed(path: str) -> None:
    assert OF_ONE_MACHINE.search(path)
