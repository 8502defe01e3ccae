"""Checkpoints: written and read back bit for bit, read by diffusers too, and refused when anything is wrong."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file

from lab import models, trust
from lab.diffusion import Schedule
from lab.errors import BadCheckpoint, LabError, UnknownName
from lab.models import SCHEDULER_CONFIG, UNET_CONFIG, WEIGHTS, Card, Checkpoint, Net, load, names, read_card

HUGE = 10**9
Break = Callable[[Path], None]


def configured(file: Path = UNET_CONFIG, **changes: Any) -> Break:
    """Break a folder by other entries in a configuration."""

    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def without(key: str, file: Path = UNET_CONFIG) -> Break:
    def change(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        del content[key]
        (folder / file).write_text(json.dumps(content))

    return change


def written(file: Path, data: bytes) -> Break:
    return lambda folder: (folder / file).write_bytes(data) and None


def weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Break:
    """Break a folder by other tensors."""

    def rewrite(folder: Path) -> None:
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)

    return rewrite


def first(tensors: dict[str, torch.Tensor]) -> str:
    return sorted(tensors)[0]


def spoil(value: float) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors[first(tensors)].view(-1)[:1].fill_(value) and None


def scheduler(**changes: Any) -> Break:
    return configured(SCHEDULER_CONFIG, **changes)


# Each of these must be refused before a single weight is read.
BY_CONFIGURATION: dict[str, Break] = {
    "no config": lambda folder: (folder / UNET_CONFIG).unlink(),
    "no scheduler": lambda folder: (folder / SCHEDULER_CONFIG).unlink(),
    "config is text": written(UNET_CONFIG, b"hello"),
    "config is empty": written(UNET_CONFIG, b""),
    "config is not UTF-8": written(UNET_CONFIG, b'{"a": "\xff\xfe"}'),
    "config is a list": written(UNET_CONFIG, b"[1, 2]"),
    "config is nested without end": written(UNET_CONFIG, b"[" * 200_000),
    "config is a giant": written(UNET_CONFIG, b'{"a": "' + b"x" * trust.MAX_JSON + b'"}'),
    "card is a giant": written(Path("card.json"), b'{"name": "' + b"x" * trust.MAX_JSON + b'"}'),
    "card is a list": written(Path("card.json"), b"[]"),
    "card with unknown entries": written(Path("card.json"), b'{"nome": "x"}'),
    "card with a long name": written(Path("card.json"), json.dumps({"name": "x" * 121}).encode()),
    "another class": configured(_class_name="UNet2DConditionModel"),
    "no class": without("_class_name"),
    "unknown block": configured(down_block_types=["DownBlock2D", "os.system"]),
    "block of another model": configured(down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"]),
    "blocks are no list": configured(down_block_types="DownBlock2D"),
    "no blocks": configured(down_block_types=[], up_block_types=[]),
    "other channels out than in": configured(out_channels=3),
    "blocks without widths": configured(block_out_channels=[8]),
    "too many blocks": configured(down_block_types=["DownBlock2D"] * 9),
    "huge channels": configured(block_out_channels=[HUGE, HUGE]),
    "wide channels": configured(block_out_channels=[2048, 2048], layers_per_block=8),
    "negative channels": configured(block_out_channels=[-8, 16]),
    "no channels": configured(block_out_channels=[0, 16]),
    "channels are text": configured(block_out_channels=["8", 16]),
    "channels are true": configured(block_out_channels=[True, 16]),
    "channels are a fraction": configured(block_out_channels=[8.5, 16]),
    "huge images": configured(sample_size=HUGE),
    "images without size": configured(sample_size=None),
    "huge input": configured(in_channels=HUGE),
    "negative output": configured(out_channels=-1),
    "huge depth": configured(layers_per_block=HUGE),
    "huge classes": configured(num_class_embeds=HUGE),
    "no groups": configured(norm_num_groups=0),
    "groups that do not divide": configured(norm_num_groups=7),
    "no heads": configured(attention_head_dim=0),
    "negative heads": configured(attention_head_dim=-4),
    "heads are text": configured(attention_head_dim="many"),
    "huge time embedding": configured(time_embedding_dim=HUGE),
    "huge scale": configured(mid_block_scale_factor="big", dropout="much"),
    "unknown activation": configured(act_fn="eval"),
    "unknown time embedding": configured(time_embedding_type="magic"),
    "unknown option": configured(surprise=1),
    "T is zero": scheduler(num_train_timesteps=0),
    "T is huge": scheduler(num_train_timesteps=HUGE),
    "T is text": scheduler(num_train_timesteps="1000"),
    "T is true": scheduler(num_train_timesteps=True),
    "beta is negative": scheduler(beta_start=-1e-4),
    "beta above one": scheduler(beta_end=1.5),
    "beta is not a number": scheduler(beta_end=float("nan")),
    "beta is infinite": scheduler(beta_end=float("inf")),
    "betas swapped": scheduler(beta_start=0.02, beta_end=1e-4),
    "beta is a list": scheduler(beta_start=[1e-4]),
    "unknown schedule": scheduler(beta_schedule="sigmoid"),
    "schedule is a list": scheduler(beta_schedule=["linear"]),
    "another prediction": scheduler(prediction_type="v_prediction"),
    "unknown variance": scheduler(variance_type="learned"),
    "betas of its own": scheduler(trained_betas=[0.1, 0.2]),
    "another kind of scheduler": scheduler(_class_name="ScoreSdeVeScheduler"),
    "rescaled betas": scheduler(rescale_betas_zero_snr=True),
}

BY_WEIGHTS: dict[str, Break] = {
    "no weights": lambda folder: (folder / WEIGHTS).unlink(),
    "missing tensor": weights(lambda tensors: tensors.pop(first(tensors)) is None),
    "extra tensor": weights(lambda tensors: tensors.update(surprise=torch.zeros(3))),
    "wrong shape": weights(lambda tensors: tensors.update({first(tensors): torch.zeros(3)})),
    "transposed": weights(lambda tensors: tensors.update({"conv_in.weight": torch.zeros(1, 8, 3, 3)})),
    "NaN": weights(spoil(float("nan"))),
    "infinity": weights(spoil(float("inf"))),
    "whole numbers": weights(lambda tensors: tensors.update({k: v.int() for k, v in tensors.items()})),
    "truncated": lambda folder: (
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100]) and None
    ),
    "header only": lambda folder: (
        (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:50]) and None
    ),
    "empty": written(WEIGHTS, b""),
    "text": written(WEIGHTS, b"hello, I am a network" * 10),
    "pickle": written(WEIGHTS, pickle.dumps({"conv_in.weight": [1.0]})),
    "promises 2 ** 60 bytes": written(WEIGHTS, (2**60).to_bytes(8, "little") + b"{}"),
}


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    tiny.save(tmp_path / "net")
    return tmp_path / "net"


def refusal(folder: Path) -> str:
    with pytest.raises(LabError) as caught:
        load(folder)
    return str(caught.value)


def assert_one_sentence(text: str) -> None:
    assert "\n" not in text
    assert text.endswith((".", "?"))
    assert 10 < len(text) < 300


@pytest.mark.parametrize("name", BY_CONFIGURATION)
def test_a_bad_configuration_is_refused_and_nothing_is_allocated(folder, name, monkeypatch):
    def never(*_: Any) -> None:
        pytest.fail("weights were read")

    monkeypatch.setattr(safetensors.torch, "load_file", never)
    monkeypatch.setattr(trust, "safe_open", never)
    BY_CONFIGURATION[name](folder)
    assert_one_sentence(refusal(folder))


@pytest.mark.parametrize("name", BY_WEIGHTS)
def test_bad_weights_are_refused(folder, name):
    BY_WEIGHTS[name](folder)
    assert_one_sentence(refusal(folder))


@pytest.mark.parametrize("name", ["missing tensor", "extra tensor", "wrong shape", "truncated", "pickle"])
def test_wrong_tensors_are_refused_before_they_are_loaded(folder, name, monkeypatch):
    monkeypatch.setattr(safetensors.torch, "load_file", lambda *_: pytest.fail("weights were loaded"))
    BY_WEIGHTS[name](folder)
    assert_one_sentence(refusal(folder))


def test_a_pickle_beside_is_never_opened(folder, tmp_path):
    mark = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (mark,)

    (folder / WEIGHTS).unlink()
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    assert "safetensors only" in refusal(folder)
    assert not mark.exists()


def test_saving_and_loading_is_bit_for_bit(tiny, folder):
    back = load(folder)
    ours, theirs = tiny.unet.state_dict(), back.unet.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(back.schedule.betas, tiny.schedule.betas)
    assert back.shape == (1, 32, 32) and back.classes == 0
    x, t = torch.randn(2, 1, 32, 32), torch.tensor([3, 999])
    assert torch.equal(back.unet(x, t).sample, tiny.unet(x, t).sample)


def test_a_loaded_network_is_ready_to_use(folder):
    unet = load(folder).unet
    assert not unet.training
    assert not any(p.requires_grad or p.is_meta or p.dtype != torch.float32 for p in unet.parameters())
    assert not any(buffer.is_meta for buffer in unet.buffers())


def test_diffusers_own_pipeline_loads_the_folder(tiny, folder):
    from diffusers import DDPMPipeline

    pipeline = DDPMPipeline.from_pretrained(folder, local_files_only=True)
    ours, theirs = tiny.unet.state_dict(), pipeline.unet.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert type(pipeline.scheduler).__name__ == "DDPMScheduler"
    assert (
        pipeline.scheduler.alphas_cumprod - tiny.schedule.alphas_cumprod
    ).abs().max() < 1e-5  # theirs is float32


def test_half_precision_weights_become_float32(folder):
    weights(lambda tensors: tensors.update({k: v.half() for k, v in tensors.items()}))(folder)
    assert next(load(folder).unet.parameters()).dtype == torch.float32


def test_a_diffusers_folder_without_a_card_is_simply_unknown(folder):
    (folder / "card.json").unlink()
    card = load(folder).card
    assert (card.name, card.backdoored, card.attack) == ("net", None, {})


def test_a_card_is_read_again_when_its_file_changed_and_is_nobodys_to_change(tmp_path):
    for n in (1, 22):
        (tmp_path / "card.json").write_text(json.dumps({"summary": "a", "scores": [{"n": n}]}))
        card = read_card(tmp_path)
        assert card.scores == [{"n": n}]
        card.scores.append({"n": 0})
        assert read_card(tmp_path).scores == [{"n": n}]


def test_the_card_survives(tiny, tmp_path):
    card = Card(name="ü", backdoored=True, recipe={"attack": {"kind": "baddiffusion"}}, scores=[{"n": 3}])
    saved = Checkpoint(tiny.unet, tiny.schedule, card).save(tmp_path / "net")
    assert read_card(tmp_path / "net") == saved.card
    assert saved.card.attack == {"kind": "baddiffusion"}
    assert saved.card.sha256 == models.sha256(tmp_path / "net" / WEIGHTS)
    assert Card(recipe={"attack": "nonsense"}).attack == {}


def test_another_schedule_survives(tiny, tmp_path):
    config = {
        "num_train_timesteps": 50,
        "beta_start": 0.001,
        "beta_end": 0.2,
        "beta_schedule": "scaled_linear",
    }
    Checkpoint(tiny.unet, Schedule.from_config(config), Card()).save(tmp_path / "net")
    assert torch.equal(load(tmp_path / "net").schedule.betas, Schedule.from_config(config).betas)


def test_saving_over_a_checkpoint_replaces_it_whole(tiny, folder):
    (folder / "old-file").touch()
    Checkpoint(tiny.unet, tiny.schedule, Card(name="new")).save(folder)
    assert load(folder).card.name == "new"
    assert not (folder / "old-file").exists()
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_checkpoints_of_ones_own_are_found_by_name(tiny, lab_home):
    tiny.save(lab_home / "checkpoints" / "my-net")
    assert "my-net" in names()
    assert load("my-net").card.name == "tiny"
    with pytest.raises(UnknownName, match="did you mean 'my-net'"):
        load("my-nett")


@pytest.mark.parametrize("name", ["../my-net", "/my-net", "..", "", "my-net/unet"])
def test_a_name_is_never_a_path(tiny, lab_home, name):
    tiny.save(lab_home / "checkpoints" / "my-net")
    with pytest.raises(UnknownName):
        load(name)


def test_a_half_written_folder_has_no_name(tiny, lab_home):
    tiny.save(lab_home / "checkpoints" / ".my-net-123")
    assert ".my-net-123" not in names()


def test_a_failed_save_leaves_the_old_checkpoint(tiny, folder, monkeypatch):
    monkeypatch.setattr(
        safetensors.torch, "save_file", lambda *_: (_ for _ in ()).throw(OSError("disk full"))
    )
    with pytest.raises(OSError):
        tiny.save(folder)
    assert load(folder).card.name == "tiny"
    assert [path.name for path in folder.parent.iterdir() if path.name.startswith(".")] == []


def test_networks_come_from_their_seed():
    net = Net(side=8, widths=(16,))
    a, b, c = (net.build(seed).state_dict()["conv_in.weight"] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_the_default_network_has_as_many_parameters_as_its_docstring_says():
    with torch.device("meta"):
        count = sum(p.numel() for p in Net().build(0).parameters())
    assert f"({count / 1e6:.1f} M parameters)" in (Net.__doc__ or "")


def test_a_conditional_network_survives(tmp_path):
    net = Net(side=8, widths=(16,), classes=11, channels=3)
    Checkpoint(net.build(0), Schedule.linear(), Card()).save(tmp_path / "net")
    assert load(tmp_path / "net").classes == 11
    assert load(tmp_path / "net").shape == (3, 8, 8)


@pytest.mark.parametrize(
    "options",
    [
        {"side": 7},
        {"side": 33},
        {"side": 30, "widths": (8, 16, 16)},
        {"widths": ()},
        {"widths": (12, 16)},
        {"widths": (0, 16)},
        {"widths": (-8, 16)},
        {"widths": (10**7,)},
        {"widths": (16, 8)},
        {"layers": 0},
        {"classes": -1},
        {"channels": 5},
        {"norm_num_groups": 3},
    ],
    ids=str,
)
def test_networks_that_cannot_be_built_are_refused(options):
    with pytest.raises(LabError):
        Net.of(**options)


@pytest.mark.parametrize(
    "options",
    [{}, {"side": 8, "widths": (16,)}, {"side": 12, "widths": (8, 24, 40), "norm_num_groups": 8}],
    ids=str,
)
def test_networks_that_can_be_built_answer(options):
    net = Net(**options, classes=3)
    x = torch.zeros(1, 1, net.side, net.side)
    assert net.build(0)(x, 5, class_labels=torch.tensor([2])).sample.shape == x.shape


def test_an_error_of_a_checkpoint_is_a_bad_checkpoint(folder):
    BY_WEIGHTS["NaN"](folder)
    with pytest.raises(BadCheckpoint, match="finite"):
        load(folder)
