"""Features of generated and real images compared: known distances, torchmetrics and torch-fidelity beside ours."""

from __future__ import annotations

import hashlib
import math

import pytest
import torch
from torch import Tensor, nn

from lab.data import Digits
from lab.errors import LabError, Unavailable
from lab.images import Images
from lab.metrics import Evidence, features, inception, perceptual, reader, real, scores_of
from lab.metrics.features import (
    KID,
    FeatureDistance,
    Gaussian,
    Precision,
    Recall,
    frechet_distance,
    standard_error,
    within,
)
from lab.metrics.inception import Inception
from lab.metrics.perceptual import LPIPS
from lab.metrics.reader import DIGITS

EIGEN = 1e-6  # an eigenvalue that should be 0 comes out at 1e-16 and its root at 1e-8, times 64 features
REFERENCE = 1e-3  # the agreement asked for with torchmetrics, which takes eigenvalues another way
SAME = 1e-9  # float64 sums in another order
ROUNDED = 1e-4  # float32 convolutions choose their summing order by batch size


def gaussian(n: int, d: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).double() * scale + mean


def whitened(n: int, d: int, seed: int) -> Tensor:
    """Features with mean exactly 0 and covariance exactly 1."""
    x = gaussian(n, d, seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def pictures(n: int = 6, seed: int = 0, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def distance(a: Tensor, b: Tensor) -> float:
    return float(frechet_distance(Gaussian.of(a), Gaussian.of(b)))


def held_out() -> Images:
    return Digits().load("held_out")


# Fréchet distance ----------------------------------------------------------------------------------------------------


def test_distance_of_a_set_to_itself_is_zero():
    x = gaussian(300, 16, 0)
    assert distance(x, x) < EIGEN


def test_distance_is_symmetric_and_ignores_order():
    a, b = gaussian(300, 16, 0), gaussian(200, 16, 1, mean=0.3, scale=2.0)
    assert distance(a, b) == pytest.approx(distance(b, a), rel=SAME)
    assert distance(a, b) == pytest.approx(distance(a[torch.randperm(300)], b), rel=SAME)


def test_distance_of_known_gaussians():
    """Moved by m and stretched by s, d standard normal features are d·m² + d·(s - 1)² away."""
    x, d = whitened(500, 8, 0), 8
    assert distance(x, x + 0.5) == pytest.approx(d * 0.25, abs=EIGEN)
    assert distance(x, 3 * x) == pytest.approx(d * 4, abs=EIGEN)
    assert distance(x, 3 * x + 0.5) == pytest.approx(d * 4.25, abs=EIGEN)


def test_distance_of_flat_features_is_that_of_their_means():
    a, b = torch.zeros(5, 3), torch.ones(5, 3)
    assert distance(a, b) == pytest.approx(3.0)


def test_distance_with_fewer_images_than_features_is_finite():
    assert math.isfinite(distance(gaussian(10, 64, 0), gaussian(500, 64, 1)))


def test_distance_equals_torchmetrics():
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Flat(nn.Module):
        """Pixels are the features."""

        num_features = 16

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)

    a, b = gaussian(200, 16, 0), gaussian(150, 16, 1, mean=0.2, scale=1.5)
    theirs = FrechetInceptionDistance(feature=Flat(), normalize=True).set_dtype(torch.float64)
    theirs.update(a.view(-1, 1, 4, 4), real=True)
    theirs.update(b.view(-1, 1, 4, 4), real=False)
    assert distance(a, b) == pytest.approx(float(theirs.compute()), abs=REFERENCE)


def test_feature_distance_of_digits():
    """Held-out digits are nearer to each other than to noise; n, extractor and reference are said."""
    digits = held_out()
    half = Evidence(digits.values(slice(0, None, 2)), reference=digits, reader=DIGITS)
    near = FeatureDistance().measure(half)
    far = FeatureDistance().measure(Evidence(pictures(50), reference=digits, reader=DIGITS))
    assert near.value < far.value / 5
    assert (near.n, near.extractor) == (250, "digit reader")
    assert digits.digest() in near.reference and "500 images" in near.reference


def test_feature_distance_ignores_order_and_batch_size(monkeypatch):
    images, digits = pictures(30), held_out()
    whole = FeatureDistance().measure(Evidence(images, reference=digits, reader=DIGITS)).value
    monkeypatch.setattr(reader, "CHUNK", 7)
    other = FeatureDistance().measure(Evidence(images.flip(0), reference=digits, reader=DIGITS)).value
    assert other == pytest.approx(whole, rel=ROUNDED)


@pytest.fixture
def nothing_known(monkeypatch, tmp_path):
    """A lab that has not looked at any real image yet."""
    monkeypatch.setenv("LAB_HOME", str(tmp_path))
    for cache in (real.real_features.cache, features._real.cache):
        cache.clear()


def counted(monkeypatch) -> list[int]:
    """Numbers of images whose features were computed, as they come."""
    seen, compute = [], reader.Reader.features
    monkeypatch.setattr(
        reader.Reader, "features", lambda self, images: seen.append(len(images)) or compute(self, images)
    )
    return seen


def test_the_real_side_is_measured_once(monkeypatch, nothing_known):
    digits, seen = held_out(), counted(monkeypatch)
    for n in (20, 30):
        FeatureDistance().measure(Evidence(pictures(n), reference=digits, reader=DIGITS))
    assert sorted(seen) == [20, 30, 500]
    other = Images(digits.pixels[:100])
    FeatureDistance().measure(Evidence(pictures(20), reference=other, reader=DIGITS))
    assert sorted(seen[3:]) == [20, 100]


def test_the_real_side_is_found_on_the_disk_by_another_process(monkeypatch, nothing_known):
    digits = held_out()
    first = real.real_features(DIGITS, digits)
    real.real_features.cache.clear()
    seen = counted(monkeypatch)
    assert torch.equal(real.real_features(DIGITS, digits), first) and seen == []


def test_a_damaged_or_foreign_file_of_the_real_side_is_computed_anew(nothing_known, tmp_path):
    digits = held_out()
    first = real.real_features(DIGITS, digits)
    path = next((tmp_path / "references").glob("*.safetensors"))
    for content in (b"", b"nonsense", path.read_bytes().replace(b"500 images", b"501 images")):
        path.write_bytes(content)
        real.real_features.cache.clear()
        assert torch.equal(real.real_features(DIGITS, digits), first)


def test_features_are_computed_once_for_all_metrics(monkeypatch):
    seen = counted(monkeypatch)
    digits = held_out()
    names = [score.name for score in scores_of(Evidence(pictures(12), reference=digits, reader=DIGITS))]
    assert {"feature distance", "kernel distance", "precision", "recall"} <= set(names)
    assert seen.count(12) == 1


# Kernel distance, precision, recall, intervals ----------------------------------------------------------------------


class Given:
    """An extractor whose features are the first pixels."""

    name = identity = "pixels"
    distance = "feature distance"

    def features(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, :16].double()


def evidence_of(found: Images, others: Images) -> Evidence:
    return Evidence(found.values(), reference=others, extractor=Given())


def noise(n: int, seed: int, low: int = 0) -> Images:
    stream = torch.Generator().manual_seed(seed)
    return Images(torch.randint(low, 256, (n, 1, 16, 16), generator=stream, dtype=torch.uint8))


class Flat(nn.Module):
    """The same features for torchmetrics."""

    num_features = 16

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0, 0, :16].float()


def test_kernel_distance_equals_torchmetrics():
    from torchmetrics.image.kid import KernelInceptionDistance

    found, others = noise(120, 0, low=60), noise(120, 1)
    ours = KID().measure(evidence_of(found, others))
    theirs = KernelInceptionDistance(feature=Flat(), subsets=5, subset_size=120, normalize=True)
    theirs.update(others.values(), real=True)
    theirs.update(found.values(), real=False)
    assert ours.value == pytest.approx(float(theirs.compute()[0]), abs=REFERENCE)
    assert ours.name == "kernel distance" and ours.low <= ours.value <= ours.high


def test_precision_and_recall_equal_torch_fidelity():
    from torch_fidelity.metric_prc import prc_features_to_metric

    found, others = noise(90, 0, low=40), noise(150, 1)
    evidence = evidence_of(found, others)
    theirs = prc_features_to_metric(
        Given().features(found.values()), Given().features(others.values()), verbose=False
    )
    assert Precision().measure(evidence).value == pytest.approx(theirs["precision"])
    assert Recall().measure(evidence).value == pytest.approx(theirs["recall"])


def test_what_lies_within_reach(monkeypatch):
    """Points on a line: each reaches as far as its third neighbour."""
    line = torch.arange(5.0, dtype=torch.float64)[:, None]
    points = torch.tensor([[-3.1], [-2.9], [2.0], [7.1]], dtype=torch.float64)
    expected = [False, True, True, False]
    assert within(points, line).tolist() == expected
    monkeypatch.setattr(features, "BLOCK", 2)
    assert within(points, line).tolist() == expected


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_the_standard_error_is_that_of_a_bootstrap_and_of_fresh_draws(shift):
    """Of one sample, of 200 resamples of it, and of 200 samples: three ways to the same spread."""
    known = Gaussian(torch.zeros(4).double(), torch.eye(4).double())
    sample = gaussian(400, 4, 1000, shift, scale=1.2)
    stream = torch.Generator().manual_seed(0)
    again = [sample[torch.randint(400, (400,), generator=stream)] for _ in range(200)]
    fresh = [gaussian(400, 4, seed, shift, scale=1.2) for seed in range(200)]
    spreads = [
        float(torch.stack([frechet_distance(Gaussian.of(each), known) for each in draws]).std())
        for draws in (again, fresh)
    ]
    assert standard_error(sample, known) == pytest.approx(spreads[0], rel=0.3)
    assert standard_error(sample, known) == pytest.approx(spreads[1], rel=0.3)


def test_the_standard_error_is_finite_with_fewer_images_than_features():
    assert 0 < standard_error(gaussian(10, 64, 0), Gaussian.of(gaussian(500, 64, 1))) < math.inf


def test_the_interval_holds_the_distance_and_repeats():
    evidence = evidence_of(noise(60, 0), noise(80, 1))
    score = FeatureDistance().measure(evidence)
    assert score.low < score.value < score.high
    assert FeatureDistance().measure(evidence_of(noise(60, 0), noise(80, 1))) == score


# FID and LPIPS, on files of this test -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of Inception's shape with random weights, and its sha256."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    path = tmp_path_factory.mktemp("weights") / inception.NAMES[0]
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", lambda *a, **k: {}
        )
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        torch.save(FeatureExtractorInceptionV3("random", ["2048"]).state_dict(), path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_fid_equals_torchmetrics_on_the_same_file(weights):
    from torchmetrics.image.fid import FrechetInceptionDistance

    path, digest = weights
    images, digits = pictures(4), Images(held_out().pixels[:6])
    ours = FeatureDistance().measure(Evidence(images, reference=digits, extractor=Inception(path, digest)))
    theirs = FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=str(path))
    theirs.update(bytes_of(digits.values()), real=True)
    theirs.update(bytes_of(images), real=False)
    assert ours.value == pytest.approx(float(theirs.compute()), abs=REFERENCE)
    assert (ours.name, ours.extractor, ours.n) == ("FID", "Inception pool3", 4)


def bytes_of(images: Tensor) -> Tensor:
    return ((images + 1) * 127.5).round().to(torch.uint8).expand(-1, 3, -1, -1)


def test_another_file_than_inceptions_is_not_opened(tmp_path):
    """A pickle that would be run is refused by its sha256, before anything of it is read."""
    path = tmp_path / inception.NAMES[0]
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR.")
    with pytest.raises(LabError, match="is not FID's Inception: its sha256 begins"):
        Inception(path).features(pictures(2))
    assert not (tmp_path / "ran").exists()


def test_where_inceptions_weights_are_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "lab"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(Unavailable, match="which are not on this machine yet"):
        inception.inception(download=False)
    for folder in (tmp_path / "lab" / "weights", tmp_path / "torch" / "hub" / "checkpoints"):
        folder.mkdir(parents=True)
        (folder / inception.NAMES[1]).touch()
        assert inception.inception().path == folder / inception.NAMES[1]
    monkeypatch.setenv("LAB_INCEPTION", str(tmp_path / "mine.pth"))
    with pytest.raises(Unavailable, match=r"cannot be read .*mine\.pth"):
        inception.inception().features(pictures(2))


def test_without_a_network_the_sentence_says_where_the_file_belongs(monkeypatch, tmp_path):
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "lab"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(inception, "ADDRESS", "http://127.0.0.1:9/none.pth")
    with pytest.raises(Unavailable, match=r"could not be downloaded .* put weights-inception"):
        inception.inception()


def test_fid_takes_grey_and_coloured_images_only(tmp_path):
    with pytest.raises(LabError, match="1 or 3 channels"):
        Inception(tmp_path / "x").features(pictures(2, channels=2))


def test_lpips_is_measured_where_its_weights_are(monkeypatch, tmp_path):
    """Random AlexNet in torch's cache: zero for equal images, more for others, and torchmetrics' own value."""
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity
    from torchvision.models import alexnet

    target = pictures(1, seed=1)[0]
    evidence = Evidence(torch.cat([target[None], pictures(2)]), target)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    assert LPIPS().measure(evidence) is None
    path = tmp_path / "hub" / "checkpoints" / perceptual.WEIGHTS
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(alexnet().state_dict(), path)
    assert LPIPS().measure(evidence) is None, "not the file that its name says"
    monkeypatch.setattr(perceptual, "_is_genuine", lambda path, changed: True)
    each = perceptual.distances(evidence.pixels, evidence.target_pixels)
    assert each[0] < ROUNDED < each[1]
    theirs = learned_perceptual_image_patch_similarity(
        evidence.pixels[1:].float().expand(-1, 3, -1, -1),
        evidence.target_pixels.float().expand(2, 3, -1, -1),
        net_type="alex",
        normalize=True,
        reduction="mean",
    )
    assert float(each[1:].mean()) == pytest.approx(float(theirs), abs=1e-6)
    assert LPIPS().measure(evidence).extractor == "AlexNet"
