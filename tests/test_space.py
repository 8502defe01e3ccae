"""A Space: what its README says of it, what it installs, how it lives on ZeroGPU; and the image for everybody else."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import metadata, requires
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import SpaceCard, SpaceHardware
from packaging.requirements import Requirement

from lab import space
from lab.places import ROOT

FRONT: dict[str, Any] = SpaceCard.load(ROOT / "README.md").data.to_dict()
# https://huggingface.co/docs/hub/spaces-config-reference
KEYS = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "app_port"),
    *("base_path", "suggested_hardware", "models", "datasets", "tags", "license", "short_description", "thumbnail"),
    *("header", "fullWidth", "startup_duration_timeout", "preload_from_hub", "hf_oauth", "hf_oauth_scopes"),
    *("hf_oauth_expiration_minutes", "hf_oauth_authorized_org", "disable_embedding", "pinned", "custom_headers"),
}  # fmt: skip
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SCOPES = {"email", "read-repos", "contribute-repos", "write-repos", "manage-repos", "inference-api", "jobs"}
# https://huggingface.co/docs/hub/spaces-zerogpu, August 2026
ZERO_PYTHON = {"3.12.12", "3.10.13"}
# and its torchvision
ZERO_TORCH = {"2.8.0": "0.23.0", "2.9.1": "0.24.1", "2.10.0": "0.25.0", "2.11.0": "0.26.0"}


def requirements() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {each.name: each for each in found}


# README's front matter ---------------------------------------------------------------------------------------------


def test_the_hub_knows_every_key_and_value():
    assert not FRONT.keys() - KEYS
    assert {FRONT["colorFrom"], FRONT["colorTo"]} <= COLOURS
    assert FRONT["suggested_hardware"] in [each.value for each in SpaceHardware]
    assert set(FRONT["hf_oauth_scopes"]) <= SCOPES and FRONT["hf_oauth"] is True
    assert (FRONT["sdk"], FRONT["header"]) == ("gradio", "mini")


def test_the_entry_point_serves_the_page_and_begins_with_what_changes_torch():
    lines = (ROOT / FRONT["app_file"]).read_text().splitlines()
    code = [line.strip() for line in lines[1:] if line.strip()]
    assert code[0] == "from lab import space"
    assert code.index("from lab.ui import launch") > code.index(
        next(line for line in code if line.startswith("space.arrive()"))
    )


def test_the_entry_point_imports_no_torch_and_no_gradio_of_its_own():
    said = "import sys, runpy; runpy.run_path('app.py'); print([m for m in ('torch', 'gradio') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_python_and_gradio_are_ones_that_the_lab_runs_on():
    assert FRONT["python_version"] in ZERO_PYTHON
    assert requirements()["gradio"].specifier.contains(FRONT["sdk_version"])
    for name in requirements():
        wanted = metadata(name)["Requires-Python"] or ">=3"
        assert Requirement(f"{name} {wanted}").specifier.contains(FRONT["python_version"]), name


def test_what_is_preloaded_is_a_model_as_the_lab_reads_it():
    """Configuration and safetensors of a repository, no pickle and no code; a file or more for each entry."""
    entries = [entry.split() for entry in FRONT["preload_from_hub"]]
    assert "google/ddpm-cifar10-32" in [entry[0] for entry in entries]
    for _, files, *revision in entries:
        assert len(revision) <= 1
        assert all(name.endswith((".json", ".safetensors")) for name in files.split(","))
    assert len(entries) <= 10


# What it installs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("torch", "torchvision"), ZERO_TORCH.items())
def test_zero_gpu_keeps_its_torch(torch, torchvision):
    wanted = requirements()
    assert wanted["torch"].specifier.contains(torch)
    assert wanted["torchvision"].specifier.contains(torchvision)


def test_what_a_space_installs_with_gradio_can_stand_beside_the_lab():
    """A Space installs gradio with these extras: each library that both name must have a version for both."""
    ours, both = requirements(), []
    for theirs in map(Requirement, requires("gradio") or []):
        extras = ("", "oauth", "mcp")
        if theirs.name in ours and (
            not theirs.marker or any(theirs.marker.evaluate({"extra": e}) for e in extras)
        ):
            bounds = [each.version for each in (*theirs.specifier, *ours[theirs.name].specifier)]
            fits = theirs.specifier & ours[theirs.name].specifier
            assert any(fits.contains(bound) for bound in bounds), str(theirs)
            both.append(theirs.name)
    assert both.count("pydantic") == 2  # the extra `mcp` has a narrower range of its own


# ZeroGPU ------------------------------------------------------------------------------------------------------------


def test_elsewhere_no_gpu_is_borrowed(monkeypatch):
    for name in ("SPACES_ZERO_GPU", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    space.arrive()
    assert not (space.is_space() or space.is_zero() or space.is_lending() or space.is_borrowing())


@pytest.mark.parametrize(
    ("n", "steps", "seconds"), [(1, 1, 20), (64, 1000, 40), (65, 1000, 60), (9999, 1000, 120)]
)
def test_a_gpu_is_asked_for_by_the_work_and_within_bounds(n, steps, seconds):
    assert space.seconds_for(n, steps) == seconds


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of a visit to a lab on ZeroGPU, with a stand-in for the package that lends the GPU."""
    standin = ROOT / "tests" / "zero_gpu"
    done = subprocess.run(
        [sys.executable, str(standin / "visit.py")],
        cwd=ROOT,
        env={
            **os.environ,
            "LAB_HOME": str(tmp_path_factory.mktemp("zero")),
            "PYTHONPATH": f"{standin}{os.pathsep}{ROOT}",
            "SPACES_ZERO_GPU": "true",
            "SPACE_ID": "me/lab",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_pictures_are_drawn_where_the_gpu_is(visit):
    assert visit["device"].startswith("ZeroGPU")
    assert visit["explored"] == {"film": True, "rows": ["clean", "triggered"] * 2}


def test_a_refusal_comes_back_as_its_sentence(visit):
    """ZeroGPU passes on no more of an exception than its name."""
    assert visit["refused"] == "pndm has no clip 'x0' (it has no predicted x_0 to clamp); choose none or xt."
    assert visit["unknown"].startswith("There is no checkpoint called 'nobody'")


def test_a_training_is_timed_and_done_in_slices_there(visit):
    assert visit["plan"] > 0
    assert visit["trained"]["before"] == "stopped" and visit["trained"]["attended"]
    assert (visit["trained"]["after"]["condition"], visit["trained"]["after"]["step"]) == ("done", 12)


def test_each_call_says_how_long_it_wants_the_gpu(visit):
    drawn, refused, planned, sliced, lingering = [20, 20], [24, 20], [20], [60], [20]
    assert visit["asked"] == [*drawn, *refused, *planned, *sliced, *lingering]


def test_a_connection_that_the_page_closes_is_closed_during_a_call(visit):
    """Its copy in the forked process would keep it open, and a browser waiting on it."""
    assert visit["closed"] == {"has": "nothing", "browser": 0, "goes_on": ["done"]}


# The image for everybody else ---------------------------------------------------------------------------------------


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of each line of the Dockerfile, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = re.sub(
        r"\\\n\s*", "", "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    ).splitlines()
    return [(line.split()[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def of(kind: str) -> list[str]:
    return [arguments for name, arguments in instructions() if name == kind]


def environment() -> dict[str, str]:
    return dict(word.split("=", 1) for line in of("ENV") for word in shlex.split(line))


def test_every_instruction_is_one():
    known = {"ARG", "CMD", "COPY", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "USER", "VOLUME", "WORKDIR"}
    assert {name for name, _ in instructions()} <= known
    assert instructions()[0][0] in ("ARG", "FROM")


def test_everything_that_is_copied_exists_and_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in of("COPY"):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source.rstrip("/") not in ignored


def test_the_image_has_all_that_the_lab_reads():
    copied = {word.rstrip("/") for line in of("COPY") for word in line.split()[:-1]}
    assert {"lab", "app.py", "assets", "checkpoints", "requirements.txt"} <= copied


def test_nobody_is_root_and_the_home_is_theirs():
    user, home = of("USER")[-1], environment()["LAB_HOME"]
    assert user not in ("root", "0")
    assert home in json.loads(of("VOLUME")[-1])
    kinds = [name for name, _ in instructions()]
    assert kinds.index("USER") < kinds.index("CMD")
    assert any(home in line and user in line for line in of("RUN")), "the home must be made for that user"


def test_the_page_is_served_to_outside_and_asked_whether_it_lives():
    assert json.loads(of("CMD")[-1]) == ["python", "app.py"]
    values = environment()
    assert values["GRADIO_SERVER_NAME"] == "0.0.0.0"
    assert values["GRADIO_SERVER_PORT"] in of("EXPOSE")[-1].split()
    assert "urlopen" in of("HEALTHCHECK")[-1] and "HEALTH_PATH" in of("HEALTHCHECK")[-1]


def test_no_secret_is_baked_in():
    words = (ROOT / "Dockerfile").read_text().upper()
    assert not [word for word in ("TOKEN", "PASSWORD", "SECRET") if word in words]
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", ".env", "runs"} <= set(ignored)


def test_the_health_check_of_the_image_is_python_that_parses():
    command = re.search(r'python -c "(.*)"', of("HEALTHCHECK")[-1])
    assert command
    compile(command[1], "Dockerfile", "exec")


def test_the_page_can_be_built_from_what_the_image_holds(tmp_path: Path):
    """Only what is copied, in a folder of its own: nothing that the page needs is left out."""
    for line in of("COPY"):
        *sources, place = [word for word in line.split() if not word.startswith("--")]
        for source in sources:
            target = tmp_path / place / (Path(source).name if place in (".", "./") else "")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(ROOT / source)
    said = "from lab.ui import build; import lab; print(len(build().config['components']), lab.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", said], cwd=tmp_path, env={**os.environ, "LAB_HOME": str(tmp_path / "home")},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 50 and str(tmp_path) in done.stdout
