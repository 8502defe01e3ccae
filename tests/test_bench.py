"""The benchmark: medians and ratios of two ways through the same work, and cases whose two ways agree."""

from __future__ import annotations

import os
from collections.abc import Callable

import psutil
import pytest
import torch
from background import wait_until

from lab.bench import BENCHES, STUDIES, Case, base, compare, costs, layers, serving
from lab.bench import metrics as metric_cases
from lab.bench import sampling as sampling_cases
from lab.bench import training as training_cases
from lab.bench.apart import rivals
from lab.data import Digits
from lab.errors import LabError
from lab.models import Net, fresh
from lab.ops import OPERATIONS, final
from lab.sampling import DDIM, DDPM

SMALL = Net(widths=(8, 16), side=16)


class Clock:
    """Time that passes only when a run says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 0.0
        monkeypatch.setattr(base.time, "perf_counter", lambda: self.now)

    def lasting(self, *seconds: float) -> Callable[[], None]:
        """A run whose calls last so long, one after the other."""
        durations = iter(seconds)

        def run() -> None:
            self.now += next(durations)

        return run


def test_a_ratio_is_the_median_of_pairs_and_the_first_run_only_warms_up(monkeypatch):
    clock = Clock(monkeypatch)
    case = Case(
        "naps", "longer naps", clock.lasting(99, 1, 2, 1), clock.lasting(99, 2, 8, 3), work=6, unit="naps"
    )
    timing = compare(case, 3)
    assert (timing.ours, timing.rivals) == (6 / 1, 6 / 3)
    assert (timing.low, timing.ratio, timing.high) == (2, 3, 4)
    assert timing.peak_share is None


def test_the_peak_is_the_limit_where_operations_are_counted(monkeypatch):
    clock = Clock(monkeypatch)
    case = Case("multiplying", "the same", clock.lasting(1, 2), clock.lasting(1, 1), flops=1e9)
    assert compare(case, 1, peak=2e9).peak_share == 0.25


def test_both_ways_are_run_alike():
    runs = []
    compare(Case("counting", "counting", lambda: runs.append("ours"), lambda: runs.append("rival")), 2)
    assert runs == ["ours", "rival"] * 3


def test_a_rival_that_runs_elsewhere_says_its_own_seconds(monkeypatch):
    clock = Clock(monkeypatch)
    case = Case("a", "b", clock.lasting(99, 1, 1), lambda: pytest.fail("it ran here"))
    timing = compare(case, 2, rival=iter([99.0, 3.0, 5.0]).__next__)
    assert (timing.low, timing.ratio, timing.high) == (3, 4, 5)


def test_rivals_have_a_process_of_their_own_until_the_part_is_done():
    with rivals("metrics", quick=True) as apart:
        assert apart.of(0)() > 0 and apart.process.pid != os.getpid()
    assert apart.process.returncode == 0


def test_a_process_of_rivals_that_has_ended_is_a_sentence_and_no_time():
    with rivals("metrics", quick=True) as apart:
        apart.process.kill()
        for _ in range(2):  # the second finds the pipe broken, too
            with pytest.raises(LabError, match="has ended"):
                apart.of(0)()


def test_what_is_a_process_already_or_the_lab_itself_needs_none():
    with rivals("startup", quick=True) as apart:
        assert apart is None


def test_cold_processes_are_not_warmed_up():
    runs = []
    case = Case("a", "b", lambda: runs.append("ours"), lambda: runs.append("rival"), is_cold=True)
    compare(case, 2)
    assert runs == ["ours", "rival"] * 2


@pytest.mark.parametrize("sampler", [DDPM(steps=2), DDIM(steps=2)], ids=lambda s: s.kind)
def test_sampling_stands_beside_the_pipeline_of_its_sampler(sampler):
    case = sampling_cases.beside("small", fresh(SMALL, 0), sampler, n=2)
    assert case.rival_name == f"{sampler.scheduler.removesuffix('Scheduler')}Pipeline"
    assert case.ours().shape == (2, 1, 16, 16)
    assert case.rival().images.shape == (2, 16, 16, 1)
    assert case.work == 4 and case.flops > 0
    assert next(iter(case.check().values())) < 2 / 255


@pytest.mark.parametrize(("quick", "compiled"), [(True, 0), (False, 2)])
def test_networks_are_compiled_first_only_where_there_is_time_for_it(quick, compiled, monkeypatch):
    made = []
    monkeypatch.setattr(sampling_cases, "make_apart", made.append)
    monkeypatch.setattr(sampling_cases, "verdict", lambda blueprint: None)
    assert len(list(sampling_cases.cases(quick))) == 3
    assert len({blueprint.key for blueprint in made}) == compiled


def test_operations_are_those_of_the_convolutions():
    counted = sampling_cases.flops(fresh(SMALL, 0))
    first = 2 * 16 * 16 * 9 * 8  # of conv_in alone: one channel to eight
    assert counted > 10 * first


def test_both_loops_train_to_the_same_loss():
    digits = Digits().load("train")
    case = training_cases.beside(
        "small", fresh(Net(widths=(8, 16)), 0), digits, batch=8, steps=4, judged=True
    )
    assert case.work == 32
    assert case.check()["ratio of the losses"] == pytest.approx(1, abs=0.02)


def test_feature_distance_is_that_of_torchmetrics():
    case = next(metric_cases.cases(quick=True))
    assert next(iter(case.check().values())) < 1e-3


def test_images_reach_the_plain_loop_as_they_reach_ours():
    digits = Digits().load("train")
    batch = next(iter(training_cases.loader(digits, 4500)))
    assert torch.allclose(batch.sum(), digits.values().sum(), rtol=1e-4)


def test_an_exponent_is_the_power_of_the_growth():
    assert costs.exponent([1, 2, 4], [3, 6, 12]) == pytest.approx(1)
    assert costs.exponent([10, 100], [5, 500]) == pytest.approx(2)
    assert costs.exponent([1, 2, 3], [7, 7, 7]) == pytest.approx(0)


def test_a_curve_times_each_amount(monkeypatch):
    monkeypatch.setattr(costs, "ROUNDS", 1)
    curve = costs.curve("steps", {steps: costs.sampling(n=1, steps=steps, side=8) for steps in (1, 2)})
    assert curve.amounts == [1, 2] and all(seconds > 0 for seconds in curve.seconds)
    parameters, sampling = costs.by_parameters(2)
    assert parameters == sum(p.numel() for p in sampling.checkpoint.unet.parameters())


def test_the_layers_are_the_whole_call_and_count_its_operations():
    small = fresh(SMALL, 0)
    sums, whole = layers.measure(small, rounds=2)
    assert 0 < sum(found.seconds for found in sums.values()) < whole
    counted = sum(found.operations for found in sums.values()) / layers.EXAMPLE
    assert counted == pytest.approx(sampling_cases.flops(small), rel=0.02)  # which counts attention too
    assert sums["Conv2d 3×3 to 16×16 pixels"].modules and sums["GroupNorm to 16×16 pixels"].operations == 0


def test_layers_come_with_the_slowest_first(monkeypatch):
    monkeypatch.setattr(layers, "load", lambda name: fresh(SMALL, 0))
    found = list(layers.layers(quick=True))
    shares = [layer.time_share for layer in found]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
    assert torch.get_num_threads() == 1  # as it was


def test_the_operation_offers_every_bench():
    field = OPERATIONS["bench"].options.model_fields["what"]
    assert set(field.annotation.__args__) == {"all", *BENCHES, *STUDIES}
    result = final(OPERATIONS["bench"](what="metrics", quick=True, repeats=1))
    assert result["machine"]["matmul GF/s"] > 0
    assert [timing["unit"] for timing in result["timings"]] == ["images"]


def test_the_page_is_timed_beside_a_training_that_works_and_one_that_holds_still():
    cases = serving.cases(quick=True)
    case = next(cases)
    trained = case.before_ours.__self__
    case.before_ours()
    worker, reached = trained.process, trained.run.ticks()[-1]["step"]
    assert worker.is_running() and reached > 0
    case.before_rival()
    wait_until(lambda: worker.status() == psutil.STATUS_STOPPED)
    case.before_ours()
    assert trained.run.ticks()[-1]["step"] > reached
    cases.close()
    wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert not trained.run.folder.exists()
