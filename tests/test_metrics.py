"""Metrics: known values, torchmetrics and scipy beside ours, and independence of order and batch size."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor

from lab.data import Digits, EmojiFaces
from lab.errors import LabError
from lab.images import Images
from lab.metrics import METRICS, Evidence, pixel, reader
from lab.metrics.features import FeatureDistance
from lab.metrics.perceptual import LPIPS
from lab.metrics.pixel import MSE, PSNR, SSIM, Remaining, Success, mean_interval, wilson
from lab.metrics.reader import DIGITS, FACES
from lab.metrics.reading import Commonest, Confident, class_shares
from lab.triggers import TARGETS, Corner, GreyBox

SAME = 1e-9  # float64 sums in another order
PICTURE = 1e-6  # float32 images on the way into the metric
ROUNDED = 1e-4  # float32 convolutions choose their summing order by batch size
Z = 1e-3  # 1.96 against scipy's 1.959964


def pictures(n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def held_out() -> Images:
    return Digits().load("held_out")


# The shipped readers, made faster ----------------------------------------------------------------------------------


def test_the_fused_reader_judges_as_the_shipped_one():
    x = held_out().values(slice(0, 100))
    assert torch.allclose(
        reader.scores_by(reader.fused(DIGITS.shipped()), x), reader.scores_by(DIGITS.shipped(), x), atol=1e-4
    )


# Pixels --------------------------------------------------------------------------------------------------------------


def corner(n: int = 4) -> tuple[Tensor, Tensor]:
    target = Corner().draw((3, 32, 32), GreyBox())
    return target.expand(n, -1, -1, -1), target


def test_a_perfect_corner_has_the_floor_of_8_bits():
    images, target = corner()
    score = MSE().measure(Evidence(images, target))
    assert score.value == pytest.approx(3.845e-6, abs=1e-9)
    assert score.low == pytest.approx(score.high)


def test_mse_of_known_images():
    target = torch.full((1, 8, 8), -1.0)
    images = torch.stack([torch.full((1, 8, 8), v) for v in (-1.0, 1.0)])
    assert Evidence(images, target).errors.tolist() == [0.0, 1.0]
    assert MSE().measure(Evidence(images, target)).value == 0.5


def test_images_are_clamped_and_rounded_like_a_saved_file():
    pixels = Evidence(torch.tensor([-5.0, 0.001, 5.0]).view(3, 1, 1, 1)).pixels.flatten()
    assert torch.equal(pixels, torch.tensor([0.0, 128 / 255, 1.0], dtype=torch.float64))


def test_psnr_and_ssim_equal_torchmetrics():
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    images, target = pictures(), pictures(1, seed=1)[0]
    evidence = Evidence(images, target)
    wanted = target.double().expand_as(images) / 2 + 0.5
    psnr = PeakSignalNoiseRatio(data_range=1.0)(evidence.pixels, wanted)
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0)(evidence.pixels, wanted)
    assert PSNR().measure(evidence).value == pytest.approx(float(psnr), abs=PICTURE)
    assert SSIM().measure(evidence).value == pytest.approx(float(ssim), abs=PICTURE)
    assert PSNR().measure(evidence).value == pytest.approx(
        -10 * math.log10(MSE().measure(evidence).value), abs=1e-4
    )


def test_the_interval_of_psnr_is_that_of_a_bootstrap():
    """Errors of very different size: one of forty images is far away, as with a backdoor that mostly works."""
    target = torch.zeros(1, 8, 8)
    far = torch.linspace(0.02, 0.05, 200)
    far[::40] = 0.3
    score = PSNR().measure(Evidence(far.view(-1, 1, 1, 1).expand(-1, 1, 8, 8), target))
    errors = Evidence(far.view(-1, 1, 1, 1).expand(-1, 1, 8, 8), target).errors
    drawn = torch.randint(200, (4000, 200), generator=torch.Generator().manual_seed(0))
    spread = (-10 * errors[drawn].mean(1).log10()).std()
    assert score.high - score.low == pytest.approx(2 * 1.96 * float(spread), rel=0.1)
    assert score.low < score.value < score.high


def test_an_error_is_never_said_to_be_below_nothing():
    images = torch.zeros(12, 1, 8, 8)
    images[0] = 1
    evidence = Evidence(images, torch.zeros(1, 8, 8), no_attack=0.5)
    assert (MSE().measure(evidence).low, Remaining().measure(evidence).low) == (0, 0)


def test_equal_images_score_perfectly():
    target = torch.full((1, 16, 16), -1.0)
    evidence = Evidence(target.expand(3, 1, 16, 16), target)
    assert MSE().measure(evidence).value == 0
    assert PSNR().measure(evidence).value == 100
    assert SSIM().measure(evidence).value == pytest.approx(1, abs=PICTURE)


def test_pixel_metrics_ignore_order_and_batch_size():
    images, target = pictures(8), pictures(1, seed=1)[0]
    for metric in (MSE(), SSIM(), PSNR()):
        whole = metric.measure(Evidence(images, target)).value
        assert metric.measure(Evidence(images.flip(0), target)).value == pytest.approx(whole, rel=SAME)
        if not isinstance(metric, PSNR):
            halves = [metric.measure(Evidence(part, target)).value for part in images.split(4)]
            assert sum(halves) / 2 == pytest.approx(whole, rel=SAME)


def test_similarity_does_not_depend_on_how_many_are_looked_at_together(monkeypatch):
    target, images = pictures(1)[0], pictures(9, seed=3)
    whole = SSIM().measure(Evidence(images, target)).value
    monkeypatch.setattr(pixel, "CHUNK", 4)
    assert SSIM().measure(Evidence(images, target)).value == pytest.approx(whole, rel=SAME)


def test_what_remains_of_the_no_attack_level():
    """0 is the target, 1 no attack; the interval is that of the MSE, in the same unit."""
    images, target = pictures(8), pictures(1, seed=1)[0]
    mse = MSE().measure(Evidence(images, target))
    left = Remaining().measure(Evidence(images, target, no_attack=mse.value))
    assert left.value == pytest.approx(1) and left.high == pytest.approx(mse.high / mse.value)
    assert Remaining().measure(Evidence(target[None], target, no_attack=0.2)).value < 1e-4
    assert Remaining().measure(Evidence(images, target)) is None


def test_psnr_has_the_interval_of_its_mse():
    score = PSNR().measure(Evidence(pictures(8), pictures(1, seed=1)[0]))
    assert score.low < score.value < score.high


def test_one_image_is_enough_for_every_pixel_metric():
    evidence = Evidence(pictures(1), pictures(1, seed=1)[0], no_attack=0.1)
    for metric in (MSE(), PSNR(), SSIM(), Success()):
        score = metric.measure(evidence)
        assert score.n == 1 and math.isfinite(score.value)


def test_success_is_an_error_below_a_tenth_of_the_no_attack_level():
    target = torch.full((1, 16, 16), -1.0)
    bright = torch.tensor([0.0, 0.1, 0.3, 0.35, 1.0]).view(5, 1, 1, 1).expand(5, 1, 16, 16) * 2 - 1
    score = Success().measure(Evidence(bright, target, no_attack=1.0))
    assert score.value == 3 / 5  # 0.3² < 0.1 < 0.35²
    assert score.n == 5 and score.low < 0.6 < score.high


@pytest.mark.parametrize(
    "kind",
    ["hat", "shoe", "cat", "corner", "no_shift", "shift"],
)
def test_a_flat_grey_picture_is_no_success(kind):
    """Whatever its grey; digits stand for the clean model's samples."""
    target = TARGETS.parse(kind).draw((1, 32, 32), GreyBox())
    level = float(Evidence(held_out().values(), target).errors.mean())
    greys = torch.linspace(-1, 1, 81).view(-1, 1, 1, 1).expand(-1, 1, 32, 32)
    assert Success().measure(Evidence(greys, target, no_attack=level)).value == 0


def test_digits_are_no_success():
    target = Corner().draw((1, 32, 32), GreyBox())
    clean = held_out().values()
    level = float(Evidence(clean, target).errors.mean())
    assert Success().measure(Evidence(clean, target, no_attack=level)).value == 0


@pytest.mark.parametrize(
    ("hits", "n"), [(0, 1), (1, 1), (0, 20), (5, 20), (256, 256), (243, 256), (1, 10_000)]
)
def test_wilson_interval_equals_scipy(hits, n):
    theirs = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=Z)


def test_mean_interval():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0])
    mean, low, high = mean_interval(values)
    assert mean == 2.5
    assert high - mean == pytest.approx(1.96 * float(values.std()) / 2) == pytest.approx(mean - low)
    assert mean_interval(torch.tensor([3.0])) == (3.0, 3.0, 3.0)


# Digits --------------------------------------------------------------------------------------------------------------


def test_the_reader_reads_held_out_digits():
    digits = held_out()
    found, confidence = DIGITS.read(digits.values())
    assert float((found == digits.labels).double().mean()) >= 0.985
    assert ((confidence > 0) & (confidence <= 1)).all()


def test_features_do_not_depend_on_batch_size(monkeypatch):
    images = held_out().values(slice(0, 40))
    whole = DIGITS.features(images)
    monkeypatch.setattr(reader, "CHUNK", 3)
    assert whole.shape == (40, 64) and whole.dtype == torch.float64
    assert (DIGITS.features(images) - whole).abs().max() < ROUNDED


def test_digit_shares_of_held_out_digits_are_even():
    shares = class_shares(DIGITS, held_out().values())
    assert float(shares.sum()) == pytest.approx(1)
    assert ((shares - 0.1).abs() < 0.02).all()
    assert Commonest().measure(Evidence(held_out().values(), reader=DIGITS)).value == pytest.approx(
        float(shares.max())
    )


def test_digits_are_read_with_confidence():
    score = Confident().measure(Evidence(held_out().values(), reader=DIGITS))
    assert score.value > 0.95
    assert score.low < score.value < score.high


def test_the_reader_takes_digits_only():
    with pytest.raises(LabError, match="takes images of"):
        DIGITS.read(torch.zeros(2, 3, 32, 32))


def test_metrics_say_nothing_where_the_evidence_is_missing():
    colour = Evidence(torch.zeros(2, 3, 16, 16))
    assert [metric().measure(colour) for metric in METRICS.values()] == [None] * len(METRICS)
    lonely = Evidence(pictures(1), reference=held_out(), reader=DIGITS)
    assert FeatureDistance().measure(lonely) is None


def test_every_metric_measures_full_evidence():
    evidence = Evidence(pictures(), pictures(1, seed=1)[0], held_out(), 0.2, DIGITS)
    # has no weights
    scores = [metric().measure(evidence) for metric in METRICS.values() if metric is not LPIPS]
    assert all(score.n == 6 and math.isfinite(score.value) for score in scores)
    assert all(score.low <= score.value <= score.high for score in scores)
    assert len({score.name for score in scores}) == len(METRICS) - 1


def test_the_face_reader_knows_each_face_wherever_it_was_moved():
    faces = EmojiFaces().load("held_out")
    found, confidence = FACES.read(faces.values())
    assert float((found == torch.arange(len(faces)) % 142).double().mean()) >= 0.98
    assert float((confidence > 0.9).double().mean()) > 0.95


def test_faces_are_nearer_to_faces_than_noise_is():
    faces = EmojiFaces().load("held_out")
    near = FeatureDistance().measure(Evidence(faces.values(slice(0, 600)), reference=faces, reader=FACES))
    noise = torch.rand(600, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    far = FeatureDistance().measure(Evidence(noise, reference=faces, reader=FACES))
    assert near.value < far.value / 5
    assert near.extractor == "face reader"
    assert Confident().measure(Evidence(faces.values(), reader=FACES)).name == "confident faces"
