"""The denoiser: chunks, exactness and the line that says what runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab import engine
from lab.engine import Denoiser
from lab.graph import KEPT, ONE_AT_A_TIME, CudaGraph
from lab.models import Net

BF16 = 0.05  # eight bits of mantissa through twenty layers
BATCHED = 1e-5  # float32 kernels choose their summing order by batch size


class Counting(nn.Module):
    """A network that remembers its batches and answers x + t + label."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor | None) -> Any:
        self.batches.append(len(x))
        labels = 0 if class_labels is None else class_labels.view(-1, 1, 1, 1)
        return SimpleNamespace(sample=x + t.view(-1, 1, 1, 1) + labels)

    def __deepcopy__(self, memo: dict) -> Counting:
        return self


@pytest.mark.parametrize(
    ("exact", "cores", "batches"),
    [
        (False, 1, [32] * 4 + [2]),
        (False, 2, [32] * 4 + [2]),
        (False, 8, [17] * 7 + [11]),
        (True, 8, [1] * 130),
    ],
)
def test_work_is_cut_into_chunks_and_joined_in_order(exact, cores, batches, monkeypatch):
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: False)
    monkeypatch.setattr(engine, "cores", lambda: cores)
    monkeypatch.setattr(engine, "graph", lambda network, example: network)
    network, t, labels = Counting(), torch.arange(130), torch.arange(130) * 1000
    eps = Denoiser(network, exact, "cpu")(torch.zeros(130, 1, 1, 1), t, labels)
    assert sorted(network.batches) == sorted(batches)
    assert torch.equal(eps.flatten(), (t + labels).float())


def test_exact_is_plain_float32_one_image_at_a_time(tiny):
    x, t = torch.randn(3, 1, 32, 32), torch.tensor([5, 500, 999])
    eps = Denoiser(tiny.unet, True, "cpu")(x, t)
    with torch.no_grad():
        plain = torch.cat([tiny.unet(x[k : k + 1], t[k : k + 1]).sample for k in range(3)])
    assert torch.equal(eps, plain)


def test_fast_is_close_to_exact(tiny, monkeypatch):
    x, t = torch.randn(3, 1, 32, 32), torch.tensor([5, 500, 999])
    exact = Denoiser(tiny.unet, True, "cpu")(x, t)
    for bf16, tolerance in ((True, BF16), (False, BATCHED)):
        monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device, answer=bf16: answer)
        fast = Denoiser(tiny.unet, False, "cpu")(x, t)
        assert fast.dtype == torch.float32
        assert (fast - exact).abs().max() < tolerance * max(1.0, float(exact.abs().max()))


def test_no_gradient_is_kept_and_none_is_switched_off(tiny):
    tiny.unet.requires_grad_(True)
    eps = Denoiser(tiny.unet, device="cpu")(torch.zeros(1, 1, 32, 32), torch.tensor([1]))
    assert not eps.requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(("bf16", "word"), [(True, "bfloat16, which"), (False, "float32, since")])
def test_the_reason_says_what_runs(tiny, monkeypatch, bf16, word):
    monkeypatch.setattr(engine, "is_faster_in_bf16", lambda device: bf16)
    assert word in Denoiser(tiny.unet, device="cpu").reason
    assert "CPU, 1 core," in Denoiser(tiny.unet, device="cpu").reason
    assert "exact: float32" in Denoiser(tiny.unet, True, "cpu").reason


def test_the_best_device_is_one_that_works():
    assert torch.ones(2, device=engine.best_device()).sum() == 2


def test_a_graph_takes_any_number_of_images_and_labels():
    unet = Net(side=8, widths=(16, 32), classes=4).build(0).eval()
    denoiser, exact = Denoiser(unet, False, "cpu"), Denoiser(unet, True, "cpu")
    for n in (5, 1, 40):
        x, t, labels = torch.randn(n, 1, 8, 8), torch.randint(0, 1000, (n,)), torch.arange(n) % 4
        assert (denoiser(x, t, labels) - exact(x, t, labels)).abs().max() < BF16
    assert isinstance(denoiser.network, torch.jit.ScriptModule)


def test_networks_of_one_architecture_share_a_trace_and_keep_their_weights(monkeypatch):
    """torch frees no trace: a lab that is served makes one for an architecture, whatever is asked of it."""
    traced = []
    trace = torch.jit.trace
    monkeypatch.setattr(torch.jit, "trace", lambda *given, **more: traced.append(1) or trace(*given, **more))
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 300])
    for seed in (0, 1, 0):
        unet = Net(side=8, widths=(8, 24)).build(seed).eval()
        exact = Denoiser(unet, True, "cpu")(x, t)
        assert (Denoiser(unet, False, "cpu")(x, t) - exact).abs().max() < BF16
    assert len(traced) == 1


def test_cores_share_the_images_without_changing_them(tiny, monkeypatch):
    x, t = torch.randn(9, 1, 32, 32), torch.arange(9) * 100
    alone = Denoiser(tiny.unet, device="cpu")(x, t)
    monkeypatch.setattr(engine, "cores", lambda: 3)
    shared = Denoiser(tiny.unet, device="cpu")
    assert (shared(x, t) - alone).abs().max() < BF16
    assert "CPU, 3 cores," in shared.reason


def test_what_cannot_become_a_graph_runs_as_it_is_and_says_so():
    class ByItsFirstValue(nn.Module):
        """A function whose graph would be another function."""

        def forward(self, x: Tensor, t: Tensor, class_labels: Tensor | None = None) -> Any:
            return SimpleNamespace(sample=x * len(x))

    with pytest.warns(UserWarning, match="cannot become a graph"):
        eps = Denoiser(ByItsFirstValue(), device="cpu")(torch.ones(3, 1, 2, 2), torch.zeros(3))
    assert torch.equal(eps, torch.full((3, 1, 2, 2), 3.0))


def test_the_given_network_stays_as_it_is(tiny):
    Denoiser(tiny.unet, device="cpu")(torch.zeros(1, 1, 32, 32), torch.tensor([1]))
    assert next(tiny.unet.parameters()).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_recorded_network_computes_what_it_was_given(tiny):
    denoiser, exact = Denoiser(tiny.unet, device="cuda"), Denoiser(tiny.unet, True, "cpu")
    for n in (1, 3, 70, 3):
        x, t = torch.randn(n, 1, 32, 32), torch.randint(1000, (n,))
        eps = denoiser(x.cuda(), t.cuda()).cpu()
        assert (eps - exact(x, t)).abs().max() < BF16
    assert isinstance(denoiser.network, CudaGraph) and len(denoiser.network.recorded) <= KEPT


def test_recordings_are_made_once_for_each_number_of_images_and_few_are_kept(monkeypatch):
    made: list[int] = []

    def record(self: CudaGraph, part: Any) -> Any:
        made.append(len(part[0]))
        inputs = tuple(whole.clone() for whole in part)
        output = torch.empty_like(part[0])
        replay = SimpleNamespace(replay=lambda: output.copy_(inputs[0] + inputs[1].view(-1, 1)))
        return replay, inputs, output

    monkeypatch.setattr(CudaGraph, "_record", record)
    network = CudaGraph(lambda x, t: x)
    found = [network(torch.full((n, 2), 10.0), torch.arange(n)) for n in (3, 3, 5)]
    assert made == [3, 5]
    assert all(torch.equal(eps, 10.0 + torch.arange(len(eps)).view(-1, 1).expand(-1, 2)) for eps in found)
    for n in range(6, 6 + KEPT):
        network(torch.zeros(n, 2), torch.zeros(n))
    assert len(network.recorded) <= KEPT


def test_a_recording_is_made_and_replayed_by_one_thread_at_a_time(monkeypatch):
    """Torch allows one capture in a process, and two threads would write into the same inputs."""
    seen: list[bool] = []

    def record(self: CudaGraph, part: Any) -> Any:
        seen.append(ONE_AT_A_TIME.locked())
        return SimpleNamespace(replay=lambda: seen.append(ONE_AT_A_TIME.locked())), part, part[0]

    monkeypatch.setattr(CudaGraph, "_record", record)
    CudaGraph(lambda x, t: x)(torch.zeros(1, 2), torch.zeros(1))
    assert seen == [True, True] and not ONE_AT_A_TIME.locked()


def test_exact_convolutions_have_all_bits_of_float32_on_a_gpu_too(tiny):
    """By default torch lets cuDNN round their inputs to TF32."""
    denoiser, seen = Denoiser(tiny.unet, True, "cpu"), []
    denoiser.network = lambda x, t: seen.append(torch.backends.cudnn.allow_tf32) or x
    denoiser(torch.zeros(2, 1, 32, 32), torch.zeros(2))
    assert seen == [False, False] and torch.backends.cudnn.allow_tf32
