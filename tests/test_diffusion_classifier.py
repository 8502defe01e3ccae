"""The diffusion classifier on a network whose errors are known in closed form."""

from __future__ import annotations

import pytest
import torch
from poisoning import last, noise

from lab.castle.classifiers import Exam
from lab.castle.diffusion_classifier import DiffusionClassifier, VoteSpec, filtered, voted
from lab.diffusion import at
from lab.errors import LabError
from lab.progress import Tick

FLOAT32 = 1e-4
SIDE = 32


def prototypes(count: int = 3) -> torch.Tensor:
    return noise(count, SIDE, seed=7)


def knows(schedule, means):
    """A network that takes every picture of class c for means[c]: its error is SNR(t)·(x - means[c])²."""

    def network(x_t, t, labels):
        abar = schedule.alphas_cumprod
        return (x_t - at(abar.sqrt(), t, x_t) * means[labels]) / at((1 - abar).sqrt(), t, x_t)

    return network


def classifier(schedule, means, **options) -> DiffusionClassifier:
    return DiffusionClassifier(knows(schedule, means), schedule, len(means), VoteSpec(**options))


def test_errors_are_the_closed_form(schedule):
    means, x = prototypes(), noise(5, SIDE)
    model = classifier(schedule, means, draws=8, p_filter=0, batch=2)
    abar = schedule.alphas_cumprod[model.timesteps]
    snr = (abar / (1 - abar)).mean()
    distances = (x[:, None] - means[None]).double().square().mean((2, 3, 4))
    assert torch.allclose(last(model.errors(x))[0], snr * distances, rtol=FLOAT32)


def test_the_nearest_class_is_seen(schedule):
    means = prototypes(4)
    x = means[[2, 0, 3, 1, 2]] + 0.1 * noise(5, SIDE)
    found = last(classifier(schedule, means, draws=4, p_filter=(0, 0.1)).read(x))
    assert found.tolist() == [[2, 0, 3, 1, 2]] * 2


def test_all_classes_see_the_same_noise_at_the_same_timestep(schedule):
    seen = []

    def watching(x_t, t, labels):
        seen.append((x_t.view(2, 3, -1), t.view(2, 3), labels.view(2, 3)))
        return torch.zeros_like(x_t)

    model = DiffusionClassifier(watching, schedule, 3, VoteSpec(draws=4, batch=2))
    last(model.errors(noise(2, SIDE)))
    for x_t, t, labels in seen:
        assert (x_t == x_t[:, :1]).all() and (t == t[0, 0]).all() and labels.tolist() == [[0, 1, 2]] * 2
    assert [int(t[0, 0]) for _, t, _ in seen] == model.timesteps.tolist() == [125, 375, 625, 875]
    assert not torch.equal(seen[0][0][0], seen[0][0][1])  # each picture has its own


def test_a_picture_is_judged_alike_whatever_stands_beside_it(schedule):
    def rough(x_t, t, labels):
        return x_t * (0.5 + 0.1 * labels.view(-1, 1, 1, 1))

    whole, alone = (
        last(DiffusionClassifier(rough, schedule, 3, VoteSpec(draws=3, batch=batch)).errors(noise(5, SIDE)))
        for batch in (5, 2)
    )
    assert torch.allclose(whole, alone, rtol=FLOAT32)


def test_ticks_count_to_the_end(schedule):
    ticks = [
        each
        for each in classifier(schedule, prototypes(), draws=3, batch=2).errors(noise(5, SIDE))
        if isinstance(each, Tick)
    ]
    assert [tick.step for tick in ticks] == list(range(1, 10)) and {tick.total for tick in ticks} == {9}


# p_filter --------------------------------------------------------------------------------------------------------------


def test_the_largest_errors_are_left_out():
    squares = torch.tensor([[5.0, 1.0, 3.0, 100.0, 2.0, 4.0, 6.0, 7.0, 8.0, 9.0]])
    assert [float(each) for each in filtered(squares, (0, 0.1, 0.2))] == [14.5, 5.0, 4.5]
    assert float(next(filtered(squares, [0.99]))) == 1.0  # one stays


def patched(schedule):
    """Class 1 is the target: it denoises everything a little badly, but knows the 3×3 patch, which class 0 does not."""
    x = torch.zeros(1, 1, SIDE, SIDE)
    target = x + 0.05
    target[..., -3:, -3:] = 1
    triggered = x.clone()
    triggered[..., -3:, -3:] = 1
    return torch.cat([x, target]), triggered


def test_p_filter_takes_away_the_patch_and_no_more(schedule):
    """The patch is 9 of 1,024 values: 0.5 % leaves four of them, which still decide; 1 % leaves none."""
    means, triggered = patched(schedule)
    model = classifier(schedule, means, draws=6, p_filter=(0, 0.005, 0.01))
    assert last(model.read(triggered)).flatten().tolist() == [1, 1, 0]
    errors = last(model.errors(triggered))
    assert errors[2, 0, 0] < FLOAT32 < errors[1, 0, 0]  # class 0 knows all but the patch


def test_an_exam_is_counted_by_p_filter(schedule):
    means, triggered = patched(schedule)
    exam = Exam(means, torch.cat([triggered, means[1:]]), torch.tensor([0, 1]), target=1)
    found = last(voted("hand-made", classifier(schedule, means, draws=4, p_filter=(0, 0.01)), exam))
    assert [(vote.p_filter, vote.test_accuracy.value, vote.attack_success.value) for vote in found.votes] == [
        (0, 1, 1),
        (0.01, 1, 0),
    ]
    assert found.votes[0].test_accuracy.n == 2 and found.votes[0].attack_success.n == 1


def test_more_draws_than_timesteps_are_refused(schedule):
    model = classifier(schedule, prototypes(), draws=1000)
    assert model.timesteps.tolist() == list(range(1000))
    from lab.diffusion import Schedule

    short = DiffusionClassifier(model.network, Schedule.linear(T=10), 3, VoteSpec(draws=11))
    with pytest.raises(LabError, match="10 steps"):
        last(short.errors(noise(1, SIDE)))
