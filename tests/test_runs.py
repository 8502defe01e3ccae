"""Runs: a folder that tells everything, resumes, and refuses another recipe."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from together import together

from lab import runs
from lab.attacks import BadDiffusion
from lab.errors import LabError
from lab.images import poisoned_indices
from lab.models import Net, load
from lab.recipe import Recipe
from lab.runs import Run, command, default_sampler
from lab.training import TrainSpec
from lab.triggers import Corner, GreyBox, StopSign

SPEC = TrainSpec(steps=4, batch=4, warmup=1, precision="fp32", threads=1, save_every=2, seed=5)
ATTACK = BadDiffusion(trigger=GreyBox(size=8), target=Corner(), poison_rate=0.1)
RECIPE = Recipe(attack=ATTACK, net=Net(widths=(16,)), train=SPEC)

pytestmark = pytest.mark.usefixtures("fresh_accelerate")


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "ticks.jsonl").read_text().splitlines()]


def test_a_run_leaves_its_story(tmp_path):
    run = Run.open(tmp_path / "run", RECIPE)
    ticks = list(run.train("my-net"))
    assert [tick.step for tick in ticks] == [1, 2, 3, 4]
    assert json.loads((run.folder / "recipe.json").read_text()) == RECIPE.as_json()
    assert {"step": 4, "total": 4, **ticks[-1].values}.items() <= lines(run.folder)[-1].items()
    card = load(run.checkpoint).card
    assert (card.name, card.backdoored, card.base) == ("my-net", True, "")
    assert card.recipe == RECIPE.as_json()
    assert card.made["seconds"] >= 0 and card.made["threads"] == 1


def test_the_poisoned_set_is_written_down(tmp_path):
    run = Run.open(tmp_path / "run", RECIPE)
    list(run.train("x"))
    stored = json.loads((run.folder / "poisoned.json").read_text())
    assert stored == {"n": 4500, "poisoned": poisoned_indices(4500, 0.1, 5).tolist()}
    assert len(stored["poisoned"]) == 450


def test_the_checkpoint_is_there_when_the_last_tick_is_seen(tmp_path):
    run = Run.open(tmp_path / "run", RECIPE)
    for tick in run.train("x"):
        assert run.checkpoint.exists() == (tick.step == tick.total)


def test_a_stopped_run_has_no_checkpoint_and_continues(tmp_path):
    whole = Run.open(tmp_path / "whole", RECIPE)
    list(whole.train("x"))
    stopped = Run.open(tmp_path / "stopped", RECIPE).train("x")
    for _ in range(2):
        next(stopped)
    stopped.close()
    assert not (tmp_path / "stopped" / "checkpoint").exists()
    again = Run.open(tmp_path / "stopped", RECIPE)
    assert [tick.step for tick in again.train("x")] == [4]  # the third step was done when it was stopped
    a, b = (load(run.checkpoint).unet.state_dict() for run in (whole, again))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_resumed_run_logs_each_step_once(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "LOG_EVERY", 1)
    stopped = Run.open(tmp_path / "run", RECIPE).train("x")
    for _ in range(2):
        next(stopped)
    stopped.close()
    with (tmp_path / "run" / "ticks.jsonl").open("a") as file:
        file.write('{"step": 3, "total": 4, "seconds": 9')  # torn by a kill
    list(Run.open(tmp_path / "run", RECIPE).train("x"))
    assert [line["step"] for line in lines(tmp_path / "run")] == [1, 2, 3, 4]


def test_a_run_of_another_recipe_in_the_same_folder_is_refused(tmp_path):
    Run.open(tmp_path / "run", RECIPE)
    with pytest.raises(LabError, match="run of another recipe"):
        Run.open(tmp_path / "run", Recipe())
    assert json.loads((tmp_path / "run" / "recipe.json").read_text()) == RECIPE.as_json()


def test_a_folder_of_other_things_is_refused(tmp_path):
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(LabError, match="is not a run"):
        Run.open(tmp_path, RECIPE)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_recipe_gets_a_sentence(tmp_path):
    (tmp_path / "recipe.json").write_text("{")
    with pytest.raises(LabError):
        Run.open(tmp_path, RECIPE)


def test_a_fine_tune_starts_from_its_base(tiny, lab_home, tmp_path):
    tiny.save(lab_home / "checkpoints" / "base-net")
    recipe = Recipe(base="base-net", attack=ATTACK, train=SPEC.model_copy(update={"lr": 1e-12, "steps": 1}))
    run = Run.open(tmp_path / "run", recipe)
    list(run.train("x"))
    tuned = load(run.checkpoint)
    assert tuned.card.base == "tiny"
    before, after = tiny.unet.state_dict(), tuned.unet.state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before)


def test_an_unknown_base_is_refused_before_anything_is_trained(tmp_path):
    run = Run.open(tmp_path / "run", Recipe(base="nothing", train=SPEC))
    with pytest.raises(LabError, match="no checkpoint called 'nothing'"):
        next(run.train("x"))


def test_an_honest_run_says_so(tmp_path):
    recipe = Recipe(net=Net(widths=(16,)), train=SPEC.model_copy(update={"steps": 1}))
    run = Run.open(tmp_path / "run", recipe)
    list(run.train("x"))
    assert load(run.checkpoint).card.backdoored is False
    assert json.loads((run.folder / "poisoned.json").read_text())["poisoned"] == []


def test_the_sampler_follows_the_backdoor():
    assert default_sampler(Recipe())["kind"] == "ddpm"
    assert default_sampler(Recipe(attack=ATTACK))["kind"] == "ddpm"
    assert default_sampler(Recipe(attack=ATTACK.model_copy(update={"solver": "ode"})))["kind"] == "ddim"


def test_the_command_holds_the_whole_recipe():
    recipe = Recipe(base="mnist-clean", attack=BadDiffusion(trigger=StopSign(size=11)), train=SPEC)
    words = shlex.split(command(recipe, "a name; rm -rf /"))
    options = dict(zip(words[4::2], words[5::2], strict=True))
    assert words[:4] == ["python", "-m", "lab", "train"]
    assert options["--name"] == "a name; rm -rf /"
    train = {key: options[f"--{key.replace('_', '-')}"] for key in SPEC.model_dump(exclude_defaults=True)}
    again = Recipe.of(
        base=options["--base"],
        dataset=options["--dataset"],
        attack=json.loads(options["--attack"]),
        train=train,
    )
    assert again == recipe


def run_of_a_process(folder: str) -> None:
    torch.set_num_threads(1)
    list(Run.open(Path(folder), RECIPE).train("x"))


@pytest.mark.slow
def test_two_processes_write_one_run(tmp_path):
    together(run_of_a_process, str(tmp_path / "run"))
    assert load(tmp_path / "run" / "checkpoint").card.name == "x"
    assert [line["step"] for line in lines(tmp_path / "run")] == [4]
    assert not [path.name for path in (tmp_path / "run").iterdir() if path.name.startswith(".")]
