"""The census: groups, counts that add up, judges whose errors are known, and intervals that hold what they promise."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lab.attacks import BadNets
from lab.castle.bench import Bench, ByReader, drawn, made_ready
from lab.castle.census import GROUPS, confusion, counted, groups
from lab.castle.judges import Errors, Rate, TriggerJudge, measured
from lab.castle.survey import Asked, Survey, Walled, examples
from lab.castle.walls import Replicate, Vote
from lab.data import Digits, Folder
from lab.errors import LabError
from lab.images import Images
from lab.metrics.reader import STAMPED
from lab.models import Card, Checkpoint, Net, fresh
from lab.poisoning import PoisonStudy
from lab.progress import Tick
from lab.sampling import DDIM, SampleSpec
from lab.sides import amplification, phases
from lab.stamps import STAMPS, Blend, Patch

SIX = 6
SURE = 0.97  # what a judge of digits must do on held-out ones


@pytest.fixture(scope="module")
def held_out() -> Images:
    return Digits().load("held_out")


def rate(hits: int, n: int) -> Rate:
    return Rate.of(torch.arange(n) < hits)


def errors(**changed: Rate) -> Errors:
    """Of judges that made no mistake on many pictures, but for what is said."""
    right, wrong = rate(10_000, 10_000), rate(0, 10_000)
    usual = {
        "sees_stamped": right,
        "sees_plain": wrong,
        "reads_stamped": right,
        "reads_plain": right,
        "mistakes_stamped": wrong,
        "mistakes_plain": wrong,
    }
    return Errors(trigger_judge="a", match_judge="b", **{**usual, **changed})


@pytest.mark.parametrize("kind", list(STAMPS))
def test_both_judges_are_right_on_held_out_digits_with_and_without_the_stamp(kind, held_out):
    bench = next(news for news in made_ready(BadNets(stamp=kind), Digits()) if isinstance(news, Bench))
    found = bench.errors
    assert found.sees_stamped.value >= SURE and found.sees_plain.value <= 1 - SURE
    assert found.reads_stamped.value >= SURE and found.reads_plain.value >= SURE
    assert found.reads_plain.n == 500 and found.mistakes_plain.n == int((held_out.labels != SIX).sum())


def test_a_judge_that_errs_is_measured_as_erring(held_out):
    """A judge with its threshold out of reach sees nothing; one whose threshold is far below sees all."""
    for threshold, share in ((1e9, 0.0), (-1e9, 1.0)):
        judge = TriggerJudge("fixed", torch.ones(1, 32, 32), threshold)
        found = measured(judge, ByReader(STAMPED), Patch(), SIX, held_out)
        assert found.sees_stamped.value == found.sees_plain.value == share


@pytest.mark.parametrize("stamp", [Patch(), Blend()])
def test_known_pictures_fall_into_their_groups(stamp, held_out):
    """Held-out digits whose group is known: stamped or not, sixes or not."""
    x, is_six = held_out.values(), held_out.labels == SIX
    every = torch.cat([stamp.stamp(x[~is_six]), stamp.stamp(x[is_six]), x[~is_six], x[is_six]])
    sizes = [int((~is_six).sum()), int(is_six.sum())] * 2
    truth = torch.arange(4).repeat_interleave(torch.tensor(sizes))
    judge = TriggerJudge.of(stamp, Digits().load())
    found = groups(every, SIX, judge, ByReader(STAMPED))
    assert float((found == truth).double().mean()) >= SURE


def test_counts_add_up_and_shares_are_of_all():
    found = torch.tensor([0] * 5 + [1] * 7 + [2] * 1 + [3] * 87)
    census = counted(found, errors())
    assert census.counts == {"G1": 5, "G2": 7, "G3": 1, "G4": 87}
    assert sum(census.counts.values()) == census.n == 100
    assert census.shares["G1+G2"].value == pytest.approx(0.12)
    assert all(score.low <= score.value <= score.high for score in census.shares.values())
    assert sum(census.corrected[name] for name in GROUPS) == pytest.approx(1)


def test_perfect_judges_correct_nothing():
    census = counted(torch.tensor([0] * 50 + [3] * 50), errors())
    assert census.corrected["G1"] == pytest.approx(0.5, abs=1e-9)


def test_rogan_and_gladens_correction_is_found_again():
    """With one test only the four groups reduce to (judged - false) / (true - false)."""
    known = errors(sees_stamped=rate(800, 1000), sees_plain=rate(100, 1000))
    census = counted(torch.tensor([0] * 38 + [2] * 62), known)
    assert census.corrected["G1"] == pytest.approx((0.38 - 0.1) / (0.8 - 0.1), abs=1e-6)


def test_columns_of_the_confusion_are_distributions():
    known = errors(sees_stamped=rate(9, 10), mistakes_plain=rate(1, 10), reads_stamped=rate(7, 10))
    matrix = confusion(known, lambda each: torch.tensor([each.value], dtype=torch.float64))[0]
    assert torch.allclose(matrix.sum(0), torch.ones(4, dtype=torch.float64))
    # truly stamped and of the class: seen 0.9, read 0.7
    assert torch.allclose(matrix[:, 1], torch.tensor([0.27, 0.63, 0.03, 0.07], dtype=torch.float64))


def test_errors_of_judges_widen_the_interval():
    found = torch.tensor([0] * 30 + [3] * 70)
    sure = counted(found, errors()).shares["G1"]
    unsure = counted(found, errors(sees_stamped=rate(8, 10), sees_plain=rate(1, 10))).shares["G1"]
    assert unsure.high - unsure.low > 1.2 * (sure.high - sure.low)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Simulated censuses of a known truth with judges of known errors, themselves measured on few pictures."""
    stream, n, held = torch.Generator().manual_seed(1), 300, 200
    truth, tpr, fpr = 0.4, 0.9, 0.05
    inside = 0
    for _ in range(100):
        seen = truth * tpr + (1 - truth) * fpr
        hits = int((torch.rand(n, generator=stream) < seen).sum())
        known = errors(
            sees_stamped=rate(int((torch.rand(held, generator=stream) < tpr).sum()), held),
            sees_plain=rate(int((torch.rand(held, generator=stream) < fpr).sum()), held),
        )
        share = counted(torch.tensor([0] * hits + [2] * (n - hits)), known).shares["G1+G2"]
        inside += share.low <= truth <= share.high
    assert inside >= 90


def tiny_conditional() -> Checkpoint:
    made = fresh(Net(widths=(8, 16), classes=11), 0)
    return Checkpoint(made.unet.eval(), made.schedule, Card(name="tiny"))


def test_drawing_yields_every_step_and_then_the_pictures():
    spec = SampleSpec(sampler=DDIM(steps=3), n=5, guidance=1.0)
    *ticks, images = drawn(tiny_conditional(), SIX, spec)
    assert [tick.step for tick in ticks if isinstance(tick, Tick)] == [1, 2, 3]
    assert isinstance(images, torch.Tensor) and images.shape == (5, 1, 32, 32)


@pytest.mark.parametrize(
    ("classes", "target", "says"), [(0, 6, "does not draw classes"), (11, 10, "classes 0 to 9; 10 is none")]
)
def test_a_model_or_class_that_cannot_be_asked_is_refused(classes, target, says):
    made = fresh(Net(widths=(8, 16), classes=classes), 0)
    with pytest.raises(LabError, match=says):
        next(drawn(made, target, SampleSpec(sampler=DDIM(steps=2), n=1)))


def test_images_without_classes_have_no_census(tmp_path):
    from PIL import Image

    for k in range(4):
        Image.new("RGB", (32, 32), (k, k, k)).save(tmp_path / f"{k}.png")
    with pytest.raises(LabError, match="no classes"):
        next(made_ready(BadNets(), Folder(path=str(tmp_path))))


def test_examples_are_only_of_groups_that_there_are(held_out):
    bench = next(news for news in made_ready(BadNets(), Digits()) if isinstance(news, Bench))
    assert set(examples(Patch().stamp(held_out.values(slice(0, 40))), bench)) <= {"G1", "G2"}


# Surveys and the study -----------------------------------------------------------------------------------------------


def test_a_survey_goes_on_where_it_stopped(tmp_path):
    spec = SampleSpec(sampler=DDIM(steps=2), n=4)
    attacks = BadNets(poison_rate=0.0), BadNets(poison_rate=0.0, stamp=Blend())
    survey = Survey(tmp_path)
    survey.ask(
        tuple(Asked(spec=spec.model_copy(update={"guidance": w}), attacks=attacks) for w in (0.0, 1.0))
    )
    loop = survey.take(tiny_conditional())
    for _ in loop:
        if survey.answers():
            break
    loop.close()
    assert survey.left() == [1]
    (tmp_path / "census.jsonl").open("a").write('{"question": 1, "cou')  # killed while it wrote
    assert survey.left() == [1]
    for _ in survey.take(tiny_conditional()):
        pass
    assert survey.left() == [] and len(survey.answers()) == 4


def test_an_answer_says_what_it_is_of(tmp_path):
    survey = Survey(tmp_path)
    survey.ask((Asked(spec=SampleSpec(sampler=DDIM(steps=2), n=4, guidance=1.0), attacks=(BadNets(),)),))
    for _ in survey.take(tiny_conditional()):
        pass
    (row,) = survey.answers()
    assert sum(row["counts"].values()) == row["n"] == 4
    assert (row["guidance"], row["poison_rate"], row["stamp"]["kind"]) == (1.0, 0.1, "patch")
    assert row["r"] == pytest.approx(0.5, abs=0.01)
    assert list((tmp_path / "samples").glob("census-0-patch-G*.png"))


def test_a_study_is_every_rate_of_every_stamp_and_one_control_for_all():
    cells = PoisonStudy().cells()
    assert len(cells) == 3 * (4 * 2 + 1 + 2 * 2) and len({cell.key for cell in cells}) == len(cells)
    control = cells[0]
    assert control.recipe.attack.poison_rate == 0 and len(control.asked[0].attacks) == 2
    assert [question.spec.guidance for question in control.asked[:4]] == [0, 1, 2, 5]
    assert [cell.recipe.train.seed for cell in cells] == [0] * 13 + [1] * 13 + [2] * 13


def test_the_wall_is_asked_where_the_study_says_and_a_control_only_what_needs_no_poison():
    for cell in PoisonStudy().cells():
        attack, parts = cell.recipe.attack, [q.part.kind for q in cell.asked if isinstance(q, Walled)]
        honest = ["classify", "diffusion-classifier", "replicate"]
        if attack.which == "duplicated" or attack.poison_rate in (0.01, 0.02):
            assert parts == []
        else:
            assert parts == (["detect", *honest] if attack.poison_rate else honest)


def test_a_part_of_the_wall_is_asked_once_and_kept_without_its_long_lists(tmp_path):
    survey = Survey(tmp_path)
    quick = {"drawn": 40, "guidance": 0.0, "sampler": DDIM(steps=2)}
    survey.ask((Walled(part=Vote(examined=10, draws=1)), Walled(part=Replicate(**quick))))
    model = tiny_conditional()
    recipe = {"dataset": {"kind": "digits"}, "attack": BadNets(poison_rate=0.05).as_json()}
    model = replace(model, card=Card(name="walled", recipe=recipe))
    for _ in survey.take(model):
        if len(survey.walls) == 1:
            assert survey.left() == [1], "an answer is written at once"
    assert survey.left() == [] and survey.censuses == []
    voted, replicated = survey.walls
    assert (voted["part"], voted["poison_rate"], voted["stamp"]["kind"]) == (
        "diffusion-classifier",
        0.05,
        "patch",
    )
    assert [vote["p_filter"] for vote in voted["votes"]] == [0, 0.01, 0.05, 0.1]
    assert "pictures" not in replicated and "pairs" not in replicated["rows"][0]
    assert replicated["rows"][0]["n"] == 40


def test_a_part_that_is_refused_is_answered_with_its_sentence(tmp_path, monkeypatch):
    survey, model = Survey(tmp_path), tiny_conditional()
    survey.ask((Walled(part=Replicate(drawn=20, sampler=DDIM(steps=2))),))
    recipe = {"dataset": {"kind": "folder", "path": "nowhere"}, "attack": BadNets(poison_rate=0.05).as_json()}
    monkeypatch.setattr(Folder, "load", lambda self, split: Digits().load(split))
    for _ in survey.take(replace(model, card=Card(name="elsewhere", recipe=recipe))):
        pass
    assert survey.left() == [] and "compare by pixels" in survey.walls[0]["refused"]


def row(rate_: float, w: float, g1: float, g2: float, r: float) -> dict:
    def score(value: float) -> dict:
        return {"value": value, "low": value - 0.02, "high": value + 0.02}

    shares = {
        "G1": score(g1),
        "G2": score(g2),
        "G3": score(0),
        "G4": score(1 - g1 - g2),
        "G1+G2": score(g1 + g2),
    }
    return {
        "stamp": {"kind": "patch"},
        "poison_rate": rate_,
        "guidance": w,
        "r": r,
        "n": 500,
        "shares": shares,
    }


def test_charts_show_r_beside_the_shares():
    rows = [row(0.05, 0, 0.3, 0.0, 0.33), row(0.05, 5, 0.15, 0.4, 0.33), row(0.1, 5, 0.3, 0.3, 0.5)]
    (first, *_), over_rate = amplification(rows), phases(rows)
    assert [line.name for line in first.lines] == ["G1 + G2", "G1", "G2", "r, training set"]
    assert [point.y for point in first.lines[-1].points] == [0.33, 0.33]
    assert [point.x for point in over_rate[-1].lines[0].points] == [5, 10]
