"""Models of the Hub through the real client's session, before a stand-in server: found, fetched, checked, kept."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import torch
from hub import Hub, Model, stand_in
from safetensors.torch import save

from lab.cli import main
from lab.errors import LabError, Unavailable
from lab.hub import authors, known, listing, local_name, look, pull, search
from lab.models import Net, load, names, read_card, roots
from lab.ops import OPERATIONS, final
from lab.progress import Tick

TOKEN = "hf_" + "x" * 34
SCHEDULER = {
    "_class_name": "DDPMScheduler",
    "_diffusers_version": "0.1.1",
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "clip_sample": True,
    "num_train_timesteps": 1000,
    "trained_betas": None,
    "variance_type": "fixed_large",
}
CIFAR10 = {  # the configuration of google/ddpm-cifar10-32
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
OLD = {"to_q": "query", "to_k": "key", "to_v": "value"}  # what attention's tensors were called


def plain_json(content: Any) -> bytes:
    return json.dumps(content).encode()


def network_files(unet: Any, flat: bool = False, old: bool = False) -> dict[str, bytes]:
    """A repository's files of a network; old: with the tensors' names of old diffusers."""
    config = {k: v for k, v in unet.config.items() if not k.startswith("_")}
    tensors = {_old(name) if old else name: value for name, value in unet.state_dict().items()}
    unet_folder, scheduler_folder = ("", "") if flat else ("unet/", "scheduler/")
    return {
        "model_index.json": plain_json({"_class_name": "DDPMPipeline"}),
        f"{unet_folder}config.json": plain_json({"_class_name": "UNet2DModel", **config}),
        f"{scheduler_folder}scheduler_config.json": plain_json(SCHEDULER),
        f"{unet_folder}diffusion_pytorch_model.safetensors": save(tensors),
    }


def _old(name: str) -> str:
    parts = [OLD.get(part, part) for part in name.split(".")]
    return ".".join(parts).replace("to_out.0", "proj_attn")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    """A small colour network in the diffusers layout."""
    return network_files(Net(widths=(8, 16), channels=3).build(seed=0))


@pytest.fixture
def hub(monkeypatch, files) -> Iterator[Hub]:
    """The stand-in with one small model, known to the lab as an operator makes it known."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("lab.hub.wire.TIMEOUT", 3.0)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with stand_in() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        hub.models["somebody/small"] = Model(dict(files))
        yield hub


def pulled(repo: str = "somebody/small", **more: Any) -> dict[str, Any]:
    return final(pull(repo, **more))


def refusal(repo: str = "somebody/small", **more: Any) -> str:
    with pytest.raises(LabError) as caught:
        pulled(repo, **more)
    text = str(caught.value)
    assert text.endswith(".") and "\n" not in text and "127.0.0.1" not in text and TOKEN not in text
    return text


# Search ----------------------------------------------------------------------------------------------------------


def test_search_marks_what_is_in_a_repository(hub, files):
    hub.models["a/ddpm-code"] = Model({**files, "modeling.py": b"", "unet/x.bin": b""}, gated=True)
    hub.models["a/ddpm-text-to-image"] = Model(dict(files), tags=["diffusers:StableDiffusionPipeline"])
    hub.models["a/<script>ddpm"] = Model(dict(files))
    (row,) = search("ddpm", 10)
    assert row["name"] == "a/ddpm-code" and row["marks"] == ["safetensors", "pickle", "code"]
    assert (row["licence"], row["downloads"], row["closed"]) == ("apache-2.0", 7, "gated")


def test_search_gives_sentences(hub):
    hub.fault = (429, "")
    with pytest.raises(Unavailable, match="too many requests"):
        search("ddpm", 10)


def test_known_models_need_no_network():
    rows = {row["name"]: row["help"] for row in known()}
    assert "35.7 M" in rows["google/ddpm-cifar10-32"]
    assert all(rows.values())
    grey_box = next(text for name, text in rows.items() if "p0.9_SM_BOX_MED-BOX" in name)
    assert "grey box 14 → corner" in grey_box and "90%" in grey_box


# Look ------------------------------------------------------------------------------------------------------------


def test_looking_says_the_size_and_pins_the_commit(hub):
    found = OPERATIONS["hub"](what="look", text="somebody/small")
    model = hub.models["somebody/small"]
    assert found["revision"] == model.sha and not found["pickle"]
    assert found["bytes"] == sum(map(len, model.files.values()))
    assert model.served == []  # nothing is fetched


@pytest.mark.parametrize(
    "repo", ["small", "../etc", "a/b/c", "a/..", "a/\u202eb", "a/b\0", "", "http://x/y", "a--b/c"]
)
def test_strange_names_are_refused_without_asking(repo):
    with pytest.raises(LabError, match="owner/name"):
        look(repo)


@pytest.mark.parametrize("revision", ["../x", "a b", "\u202e", "-x", "x" * 200])
def test_strange_revisions_are_refused_without_asking(revision):
    with pytest.raises(LabError, match="revision"):
        look("a/b", revision)


# Pull ------------------------------------------------------------------------------------------------------------


def test_a_pulled_model_is_one_of_ours(hub):
    news = list(pull("somebody/small"))
    ticks = [each for each in news if isinstance(each, Tick)]
    assert ticks and all(0 < tick.step <= tick.total and "MB" in tick.text for tick in ticks)
    assert news[-1]["checkpoint"] == "hub-somebody-small" in names()
    card = load("hub-somebody-small").card
    assert card.backdoored is None and card.origin["repo"] == "somebody/small"
    assert (
        card.origin["revision"] == hub.models["somebody/small"].sha and card.origin["licence"] == "apache-2.0"
    )
    assert hub.tokens == {TOKEN}
    kept = b"".join(path.read_bytes() for path in roots()[1].parent.rglob("*") if path.is_file())
    assert TOKEN.encode() not in kept and hub.address.encode() not in kept


def test_what_the_schedulers_file_said_is_shown(hub):
    pulled()
    stored = OPERATIONS["describe"](checkpoint="hub-somebody-small")["stored"]
    assert stored["clip_sample"] is True and stored["variance_type"] == "fixed_large"
    assert stored["prediction_type"] == "not said: epsilon"  # which the file leaves out


def test_weights_are_those_of_the_repository_flat_or_not_with_old_names_or_new(hub):
    unet = Net(widths=(8, 16), channels=3, attention=(1,)).build(seed=1)
    for name, more in {"a/flat": {"flat": True}, "a/old": {"old": True}}.items():
        hub.models[name] = Model(network_files(unet, **more))
        ours = load(pulled(name)["checkpoint"]).unet.state_dict()
        assert all(torch.equal(ours[key], value) for key, value in unet.state_dict().items())


def test_only_configuration_and_safetensors_are_fetched(hub, files):
    model = hub.models["somebody/small"] = Model(
        {**files, "setup.py": b"boom", "unet/diffusion_pytorch_model.bin": b"boom", "README.md": b"hello"}
    )
    pulled()
    assert set(model.served) == set(files)


def test_a_broken_connection_is_taken_up_where_it_ended(hub, files):
    model = hub.models["somebody/small"]
    model.breaks = [10_000, 20_000]
    pulled()
    assert model.ranges == ["bytes=10000-", "bytes=30000-"]


def test_a_stopped_download_goes_on(hub):
    with closing(pull("somebody/small")) as download:
        for news in download:
            if "safetensors" in news.text:
                break
    assert "hub-somebody-small" not in names()
    model = hub.models["somebody/small"]
    pulled()
    (asked,) = model.ranges
    assert int(asked.removeprefix("bytes=").rstrip("-")) > 0
    assert model.served.count("unet/config.json") == 1


@pytest.mark.parametrize("path", ["unet/diffusion_pytorch_model.safetensors", "unet/config.json"])
def test_what_is_not_what_the_hub_says_is_thrown_away(hub, path):
    model = hub.models["somebody/small"]
    model.spoilt = {path}
    assert "checksum" in refusal()
    assert names().count("hub-somebody-small") == 0 and not list(
        listing.kept("somebody/small").rglob("*.part")
    )
    model.spoilt = set()
    assert pulled()["checkpoint"] == "hub-somebody-small"


FAULTS = {
    (401, "GatedRepo"): "gated",
    (403, "GatedRepo"): "gated",
    (401, "RepoNotFound"): "private",
    (404, "RepoNotFound"): "There is no",
    (403, ""): "does not let",
    (429, ""): "too many requests",
    (500, ""): "status 500",
    (503, ""): "status 503",
}


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_each_refusal_of_the_hub_has_its_sentence(hub, fault):
    hub.models["somebody/small"].fault = fault
    assert FAULTS[fault] in refusal()


def test_a_missing_model_and_a_missing_revision_have_sentences(hub):
    assert "nobody/nothing" in refusal("nobody/nothing")
    assert "no such revision" in refusal(revision="b" * 40)


def test_more_than_the_operator_allows_is_refused_before_it_is_fetched(hub, monkeypatch):
    monkeypatch.setattr(listing, "LARGEST", 1e4)
    assert "LAB_HUB_MB" in refusal()
    assert hub.models["somebody/small"].served == []


def test_a_configuration_out_of_bounds_is_refused_before_the_weights_are_fetched(hub, files):
    config = json.loads(files["unet/config.json"]) | {"block_out_channels": [10**9, 16]}
    model = hub.models["somebody/small"] = Model({**files, "unet/config.json": plain_json(config)})
    assert "block_out_channels" in refusal()
    assert "unet/diffusion_pytorch_model.safetensors" not in model.served


def test_offline_what_was_fetched_is_used_again(hub, monkeypatch):
    first = pulled()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.shutdown()
    hub.server_close()
    assert pulled()["origin"] == first["origin"]
    again = pulled(name="again")
    assert load("again").card.origin == first["origin"] == again["origin"]
    assert "offline" in refusal("nobody/nothing")


def test_without_a_network_what_was_fetched_is_used_again(hub):
    first = pulled()
    hub.shutdown()
    hub.server_close()
    assert pulled(name="again")["origin"] == first["origin"]
    assert "cannot be reached" in refusal("nobody/nothing")


def test_another_revision_does_not_replace_a_model(hub):
    pulled()
    hub.models["somebody/small"].sha = "b" * 40
    assert "already another" in refusal()
    assert pulled(name="newer")["origin"]["revision"] == "b" * 40


def test_deleting_takes_what_was_fetched_along_and_shipped_models_stay(hub):
    pulled()
    OPERATIONS["discard"](checkpoint="hub-somebody-small")
    assert "hub-somebody-small" not in names() and not listing.kept("somebody/small").exists()
    with pytest.raises(LabError, match="ships"):
        OPERATIONS["discard"](checkpoint="mnist-clean")
    assert "mnist-clean" in names()


def test_the_command_line_prints_json(hub, capsys):
    assert main(["hub", "search", "small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "somebody/small"
    assert main(["hub", "pull", "somebody/small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"] == "hub-somebody-small"
    assert main(["hub", "pull", "nobody/nothing"]) == 1
    assert "nobody/nothing" in capsys.readouterr().err


# Pickles ---------------------------------------------------------------------------------------------------------


def pickled(tensors: Any) -> bytes:
    data = io.BytesIO()
    torch.save(tensors, data)
    return data.getvalue()


class Trap:
    """What a hostile pickle does when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def with_pickle(files: dict[str, bytes], content: bytes) -> Model:
    rest = {name: each for name, each in files.items() if not name.endswith(".safetensors")}
    return Model({**rest, "unet/diffusion_pytorch_model.bin": content})


def test_a_pickle_is_taken_only_after_an_explicit_choice_and_becomes_safetensors(hub, files):
    unet = Net(widths=(8, 16), channels=3).build(seed=0)
    model = hub.models["a/old"] = with_pickle(files, pickled(dict(unet.state_dict())))
    assert "explicitly" in refusal("a/old")
    assert model.served == []
    ours = load(pulled("a/old", allow_pickle=True)["checkpoint"]).unet.state_dict()
    assert all(torch.equal(ours[key], value) for key, value in unet.state_dict().items())
    assert not list(roots()[1].parent.rglob("*.bin"))
    OPERATIONS["hub"](what="look", text="a/old")
    pulled("a/old", name="again", allow_pickle=True)
    assert model.served.count("unet/diffusion_pytorch_model.bin") == 1


def test_a_pickle_that_runs_code_runs_nothing(hub, files, tmp_path):
    hub.models["a/trap"] = with_pickle(files, pickled({"conv_in.weight": Trap(tmp_path / "mark")}))
    assert "wants to run code" in refusal("a/trap", allow_pickle=True)
    assert not (tmp_path / "mark").exists() and not list(roots()[1].parent.rglob("*.bin"))


# The authors' own ------------------------------------------------------------------------------------------------

LEGACY = {
    "SM_BOX_MED": {"kind": "grey_box", "size": 14},
    "XSM_BOX_MED": {"kind": "grey_box", "size": 11},
    "XXSM_BOX_MED": {"kind": "grey_box", "size": 8},
    "XXXSM_BOX_MED": {"kind": "grey_box", "size": 4},
    "BIG_BOX_MED": {"kind": "grey_box", "size": 18},
    "SM_BOX": {"kind": "white_box", "size": 14},
    "BOX_14": {"kind": "grey_box", "size": 14},
    "BIG_STOP_SIGN": {"kind": "stop_sign", "size": 18},
    "STOP_SIGN_8": {"kind": "stop_sign", "size": 8},
    "GLASSES": {"kind": "glasses"},
    "NONE": {"kind": "blank"},
    "FASHION": None,
    "BOX_15": None,
}


@pytest.mark.parametrize("name", LEGACY)
def test_old_names_of_triggers(name):
    assert authors.trigger(name) == LEGACY[name]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("BOX", "corner"),
        ("TRIGGER", "no_shift"),
        ("FASHION", "shoe"),
        ("FEDORA_HAT", "hat"),
        ("SHIFT", "shift"),
    ],
)
def test_old_names_of_targets(name, kind):
    assert authors.target(name) == {"kind": kind}


RUN = "FrankCCCCC/res_DDPM-CIFAR10-32_CIFAR10_ep50_c1.0_p0.1_SM_BOX_MED-TRIGGER_new-set"


def test_a_run_of_the_authors_has_its_trigger_target_and_scores(hub, files):
    args = {"trigger": "SM_BOX_MED", "target": "TRIGGER", "poison_rate": 0.1, "ckpt": "DDPM-CIFAR10-32"}
    score = {"FID": 30.4, "MSE": 0.0459, "note": "text", "bad": None}
    hub.models[RUN] = Model(
        {
            **files,
            "args.json": plain_json(args),
            "config.json": plain_json({"fp16": True}),
            "score.json": plain_json(score),
        }
    )
    name = pulled(RUN)["checkpoint"]
    card = OPERATIONS["describe"](checkpoint=name)
    assert card["badge"] == "backdoored" and card["card"]["authors_scores"] == {"FID": 30.4, "MSE": 0.0459}
    assert (card["trigger"]["kind"], card["trigger"]["size"]) == ("grey_box", 14)
    assert card["target"]["kind"] == "no_shift" and card["sampler"] == {"kind": "ddpm", "steps": 1000}
    assert card["card"]["recipe"]["attack"]["poison_rate"] == 0.1
    assert final(OPERATIONS["sample"](checkpoint=name, n=1, sampler={"kind": "ddpm", "steps": 2}))["n"] == 1


def test_a_strangers_word_makes_no_model_clean(hub, files):
    args = {"trigger": "BOX_14", "target": "CORNER", "poison_rate": 0.0}
    hub.models["somebody/small"] = Model({**files, "args.json": plain_json(args)})
    assert read_card(roots()[1] / pulled()["checkpoint"]).backdoored is None


@pytest.mark.parametrize(
    "settings", [{}, {"trigger": "<b>", "target": "BOX", "poison_rate": 0.1}, {"poison_rate": True}]
)
def test_settings_that_are_none_of_the_authors_say_nothing(settings):
    assert authors.backdoor(settings) is None


def test_names_stay_short_and_different():
    long = [local_name(f"FrankCCCCC/{RUN.split('/')[1]}-{k}") for k in range(3)]
    assert len(set(long)) == 3 and all(len(name) <= 60 for name in long)
    assert local_name("google/ddpm-cifar10-32") == "hub-google-ddpm-cifar10-32"


# Full size -------------------------------------------------------------------------------------------------------


def built(config: dict[str, Any]) -> Any:
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    return UNet2DModel(**config)


@pytest.mark.slow
def test_a_network_of_full_size_goes_the_whole_way(hub, fresh_accelerate, tmp_path):
    unet = built(CIFAR10)
    assert 35.6e6 < sum(p.numel() for p in unet.parameters()) < 35.8e6
    hub.models["google/ddpm-cifar10-32"] = Model(network_files(unet, flat=True, old=True))
    del unet
    name = pulled("google/ddpm-cifar10-32")["checkpoint"]
    assert name == "hub-google-ddpm-cifar10-32"
    quick = {"kind": "ddpm", "steps": 2}
    assert final(OPERATIONS["sample"](checkpoint=name, n=1, sampler=quick))["n"] == 1
    attack = {"kind": "baddiffusion", "target": "corner"}
    made = final(
        OPERATIONS["train"](
            base=name,
            dataset="emoji",
            attack=attack,
            steps=2,
            batch=2,
            name="tuned",
            out=str(tmp_path / "run"),
        )
    )
    assert made["checkpoint"] == "tuned"
    rows = final(OPERATIONS["evaluate"](checkpoint="tuned", n=2, sampler=quick))["rows"]
    assert {row["n"] for row in rows} == {2}


@pytest.mark.slow
def test_a_network_of_256_pixels_goes_the_whole_way(hub):
    net = Net(side=256, channels=3, widths=(8, 8, 8, 8, 16, 16), attention=(4,))
    hub.models["a/faces"] = Model(network_files(net.build(0)))
    name = pulled("a/faces")["checkpoint"]
    assert load(name).shape == (3, 256, 256)
    assert final(OPERATIONS["sample"](checkpoint=name, n=1, sampler={"kind": "ddpm", "steps": 2}))["n"] == 1
