"""The lab runs on what requirements.txt brings: in an environment that has the development tools, as in one that has not."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lab.places import ROOT
from lab.sampling import SAMPLERS

OPTIONAL = {
    "datasets",
    "ray",
    "spaces",
    "submitit",
}  # asked for where they are used, each with a sentence that says so


def wanted(lines: Iterator[str] | list[str]) -> list[Requirement]:
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def brought() -> dict[str, Distribution]:
    """Every distribution that installing requirements.txt installs."""
    found: dict[str, Distribution] = {}
    todo = [
        (each.name, frozenset(each.extras))
        for each in wanted((ROOT / "requirements.txt").read_text().splitlines())
    ]
    seen = set()
    while todo:
        name, extras = todo.pop()
        if (name.lower(), extras) in seen:
            continue
        seen.add((name.lower(), extras))
        try:
            found[name.lower()] = here = distribution(name)
        except PackageNotFoundError:
            continue
        for each in map(Requirement, here.requires or ()):
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append((each.name, frozenset(each.extras)))
    return found


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder of packages that has these distributions and nothing else."""
    site = tmp_path_factory.mktemp("site")
    for each in brought().values():
        for path in each.files or ():
            if path.parts[0] not in ("..", "__pycache__") and not (site / path.parts[0]).exists():
                (site / path.parts[0]).symlink_to(Path(str(each.locate_file(path.parts[0]))))
    return site


def alone(site: Path, *arguments: str) -> str:
    """What Python prints that has only these."""
    environment = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", *arguments]
    told = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr[-2000:]
    return told.stdout


def imported() -> set[str]:
    """Packages that the lab's sources import, at once or where they need them."""
    names = set()
    for path in [*(ROOT / "lab").rglob("*.py"), ROOT / "app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {each.name.partition(".")[0] for each in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module).partition(".")[0])
    return names - sys.stdlib_module_names - {"lab"}


def test_development_tools_are_not_among_what_it_brings(site):
    code = "import importlib.util as u; print([name for name in ('pytest', 'hypothesis', 'ray') if u.find_spec(name)])"
    assert alone(site, "-c", code).strip() == "[]"


def test_every_package_that_the_lab_imports_is_brought(site):
    code = f"import importlib.util as u; print([n for n in {sorted(imported() - OPTIONAL)} if not u.find_spec(n)])"
    assert alone(site, "-c", code).strip() == "[]"


def test_every_sampler_and_metric_needs_nothing_else(site, tmp_path):
    """What a library asks for only when it is used is no import of ours."""
    samplers = json.dumps([{"kind": kind, "steps": 4} for kind in SAMPLERS])
    asked = (
        "--checkpoints",
        "mnist-grey-box-hat",
        "--samplers",
        samplers,
        "--clips",
        "none,x0,xt",
        "--n",
        "2",
    )
    alone(site, "-m", "lab", "compare", *asked, "--out", str(tmp_path / "report"))
    rows = json.loads((tmp_path / "report" / "report.json").read_text())["rows"]
    assert {row["sampler"]["kind"] for row in rows} == set(SAMPLERS)


def test_a_training_and_a_census_need_nothing_else(site):
    alone(site, "-m", "lab", "train", "--name", "two-steps", "--base", "mnist-clean", "--steps", "2")
    told = alone(site, "-m", "lab", "castle", "census", "--checkpoint", "digits-cond-patch", "--n", "20")
    assert "G1" in told
