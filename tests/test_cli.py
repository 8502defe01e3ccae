"""The command line: what a person types, what a script reads, and one sentence for what cannot be done."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import files_below
from PIL import Image
from safetensors.torch import load_file, save_file

from lab.cli import literal, main, nested, parser
from lab.models import WEIGHTS
from lab.ops import OPERATIONS, TABLES
from lab.places import ROOT

BACKDOORED = "mnist-grey-box-hat"
TINY_NET = '{"widths": [8, 16]}'
TRAIN = ["train", "--net", TINY_NET, "--steps", "2", "--batch", "2", "--warmup", "0", "--threads", "1"]


def python_m_lab(*words: str) -> subprocess.CompletedProcess[str]:
    """A real command line in a process of its own; LAB_HOME comes with the environment."""
    return subprocess.run(
        [sys.executable, "-m", "lab", *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_a_reader_that_has_gone_ends_it_in_silence():
    command = [sys.executable, "-m", "lab", "list", "samplers"]
    lab = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert lab.stdout and lab.stderr
    lab.stdout.close()
    assert (lab.stderr.read(), lab.wait(60)) == ("", 141)


def png(path: Path, size: tuple[int, int] = (20, 20)) -> Path:
    Image.effect_noise(size, 60).save(path)
    return path


@pytest.fixture
def run(capsys):
    """Run words in this process: the exit code, and what was printed to stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def json_of(run):
    """The result of a command with --json: exactly one line on stdout, and nothing on stderr."""

    def json_of(*words: str) -> Any:
        code, out, err = run(*words, "--json")
        assert (code, err) == (0, "")
        assert out.count("\n") == 1 and out.endswith("\n")
        return json.loads(out)

    return json_of


@pytest.fixture
def refusal(run, lab_home):
    """The sentence on stderr for words that must be refused; nothing is printed and nothing left behind."""

    def refusal(*words: str) -> str:
        before = files_below(lab_home)
        code, out, err = run(*words)
        assert (code, out) == (1, "")
        assert err.startswith("error: ") and err.count("\n") == 1, err
        assert err.rstrip().endswith((".", "?")) and len(err) < 500, err
        assert files_below(lab_home) == before
        return err

    return refusal


# In a process of its own -------------------------------------------------------------------------------------------


def test_list_in_a_process_of_its_own():
    done = python_m_lab("list", "triggers")
    assert (done.returncode, done.stderr) == (0, "")
    assert "grey_box" in done.stdout and "size: side in pixels (default 14)" in done.stdout


def test_sample_in_a_process_of_its_own(tmp_path):
    words = ["sample", "--checkpoint", BACKDOORED, "--trigger", "grey_box", "--steps", "2", "--n", "2"]
    done = python_m_lab(*words, "--out", str(tmp_path / "out"), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    result = json.loads(done.stdout)
    assert (result["condition"], result["n"], result["out"]) == ("triggered", 2, str(tmp_path / "out"))
    assert files_below(tmp_path / "out") == ["00000.png", "00001.png", "grid.png", "sample.json"]


def test_a_refusal_in_a_process_of_its_own(lab_home):
    done = python_m_lab("sample", "--trigger", "grey_bx")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: There is no trigger called 'grey_bx'; did you mean 'grey_box'?\n"
    assert not lab_home.exists()


# list and describe -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", [*TABLES, "checkpoints", "pictures"])
def test_each_table_is_listed_for_people_and_for_scripts(what, run, json_of):
    lines = json_of("list", what)
    assert lines == OPERATIONS["list"](what=what)
    code, out, err = run("list", what)
    assert (code, err) == (0, "")
    assert all(line["name"] in out for line in lines)
    assert out.strip()


def test_list_alone_means_checkpoints(json_of):
    assert {"mnist-clean", BACKDOORED} <= {line["name"] for line in json_of("list")}


def test_describe_takes_the_name_without_a_flag(json_of):
    assert json_of("describe", BACKDOORED)["trigger"]["kind"] == "grey_box"


def test_help_is_made_from_the_options(capsys):
    with pytest.raises(SystemExit) as left:
        main(["sample", "--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for option in OPERATIONS["sample"].options.model_fields:
        assert f"--{option.replace('_', '-')}" in text
    assert all(kind in text for kind in TABLES["triggers"])


@pytest.mark.parametrize("words", [[], ["frobnicate"], ["sample", "--n"], ["describe"]], ids=" ".join)
def test_a_command_that_is_none_shows_the_usage(words, capsys):
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m lab")


# sample and evaluate -----------------------------------------------------------------------------------------------


def test_nested_options_follow_a_dot(json_of):
    words = ["--sampler", "ddim", "--sampler.steps", "3", "--sampler.eta=0.5", "--n", "1"]
    box = ["--trigger", "grey_box", "--trigger.size", "8", "--trigger.form", "masked"]
    result = json_of("sample", *words, *box, "--target.kind", "corner")
    assert result["sampler"] == {"kind": "ddim", "steps": 3, "eta": 0.5}
    assert result["trigger"] == {"kind": "grey_box", "size": 8, "form": "masked"}
    assert result["target"] == {"kind": "corner"}
    assert result["scheduler"] == "DDIMScheduler"


def test_a_variant_may_come_as_json(json_of):
    text = '{"kind": "stop_sign", "size": 11}'
    result = json_of("sample", "--trigger", text, "--steps", "1", "--n", "1")
    assert result["trigger"] == {"kind": "stop_sign", "size": 11, "form": "authors"}


def test_people_see_progress_and_numbers(run, tmp_path):
    code, out, err = run("sample", "--steps", "2", "--n", "1", "--out", str(tmp_path / "pictures"))
    assert code == 0
    assert "2/2 step 2 of 2" in err
    assert "MSE" in out and "2 steps, clip none, seed 0, n 1" in out and "pictures in" in out


def test_the_same_seed_writes_the_same_files(run, tmp_path):
    for folder in ("one", "two"):
        assert run("sample", "--steps", "2", "--n", "2", "--out", str(tmp_path / folder))[0] == 0
    for name in files_below(tmp_path / "one"):
        if name.endswith(".png"):
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_evaluate_gives_a_row_for_each_condition(json_of):
    result = json_of("evaluate", "--steps", "1", "--n", "2")
    assert [row["condition"] for row in result["rows"]] == ["clean", "triggered", "blank", "wrong"]
    assert all(
        {"value", "n", "low", "high"} <= set(score) for row in result["rows"] for score in row["scores"]
    )


@pytest.mark.parametrize(("text", "asked"), [("clean", ["clean"]), ("blank,clean", ["blank", "clean"])])
def test_lists_are_names_with_commas(text, asked, json_of):
    result = json_of("evaluate", "--steps", "1", "--n", "1", "--conditions", text)
    assert [row["condition"] for row in result["rows"]] == asked


def test_exact_is_a_switch(json_of):
    words = ["sample", "--steps", "1", "--n", "1"]
    assert json_of(*words, "--exact")["exact"] is True
    assert json_of(*words, "--no-exact")["exact"] is False


def test_a_trigger_may_be_a_picture_file(json_of, tmp_path):
    file = str(png(tmp_path / "t.png"))
    result = json_of("sample", "--trigger-file", file, "--steps", "1", "--n", "1")
    assert result["trigger"]["kind"] == "own"
    assert [line["name"] for line in json_of("list", "pictures")] == [result["trigger"]["name"]]


def test_a_kept_picture_is_a_trigger_by_its_name(json_of, tmp_path):
    assert json_of("keep", str(png(tmp_path / "t.png")), "--name", "2024") == {"name": "2024"}
    look = json_of("look", "--trigger", '{"kind": "own", "name": "2024"}')
    assert look["meter"]["norm"] > 0


def test_paint_from_the_command_line(json_of):
    assert json_of("paint", "--pixels", '[[0, 0, "#ffffff"]]', "--name", "dot") == {"name": "dot"}
    assert json_of("look", "--trigger", "own", "--trigger.name", "dot")["meter"]["changed"] == 3 * 1024


# train -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_trained_checkpoint_has_a_name_and_a_card(json_of, lab_home):
    attack = ["--attack", "baddiffusion", "--attack.trigger", "stop_sign", "--attack.poison_rate", "0.2"]
    result = json_of(*TRAIN, "--name", "my-net", *attack, "--attack.trigger.size", "11")
    assert result["checkpoint"] == "my-net" and result["last"]["loss"] > 0
    assert Path(result["folder"]) == lab_home / "checkpoints" / "my-net"
    states = {line["name"]: line["state"] for line in json_of("list")}
    assert states["my-net"] == "backdoored"
    card = json_of("describe", "my-net")
    assert card["trigger"] == {"kind": "stop_sign", "size": 11, "form": "authors"}
    assert card["card"]["recipe"]["attack"]["poison_rate"] == 0.2
    assert json_of("sample", "--checkpoint", "my-net", "--steps", "1", "--n", "1")["checkpoint"] == "my-net"


@pytest.mark.usefixtures("fresh_accelerate")
def test_the_same_command_again_says_that_it_is_done(run, refusal):
    assert run(*TRAIN, "--name", "my-net")[0] == 0
    assert "already a checkpoint called 'my-net'" in refusal(*TRAIN, "--name", "my-net")


@pytest.mark.usefixtures("fresh_accelerate")
def test_the_same_command_after_a_stop_continues(run, lab_home, monkeypatch):
    words = [*TRAIN, "--name", "my-net", "--steps", "4", "--save-every", "1", "--json"]
    stop_after_the_first_step(monkeypatch)
    assert run(*words) == (130, "", "stopped\n")
    assert not (lab_home / "checkpoints").exists()
    monkeypatch.undo()
    monkeypatch.setenv("LAB_HOME", str(lab_home))
    seen = ticks_of(monkeypatch)
    assert run(*words)[0] == 0
    assert seen == [3, 4]  # a step is shown when the next one is done: two were
    assert (lab_home / "checkpoints" / "my-net" / "card.json").is_file()


def stop_after_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lab.cli._show", stop)


def ticks_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps that the command line sees from now on."""
    seen: list[int] = []
    monkeypatch.setattr("lab.cli._show", lambda tick, quiet: seen.append(tick.step))
    return seen


@pytest.mark.usefixtures("fresh_accelerate")
def test_another_recipe_does_not_touch_a_run(run, refusal, tmp_path):
    out = str(tmp_path / "run")
    assert run(*TRAIN, "--name", "one", "--out", out)[0] == 0
    before = files_below(tmp_path)
    assert "another recipe" in refusal(*TRAIN, "--name", "two", "--seed", "1", "--out", out)
    assert files_below(tmp_path) == before


@pytest.mark.usefixtures("fresh_accelerate")
def test_a_folder_of_images_is_a_dataset(json_of, tmp_path):
    for k in range(4):
        png(tmp_path / f"{k}.png", (30, 20 + k))
    folder = [
        "--dataset",
        "folder",
        "--dataset.path",
        str(tmp_path),
        "--dataset.side",
        "16",
        "--attack",
        "none",
    ]
    json_of(*TRAIN, "--name", "from-folder", *folder)
    looked = json_of("look", "--a", "from-folder", "--b", "", "--trigger.size", "4")
    assert looked["shape"] == [3, 16, 16]


# What is refused ---------------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[list[str], str]] = {
    "unknown option": (["list", "--wat", "1"], "--wat"),
    "a word too many": (["list", "triggers", "extra"], "extra"),
    "unknown table": (["list", "nothing"], "nothing"),
    "unknown checkpoint": (["sample", "--checkpoint", "mnist-cleen"], "did you mean 'mnist-clean'?"),
    "a checkpoint that is a number": (["sample", "--checkpoint", "5"], "'5'"),
    "no such folder": (["sample", "--checkpoint", "./nope"], "./nope"),
    "a folder that is no checkpoint": (["sample", "--checkpoint", "/"], "config.json"),
    "unknown trigger": (["sample", "--trigger", "grey_bx"], "did you mean 'grey_box'?"),
    "unknown nested option": (["sample", "--trigger.colour", "red"], "colour"),
    "nested option of another kind": (["sample", "--sampler", "ddpm", "--sampler.eta", "1"], "eta"),
    "a trigger that does not fit": (["sample", "--trigger.size", "31"], "does not fit"),
    "a trigger too large for any": (["sample", "--trigger.size", "100000"], "size"),
    "own without a name": (["sample", "--trigger", "own"], "your own"),
    "own with a path": (["sample", "--trigger", "own", "--trigger.name", "../../x"], "name"),
    "null": (["sample", "--sampler", "null"], "sampler"),
    "a list": (["sample", "--trigger", "[1, 2]"], "trigger"),
    "deep JSON": (["sample", "--trigger", "[" * 100_000], "trigger"),
    "n is nothing": (["sample", "--n", "0"], "n is "),
    "n is NaN": (["sample", "--n", "NaN"], "n is "),
    "n is infinite": (["sample", "--n", "Infinity"], "n is "),
    "n is a fraction": (["sample", "--n", "2.5"], "n is "),
    "n is huge": (["sample", "--n", "9" * 5000], "n is "),
    "n is a word": (["sample", "--n", "many"], "n is "),
    "negative seed": (["sample", "--seed", "-1"], "seed"),
    "too many steps": (["sample", "--steps", "1001"], "steps"),
    "eta is NaN": (["sample", "--sampler", "ddim", "--sampler.eta", "NaN"], "eta"),
    "unknown clip": (["sample", "--clip", "hard"], "clip"),
    "impossible clip": (["sample", "--sampler", "lms", "--clip", "x0"], "lms has no clip 'x0'"),
    "labels for a model without": (["sample", "--labels", "1"], "not conditioned on classes"),
    "unknown condition": (["evaluate", "--conditions", "purple"], "purple"),
    "unknown base": (["evaluate", "--base", "nope"], "nope"),
    "a name with a path": ([*TRAIN, "--name", "../up"], "name"),
    "learning rate is NaN": ([*TRAIN, "--lr", "NaN"], "lr"),
    "learning rate is huge": ([*TRAIN, "--lr", "1e300"], "lr"),
    "poison rate above one": ([*TRAIN, "--attack.poison_rate", "2"], "poison_rate"),
    "an attack without a trigger": ([*TRAIN, "--attack.trigger", "none"], "needs a trigger"),
    "a net that cannot be built": (["train", "--net", '{"widths": [3]}'], "widths"),
    "a net that is a word": (["train", "--net", "large"], "net"),
    "a net of another size": (
        ["train", "--net", '{"side": 16, "widths": [8, 16]}', "--name", "x"],
        "(1, 32, 32)",
    ),
    "an unknown base to tune": (["train", "--base", "nope", "--name", "x"], "nope"),
    "no folder of images": ([*TRAIN, "--dataset", "folder", "--dataset.path", "/nowhere"], "/nowhere"),
    "a Hub dataset without a name": ([*TRAIN, "--dataset", "hub"], "repo"),
    "a pixel outside": (["paint", "--pixels", '[[99, 0, "#ffffff"]]'], "below 32"),
    "too many images": (["explore", "--n", "65"], "n is "),
    "no model at all": (["look", "--a", "", "--b", ""], "slot A or B"),
    "no picture file": (["sample", "--trigger-file", "/nowhere/x.png"], "x.png"),
}


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("what", REFUSED)
def test_bad_words_get_one_sentence(what, refusal):
    words, hint = REFUSED[what]
    assert hint in refusal(*words)


def picture_files(folder: Path) -> dict[str, Path]:
    """Files that are no pictures the lab reads."""
    whole = io.BytesIO()
    Image.effect_noise((64, 64), 60).save(whole, "PNG")
    (folder / "text.png").write_text("hello, I am a picture")
    (folder / "truncated.png").write_bytes(whole.getvalue()[:900])
    (folder / "empty.png").write_bytes(b"")
    (folder / "large.png").write_bytes(b"\0" * (4 * 2**20 + 1))
    Image.new("RGB", (20_000, 2)).save(folder / "wide.png")
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("text", "not a complete picture"),
        ("truncated", "not a complete picture"),
        ("empty", "not a complete picture"),
        ("large", "larger than 4 MiB"),
        ("wide", "20000×2"),
    ],
)
def test_a_file_that_is_no_picture(name, hint, refusal, tmp_path):
    (tmp_path / "files").mkdir()
    file = str(picture_files(tmp_path / "files")[name])
    assert hint in refusal("sample", "--trigger-file", file)
    assert hint in refusal("keep", file)


def test_a_checkpoint_folder_with_other_tensors(tiny, refusal, tmp_path):
    tiny.save(tmp_path / "net")
    weights = load_file(tmp_path / "net" / WEIGHTS)
    last = weights.popitem()
    save_file(weights, tmp_path / "net" / WEIGHTS)
    assert "1 tensors are missing" in refusal("sample", "--checkpoint", str(tmp_path / "net"))
    save_file(dict([*weights.items(), last, ("extra", torch.zeros(3))]), tmp_path / "net" / WEIGHTS)
    assert "'extra'" in refusal("sample", "--checkpoint", str(tmp_path / "net"))
    save_file(dict([*weights.items(), (last[0], last[1] + float("nan"))]), tmp_path / "net" / WEIGHTS)
    assert "not finite" in refusal("sample", "--checkpoint", str(tmp_path / "net"))


def test_a_folder_that_cannot_be_written(refusal, tmp_path):
    (tmp_path / "file").touch()
    assert "file" in refusal(*TRAIN, "--out", str(tmp_path / "file" / "run"))
    code = main(["sample", "--steps", "1", "--n", "1", "--out", str(tmp_path / "file" / "run"), "--json"])
    assert code == 1
    assert files_below(tmp_path) == ["file"]


# How words are read ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("true", True),
        ("grey_box", "grey_box"),
        ("a,b", ["a", "b"]),
        ('{"kind": "hat"}', {"kind": "hat"}),
        ("{broken", "{broken"),
    ],
)
def test_a_word_is_json_where_it_is_json(text, value):
    assert literal(text) == value


def test_text_options_stay_text():
    options = parser().parse_args(["sample", "--checkpoint", "1e3", "--out", "true", "--n", "5"])
    assert (options.checkpoint, options.out, options.n) == ("1e3", "true", 5)


@pytest.mark.parametrize(
    ("given", "dotted", "tree"),
    [
        ({"trigger": "stop_sign"}, ["--trigger.size", "8"], {"trigger": {"kind": "stop_sign", "size": 8}}),
        ({}, ["--trigger.size=8"], {"trigger": {"size": 8}}),
        ({}, ["--attack.trigger", "blank"], {"attack": {"trigger": "blank"}}),
        (
            {"attack": "baddiffusion"},
            ["--attack.trigger", "blank", "--attack.trigger.size", "4", "--attack.poison-rate", "0.3"],
            {"attack": {"kind": "baddiffusion", "trigger": {"kind": "blank", "size": 4}, "poison_rate": 0.3}},
        ),
        ({"sampler": {"kind": "ddim"}}, ["--sampler.eta", "1"], {"sampler": {"kind": "ddim", "eta": 1}}),
    ],
)
def test_dots_go_inside(given, dotted, tree):
    assert nested(given, dotted) == tree
