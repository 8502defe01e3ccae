"""Layers that go plane by plane: where, and that nothing but rounding changes."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from lab.graph import eps_of, graph
from lab.models import Net
from lab.planes import plane_by_plane

T = torch.tensor([5, 700])


def network(*widths: int) -> nn.Module:
    return Net(widths=widths).build(0).eval().requires_grad_(False)


def watched(unet: nn.Module) -> dict[str, tuple[bool, bool]]:
    """Of each group norm, convolution: whether its input and its output lie in planes, as a call goes by."""
    found: dict[str, tuple[bool, bool]] = {}

    def note(name: str):
        def hook(_: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
            found[name] = (given[0].is_contiguous(), answer.is_contiguous())

        return hook

    for name, module in unet.named_modules():
        if isinstance(module, nn.GroupNorm | nn.Conv2d):
            module.register_forward_hook(note(name))
    unet(torch.randn(2, 1, 32, 32).contiguous(memory_format=torch.channels_last), T)
    return found


@pytest.mark.parametrize("widths", [(8, 16), (16, 32), (8, 16, 32, 64)])
def test_nothing_but_rounding_changes(widths):
    plain = network(*widths)
    ready = plane_by_plane(deepcopy(plain).to(memory_format=torch.channels_last))
    x = torch.randn(2, 1, 32, 32)
    found = ready(x.contiguous(memory_format=torch.channels_last), T).sample
    assert torch.allclose(found, plain(x, T).sample, atol=1e-4)


def test_few_channels_go_by_planes_and_many_by_pixels():
    seen = watched(plane_by_plane(network(8, 16, 32).to(memory_format=torch.channels_last)))
    assert seen["down_blocks.0.resnets.0.norm1"] == (True, False)  # 8 channels in two groups
    assert seen["down_blocks.1.resnets.0.norm2"][1] is True  # follows a sum in planes, and stays there
    assert seen["down_blocks.2.resnets.0.norm2"] == (False, False)
    assert seen["down_blocks.1.resnets.0.conv1"][1] is True
    assert seen["down_blocks.2.resnets.0.conv1"][1] is False


def test_a_graph_of_it_takes_any_number_of_images():
    ready = plane_by_plane(network(8, 16).to(memory_format=torch.channels_last))
    traced = graph(eps_of(ready), (torch.randn(2, 1, 32, 32), T))
    x = torch.randn(5, 1, 32, 32).contiguous(memory_format=torch.channels_last)
    assert torch.allclose(traced(x, T[:1].expand(5)), ready(x, T[:1].expand(5)).sample, atol=1e-5)
