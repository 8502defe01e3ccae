"""The direction of imports, kept by reading the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.attacks import ATTACKS
from lab.data import DATASETS
from lab.metrics import METRICS
from lab.places import ROOT
from lab.sampling import SAMPLERS
from lab.triggers import TARGETS, TRIGGERS

ROWS = (  # a module imports from its own row and from rows above, never from one below
    "errors variants progress places people settings borrowed space priority processes crew ranks archives captions heap images charts changes findings sides printing",
    "diffusion losses graph planes precision teacher compiling engine triggers stamps data pictures trust models metrics claims sampling",
    "attacks detect modelcard users",
    "training evaluate truth",
    "bundle exam hub",
    "recipe explore room report castle",
    "runs study poisoning",
    "store previews forecast presets",
    "queue",
    "launch",
    "supervisor bench",
    "worker",
    "ops",
    "cli",
    "ui __main__",
    "app",
)
ROW = {name: depth for depth, row in enumerate(ROWS) for name in row.split()}
# `lab app` starts the page; imported inside its function, so that the rest needs no page
LAZY = {("cli", "ui")}
TORCH_FREE = ("ui", "cli", "__main__", "app")
CONVERTER = "lab/hub/pickled.py"  # the one file that reads pickled weights, where a person said so
FILES = [*sorted((ROOT / "lab").rglob("*.py")), ROOT / "app.py"]


def part(path: Path) -> str:
    """The part of the lab that a file belongs to: lab/metrics/pixel.py is metrics."""
    return path.relative_to(ROOT / "lab").parts[0].removesuffix(".py") if path.name != "app.py" else "app"


def imports(path: Path, tree: ast.AST | None = None) -> Iterator[str]:
    """Full names of all modules that a file imports, lazily or not."""
    for node in ast.walk(tree or ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path.name} has a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def lab_parts(names: Iterator[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("lab.")}


def at_once(path: Path) -> set[str]:
    """Parts of the lab that a file imports when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    return lab_parts(imports(path, tree))


def where(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", FILES, ids=where)
def test_imports_go_one_way(path):
    if part(path) == "__init__":
        assert not lab_parts(imports(path))
        return
    assert part(path) in ROW, f"{part(path)} has no row yet"
    for other in lab_parts(imports(path)) - {"__version__"}:
        if (part(path), other) in LAZY:
            assert other not in at_once(path)
        else:
            assert ROW[other] <= ROW[part(path)], f"{part(path)} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=where)
def test_gradio_stays_on_the_page(path):
    if part(path) not in ("ui", "app"):
        assert not any(name.split(".")[0] == "gradio" for name in imports(path))


@pytest.mark.parametrize("path", [path for path in FILES if part(path) in TORCH_FREE], ids=where)
def test_torch_stops_at_the_operations(path):
    names = set(imports(path))
    assert not {name.split(".")[0] for name in names} & {"torch", "torchvision", "diffusers", "numpy"}
    assert "lab.borrowed.torch" not in names


@pytest.mark.parametrize("path", FILES, ids=where)
def test_nothing_is_called_utils_or_manager(path):
    assert path.stem not in ("utils", "util", "helpers", "manager", "common", "misc")


@pytest.mark.parametrize("path", FILES, ids=where)
def test_pickles_are_never_read(path):
    assert not {name.split(".")[0] for name in imports(path)} & {"pickle", "dill", "joblib", "cloudpickle"}
    if where(path) != CONVERTER:
        assert "torch.load(" not in path.read_text(encoding="utf-8")


def test_the_converter_reads_weights_only():
    loads = re.findall(r"torch\.load\((.*)\)", (ROOT / CONVERTER).read_text(encoding="utf-8"))
    assert loads and all("weights_only=True" in arguments for arguments in loads)


@pytest.mark.parametrize("path", FILES, ids=where)
def test_functions_stay_short(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 50, f"{node.name} in {where(path)}"


@pytest.mark.parametrize(
    "table", [TRIGGERS, TARGETS, DATASETS, ATTACKS, SAMPLERS, METRICS], ids=lambda t: t.what
)
def test_every_entry_of_a_table_has_a_docstring(table):
    for variant in table.values():
        assert "__doc__" in vars(variant) and variant.__doc__.strip()
        assert variant.__doc__.strip().split("\n")[0].endswith((".", ")"))
