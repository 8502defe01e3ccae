"""Finding models: what the Hub answers to a few words, and models that are known without asking."""

from __future__ import annotations

import re
from typing import Any

from lab.hub import wire
from lab.hub.authors import of_run_name
from lab.hub.listing import REPO, marks, one_licence
from lab.trust import PIPELINES, plain

EXPAND = ("siblings", "tags", "downloads", "cardData", "gated", "private", "safetensors", "sha")
RUN = "FrankCCCCC/res_DDPM-CIFAR10-32_CIFAR10_"
KNOWN = {
    "google/ddpm-cifar10-32": "DDPM of 32×32 CIFAR-10, 35.7 M parameters: what BadDiffusion fine-tunes",
    "google/ddpm-ema-celebahq-256": "DDPM of 256×256 faces, 113.7 M parameters: what BadDiffusion fine-tunes",
    "google/ddpm-ema-church-256": "DDPM of 256×256 churches (LSUN), 113.7 M parameters",
    "google/ddpm-ema-bedroom-256": "DDPM of 256×256 bedrooms (LSUN), 113.7 M parameters",
    f"{RUN}ep50_c1.0_p0.05_BIG_BOX_MED-TRIGGER_new-set-1": "",
    f"{RUN}ep50_c1.0_p0.05_XSM_STOP_SIGN-FASHION_new-set-1": "",
    f"{RUN}ep50_c1.0_p0.1_SM_BOX_MED-TRIGGER_new-set": "",
    f"{RUN}ep50_c1.0_p0.9_SM_BOX_MED-BOX_new-set-1": "",
    f"{RUN}ep50_c1.0_p0.9_SM_STOP_SIGN-BOX_new-set-1": "",
    f"{RUN}ep50_c1.0_p0.9_SM_STOP_SIGN-SHIFT_new-set-1": "",
    f"{RUN}ep50_c1.0_p0.5_NONE-FASHION_new-set": "",
    f"{RUN}ep100_ode_c1.0_p0.1_SM_STOP_SIGN-BOX_psi1.0_new-set-1": "",
    f"{RUN}ep100_ode_c1.0_p0.2_SM_STOP_SIGN-SHIFT_psi1.0_new-set": "",
    "FrankCCCCC/res_DDPM-CELEBA-HQ-256_CELEBA-HQ_ep1500_ode_c1.0_p0.5_GLASSES-CAT_psi1.0_new-set": "",
}


def known() -> list[dict[str, Any]]:
    """Models that are known without asking: what each is, from its name where that says it."""
    return [{"name": repo, "marks": [], "help": what or _from_name(repo)} for repo, what in KNOWN.items()]


def _from_name(repo: str) -> str:
    said = of_run_name(repo)
    return said.said(repo) if said else ""


def search(text: str, limit: int) -> list[dict[str, Any]]:
    """Unconditional models of diffusers that match some words, the most downloaded first."""
    params = {
        "search": text,
        "filter": "diffusers",
        "sort": "downloads",
        "direction": "-1",
        "limit": min(100, 4 * limit),  # many are of other kinds
        "expand": list(EXPAND),
    }
    answer = wire.get("api/models", params, f"models like {text!r:.60}")
    rows = (_row(each) for each in answer if isinstance(each, dict)) if isinstance(answer, list) else ()
    return [row for row in rows if row][:limit]


def _row(model: dict[str, Any]) -> dict[str, Any] | None:
    """A line of the result; None for a model of another kind, or one that is written strangely."""
    name, files = model.get("id"), [each.get("rfilename", "") for each in model.get("siblings") or []]
    tags = [plain(str(tag)) for tag in model.get("tags") or []]
    if not (isinstance(name, str) and REPO.fullmatch(name) and _is_unconditional(tags, files)):
        return None
    card = model.get("cardData") or {}
    count = (model.get("safetensors") or {}).get("total")
    return {
        "name": name,
        "marks": marks(files),
        "downloads": int(model.get("downloads") or 0),
        "licence": one_licence(card.get("license")) or _tagged(tags),
        "parameters": count if isinstance(count, int) else None,
        "closed": "private" if model.get("private") else "gated" if model.get("gated") else "",
        "help": KNOWN.get(name) or _from_name(name),
    }


def _is_unconditional(tags: list[str], files: list[str]) -> bool:
    """Whether it is a pipeline that the lab may open, by its tag, or by its files where it has none."""
    tagged = [tag.removeprefix("diffusers:") for tag in tags if tag.startswith("diffusers:")]
    if tagged:
        return any(each in PIPELINES for each in tagged)
    whole = {"unet/config.json", "scheduler/scheduler_config.json"} <= set(files)
    encoder = any(re.match(r"(vae|vqvae|text_encoder)/", name) for name in files)
    return {"config.json", "scheduler_config.json"} <= set(files) or (whole and not encoder)


def _tagged(tags: list[str]) -> str:
    return next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), "")
