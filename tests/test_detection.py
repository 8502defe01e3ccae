"""Detectors in closed cases, and AUROC with its interval against other implementations."""

from __future__ import annotations

import math

import pytest
import torch
from poisoning import last, noise, poisoned_digits
from scipy.stats import mannwhitneyu
from torchmetrics.functional.classification import binary_auroc
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import affine

from lab.castle.classifiers import Classifier, ClassifierSpec
from lab.castle.detection import DETECTORS, FCT, CognitiveDistillation, Strip
from lab.castle.detection.auroc import auroc, curve, delong, midranks
from lab.castle.detection.distillation import roughness
from lab.castle.detection.fct import likeness, moved, movements
from lab.castle.detection.screening import gains, screen
from lab.castle.detection.strip import entropy
from lab.castle.labelled import Labelled
from lab.errors import LabError
from lab.metrics.pixel import wilson
from lab.progress import Tick

SAME = 1e-9  # float64 sums in another order
FLOAT32 = 1e-5


# STRIP ---------------------------------------------------------------------------------------------------------------


def test_a_classifier_that_is_always_sure_has_no_entropy():
    found = entropy(lambda x: torch.tensor([[1000.0, 0, 0]]).expand(len(x), -1), noise(5), noise(3, seed=1))
    assert found.shape == (5,) and found.abs().max() < SAME


def test_a_classifier_that_knows_nothing_has_the_most():
    found = entropy(lambda x: torch.zeros(len(x), 7), noise(5), noise(3, seed=1))
    assert found.sub(math.log(7)).abs().max() < SAME


def test_pictures_are_added_on_the_scale_from_0_to_1_and_clamped():
    seen = []

    def watching(x):
        seen.append(x)
        return torch.zeros(len(x), 2)

    x, overlay = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).view(5, 1, 1, 1), torch.tensor([[[-0.5]]])
    entropy(watching, x, overlay[None])
    on_unit = ((x + 1) / 2 + (overlay + 1) / 2).clamp(0, 1)
    assert torch.allclose((seen[0] + 1) / 2, on_unit)


# Cognitive Distillation ------------------------------------------------------------------------------------------------


def looks_at_corner(x):
    """A classifier that sees nothing but 4×4 pixels in the lower right corner."""
    brightness = 20 * x[:, :, -4:, -4:].mean(dim=(1, 2, 3))
    return torch.stack([brightness, -brightness], dim=1)


@pytest.mark.parametrize(("outputs", "gamma"), [("logits", 0.01), ("softmax", 0.0005)])
def test_a_mask_shrinks_to_what_the_classifier_looks_at(outputs, gamma):
    x = noise(4, side=32)
    x[..., -4:, -4:] = 1
    detector = CognitiveDistillation(outputs=outputs, gamma=gamma, beta=0)
    m = last(detector.masks(detector.answers(looks_at_corner), x, torch.Generator().manual_seed(0)))
    assert m.shape == (4, 1, 32, 32) and m.min() >= 0 and m.max() <= 1
    outside = m.clone()
    outside[..., -4:, -4:] = 0
    assert m[..., -4:, -4:].mean() > 3 * outside.mean() / (1 - 16 / 1024)
    assert outside.sum() / (1024 - 16) < 0.1


def test_a_mask_of_a_classifier_that_looks_at_nothing_goes_away():
    detector = CognitiveDistillation(gamma=0.01)
    m = last(detector.masks(lambda x: torch.zeros(len(x), 3) * x.mean(), noise(3), torch.Generator()))
    assert m.max() < 0.01


def test_a_mask_is_learned_for_each_picture_by_itself():
    """Only the random colours may differ; this classifier ignores them."""
    detector = CognitiveDistillation(gamma=0.01, steps=5)
    x = noise(3)
    whole = last(detector.masks(lambda x: x.flatten(1)[:, :3] * 0, x, torch.Generator()))
    alone = last(detector.masks(lambda x: x.flatten(1)[:, :3] * 0, x[:1], torch.Generator()))
    assert torch.allclose(whole[:1], alone, atol=FLOAT32)


def test_roughness_is_squared_steps_by_pixels():
    m = torch.zeros(2, 1, 3, 4)
    m[1, 0, 1, 1] = 1  # four edges
    assert roughness(m).tolist() == pytest.approx([0, 4 / 12])


# FCT -------------------------------------------------------------------------------------------------------------------


def test_likeness_of_class_means():
    right, up = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 3.0])
    slanted = torch.tensor([math.cos(math.pi / 3), math.sin(math.pi / 3)])
    labels = torch.tensor([0, 0, 1, 1])
    for one, other, wanted in ((right, up, 0.0), (right, right, 1.0), (right, slanted, 0.5)):
        features = torch.stack([one, one, other, other])
        assert float(likeness(features, labels)) == pytest.approx(wanted, abs=FLOAT32)
    assert float(likeness(features, torch.zeros(4))) == 0


def test_pictures_move_as_torchvision_moves_them():
    x = noise(4, side=32)
    found = moved(x, torch.Generator().manual_seed(3))
    stream = torch.Generator().manual_seed(3)
    angles = (torch.rand(4, generator=stream) * 2 - 1) * 180
    shifts = (torch.rand(4, 2, generator=stream) * 2 - 1) * 0.2 * 32
    for k in range(4):
        wanted = affine(
            x[k],
            -float(angles[k]),
            shifts[k].tolist(),
            1.0,
            [0.0, 0.0],
            InterpolationMode.BILINEAR,
            fill=[-1.0],
        )
        inside = wanted > -0.99  # torchvision fills beyond the edge, grid_sample fades to it
        assert torch.allclose(found[k][inside], wanted[inside], atol=0.5)
        assert (found[k] - wanted).abs().mean() < 0.02


def brightness_alone() -> Classifier:
    """Features are a picture's mean."""
    return Classifier(torch.nn.ModuleDict({"body": torch.nn.Identity(), "head": torch.nn.Linear(1, 2)}))


def test_black_pictures_do_not_move_and_a_patch_in_the_corner_does():
    x = torch.full((3, 1, 32, 32), -1.0)
    x[1, :, 14:18, 14:18] = 1  # stays in the picture, however it is moved
    x[2, :, -4:, -4:] = 1  # leaves it
    found = (
        movements(brightness_alone(), x.repeat(20, 1, 1, 1), torch.Generator().manual_seed(0))
        .view(20, 3)
        .mean(0)
    )
    assert found[0] == 0 and found[1] < found[2] / 10


def test_movement_is_the_mean_squared_change_of_features():
    x = noise(6)
    found = movements(brightness_alone(), x, torch.Generator().manual_seed(4))
    change = x.mean((1, 2, 3)) - moved(x, torch.Generator().manual_seed(4)).mean((1, 2, 3))
    assert torch.allclose(found, change.double().square(), atol=FLOAT32)


# AUROC -----------------------------------------------------------------------------------------------------------------


def drawn(n: int, ties: bool, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(seed)
    positive = torch.rand(n, generator=stream) < 0.3
    scores = torch.randn(n, generator=stream, dtype=torch.float64) + positive
    return (scores * 2).round() if ties else scores * 30, positive


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_auroc_equals_torchmetrics_and_scipy(ties, seed):
    scores, positive = drawn(300, ties, seed)
    found = auroc(scores, positive)
    squeezed = (scores - scores.min()) / (scores.max() - scores.min())
    assert found.value == pytest.approx(float(binary_auroc(squeezed, positive.long())), abs=FLOAT32)
    u = mannwhitneyu(scores[positive], scores[~positive]).statistic
    assert found.value == pytest.approx(u / (int(positive.sum()) * int((~positive).sum())), abs=SAME)
    assert found.low < found.value < found.high and found.n == 300


def test_delong_by_hand():
    """Positives 3 and 1, negatives 2 and 0: three pairs of four are right."""
    scores, positive = torch.tensor([3.0, 1.0, 2.0, 0.0]), torch.tensor([True, True, False, False])
    assert delong(scores, positive) == (0.75, 0.125)


@pytest.mark.parametrize("ties", [False, True])
def test_delong_by_its_definition(ties):
    """Every pair one by one, as DeLong writes it, without ranks."""
    scores, positive = drawn(80, ties, seed=9)
    a, b = scores[positive][:, None], scores[~positive][None]
    pairs = (a > b).double() + 0.5 * (a == b).double()
    variance = pairs.mean(1).var() / len(pairs) + pairs.mean(0).var() / pairs.shape[1]
    assert delong(scores, positive) == pytest.approx((float(pairs.mean()), float(variance)), abs=SAME)


def test_equal_scores_share_their_rank():
    assert midranks(torch.tensor([5.0, 1.0, 5.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_a_perfect_ranking_is_no_certainty():
    found = auroc(torch.arange(30.0), torch.arange(30) >= 20)
    assert found.value == 1 and (found.low, found.high) == wilson(10, 10)


def test_scores_that_say_nothing_have_a_wide_interval():
    found = auroc(torch.zeros(30), torch.arange(30) >= 20)
    assert found.value == 0.5 and found.low < 0.3 and found.high > 0.7


@pytest.mark.parametrize(("shift", "truth"), [(0.0, 0.5), (1.8, 0.8985), (3.3, 0.9902)])
def test_the_interval_holds_the_truth_as_often_as_it_says(shift, truth):
    """40 positives a unit Gaussian `shift` above 200 negatives; the AUROC is Φ(shift/√2)."""
    stream, held, times = torch.Generator().manual_seed(1), 0, 300
    for _ in range(times):
        scores = torch.randn(240, generator=stream, dtype=torch.float64)
        scores[:40] += shift
        found = auroc(scores, torch.arange(240) < 40)
        held += found.low <= truth <= found.high
    assert held / times >= 0.93


def test_a_curve_runs_from_corner_to_corner_and_has_the_auroc_below_it():
    scores, positive = drawn(400, False, seed=2)
    points = curve(scores, positive)
    assert points[0] == (0, 0) and points[-1] == (1, 1) and len(points) <= 101
    x, y = torch.tensor(points, dtype=torch.float64).T
    assert (x.diff() >= 0).all() and (y.diff() >= 0).all()
    assert float(torch.trapezoid(y, x)) == pytest.approx(auroc(scores, positive).value, abs=0.02)


def test_one_kind_of_pictures_has_no_auroc():
    with pytest.raises(LabError, match="only one kind"):
        auroc(torch.arange(3.0), torch.ones(3, dtype=torch.bool))
    with pytest.raises(LabError, match="no numbers"):
        auroc(torch.tensor([0.0, float("nan")]), torch.tensor([True, False]))


# A whole screening -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    data = poisoned_digits(1000, 100)
    detectors = [Strip(overlays=40), FCT(warm_up=1, tuning=1), CognitiveDistillation(steps=3)]
    return data, list(screen(data, detectors, ClassifierSpec(epochs=8), n=200, seed=1))


def test_each_detector_gives_a_result_after_its_ticks(found):
    data, news = found
    results = [each for each in news if not isinstance(each, Tick)]
    assert [each.detector["kind"] for each in results] == ["strip", "fct", "cognitive_distillation"]
    truth = data.is_poisoned[data.sample(200, 1)]
    assert all((each.n, each.poisoned, each.seed) == (200, int(truth.sum()), 1) for each in results)


def test_strip_finds_a_patch_that_decides(found):
    data, news = found
    strip = next(each for each in news if not isinstance(each, Tick))
    assert strip.auroc.low > 0.7
    assert (
        strip.caught == data.is_poisoned[strip.suspects].tolist()
        and sum(strip.caught) > len(strip.caught) / 2
    )


def test_a_gain_is_generated_minus_training(found):
    strip = next(each for each in found[1] if not isinstance(each, Tick))
    lower = strip.auroc.model_copy(update={"value": 0.6, "low": 0.5, "high": 0.7})
    training = strip.model_copy(update={"auroc": lower})
    (gain,) = gains([training], [strip])
    assert gain.detector == "strip" and gain.gain == pytest.approx(strip.auroc.value - 0.6)
    assert gain.low < gain.gain < gain.high
    assert gains([], [strip]) == []


def test_a_set_without_poison_is_refused_before_anything_is_trained():
    data = Labelled("noise", noise(20), torch.arange(20) % 2, torch.zeros(20, dtype=torch.bool), 2)
    with pytest.raises(LabError, match="poisoned and clean pictures"):
        next(screen(data, [Strip()], ClassifierSpec(), n=10))


@pytest.mark.parametrize("detector", DETECTORS.values(), ids=lambda each: each.kind)
def test_no_detector_sees_the_truth(detector):
    """The same scores whatever the marks say."""
    from dataclasses import replace

    from lab.castle.classifiers import trained
    from lab.castle.detection.base import Suspicion

    data = Labelled("noise", noise(40), torch.arange(40) % 2, torch.arange(40) < 20, 2)
    spec = ClassifierSpec(epochs=1, batch=20)
    classifier, index = last(trained(data, spec)), torch.arange(10)
    quick = {
        "strip": {"overlays": 3},
        "fct": {"warm_up": 1, "tuning": 1},
        "cognitive_distillation": {"steps": 2},
    }
    chosen = detector(**quick[detector.kind])
    one = last(chosen.scores(Suspicion(data, index, classifier, spec)))
    other = replace(data, is_poisoned=~data.is_poisoned)
    assert torch.equal(one, last(chosen.scores(Suspicion(other, index, classifier, spec))))
    assert one.shape == (10,) and one.dtype == torch.float64
