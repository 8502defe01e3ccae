"""Models side by side: which cells are made, what is said of them, and the report as files."""

from __future__ import annotations

import csv
import importlib
import io
import json
import re
import zipfile

import pytest

from lab.cli import main
from lab.errors import LabError
from lab.metrics.inception import Inception
from lab.ops import OPERATIONS, final, from_cards, zipped

QUICK = {"samplers": [{"kind": "ddim", "steps": 2}], "n": 2}


def compare(**options) -> dict:
    return final(OPERATIONS["compare"](**{**QUICK, **options}))


def test_rows_are_every_model_sampler_clip_and_noise():
    found = compare(clips=["none", "x0"], conditions="triggered")
    assert [(row["checkpoint"], row["clip"], row["condition"]) for row in found["rows"]] == [
        ("mnist-clean", "none", "triggered"),
        ("mnist-clean", "x0", "triggered"),
        ("mnist-grey-box-hat", "none", "triggered"),
        ("mnist-grey-box-hat", "x0", "triggered"),
    ]
    assert all(row["picture"].startswith("data:image/png;base64,") for row in found["rows"])
    assert found["planned"] == 4


def test_partial_reports_come_on_the_way():
    news = [each for each in OPERATIONS["compare"](**QUICK) if isinstance(each, dict)]
    assert [len(each["rows"]) for each in news] == [1, 2, 3, 4, 4]


def test_a_clean_model_is_asked_for_the_backdoor_beside_it():
    found = compare(checkpoints=["mnist-clean", "mnist-stop-sign-shoe"], conditions=["triggered"])
    assert [row["trigger"]["kind"] for row in found["rows"]] == ["stop_sign", "stop_sign"]
    assert [row["target"]["kind"] for row in found["rows"]] == ["shoe", "shoe"]


def test_several_backdoors_are_each_asked_for_their_own():
    found = compare(checkpoints=["mnist-grey-box-hat", "mnist-stop-sign-shoe"], conditions=["triggered"])
    assert [row["trigger"]["kind"] for row in found["rows"]] == ["grey_box", "stop_sign"]


def test_a_clip_that_a_sampler_has_not_is_left_out_with_a_sentence():
    found = compare(samplers=["pndm"], clips=["x0", "none"], checkpoints="mnist-clean", conditions="clean")
    assert [row["clip"] for row in found["rows"]] == ["none"]
    assert found["skipped"] == ["pndm has no clip x0: it has no predicted x_0 to clamp."]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"checkpoints": ["mnist-cleen"]}, "did you mean 'mnist-clean'"),
        ({"checkpoints": []}, "at least 1"),
        ({"samplers": ["pndm"], "clips": ["x0"]}, "pndm has no clip x0"),
        ({"n": 0}, "at least 1"),
        ({"samplers": [{"kind": "ddim", "steps": k} for k in range(1, 13)], "clips": ["none", "x0", "xt"],
          "checkpoints": ["mnist-clean", "mnist-grey-box-hat"]}, "144 measurements; at most 96"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(options, sentence):
    with pytest.raises(LabError, match=sentence):
        compare(**options)


def test_fid_without_known_real_images_is_said_and_not_left_out(monkeypatch, tiny, tmp_path):
    """Nobody knows what this model was trained on: evaluate asks for images, a report says what it lacks."""
    tiny.save(tmp_path / "tiny")
    for name in ("compare", "sampling"):
        monkeypatch.setattr(
            importlib.import_module(f"lab.ops.{name}"), "inception", lambda: Inception(tmp_path)
        )
    source = str(tmp_path / "tiny")
    with pytest.raises(LabError, match="name them: --reference"):
        final(OPERATIONS["evaluate"](checkpoint=source, fid=True, n=1))
    found = compare(checkpoints=source, fid=True, conditions="clean")
    assert found["skipped"] == [
        "tiny has no FID: what its real images are is not known; `evaluate` takes them."
    ]


def test_cards_answer_at_once():
    """Stored rows of shipped models: the most images, the model's own sampler, no clip."""
    found = from_cards(("mnist-clean", "mnist-grey-box-hat-ode"))
    assert [(row["checkpoint"], row["condition"], row["n"]) for row in found["rows"]] == [
        (name, condition, 1000)
        for name in ("mnist-clean", "mnist-grey-box-hat-ode")
        for condition in ("clean", "triggered")
    ]
    assert {row["sampler"]["kind"] for row in found["rows"][2:]} == {"ddim"}


def test_the_command_line_prints_every_number_with_its_interval(capsys):
    words = ["--samplers", '[{"kind": "ddim", "steps": 2}]', "--n", "2", "--conditions", "clean"]
    assert main(["compare", *words]) == 0
    printed = capsys.readouterr().out
    assert "mnist-grey-box-hat, clean  (DDIMScheduler, 2 steps, clip none, seed 0, n 2)" in printed
    assert re.search(r"feature distance +[\d.e+]+  \([\d.e+]+ to [\d.e+]+\)  digit reader", printed)
    assert "With n = 2 a Fréchet distance is larger" in printed


def test_a_report_is_written_in_every_form(tmp_path, capsys):
    words = ["--samplers", '[{"kind": "ddim", "steps": 2}]', "--n", "2", "--conditions", "clean"]
    assert main(["compare", *words, "--out", str(tmp_path / "report"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    files = {str(path.relative_to(tmp_path / "report")) for path in (tmp_path / "report").rglob("*.*")}
    forms = {f"report.{form}" for form in ("json", "csv", "html", "png", "pdf")}
    assert files == forms | {"images/00.png", "images/01.png"}
    stored = json.loads((tmp_path / "report" / "report.json").read_text())
    assert "picture" not in stored["rows"][0]
    assert stored["rows"][0]["scores"] == printed["rows"][0]["scores"]
    lines = list(csv.DictReader((tmp_path / "report" / "report.csv").open()))
    assert len(lines) == sum(len(row["scores"]) for row in printed["rows"])
    assert float(lines[0]["value"]) == printed["rows"][0]["scores"][0]["value"]


def test_the_printed_page_needs_nothing_from_elsewhere(tmp_path):
    compare(out=str(tmp_path), conditions="clean")
    page = (tmp_path / "report.html").read_text()
    assert page.count("<img ") == 2 and "http://" not in page.replace("http://www.w3.org", "")
    assert "DDIMScheduler, 2 steps, clip none, seed 0, n 2" in page


def test_names_from_outside_are_escaped(tmp_path):
    found = compare(conditions="clean", checkpoints="mnist-clean")
    found["rows"][0]["checkpoint"] = "<script>alert(1)</script>"
    page = zipfile.ZipFile(io.BytesIO(zipped(found))).read("report.html").decode()
    assert "<script>" not in page and "&lt;script&gt;" in page
