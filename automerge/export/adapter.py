"""A recipe of adapters as one PEFT adapter, which plain `peft` loads onto the untouched base.

Like that of `export`, the folder appears whole or not at all.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from automerge.export.low_rank import Changes, Product, merged_changes
from automerge.lora.settings import CONFIG, PREFIX, WEIGHTS, factor_names, swap
from automerge.protocols import Source
from automerge.recipe import Recipe
from automerge.weight_files import save

DTYPES = (torch.float32, torch.bfloat16)
"""What factors can be written in."""


class Written(NamedTuple):
    """The largest rank of the written factors, and the relative error that compression and rounding made in them.

    `error` is the Frobenius norm of what was lost over that of the exact change, over all matrices together.
    """

    rank: int
    error: float


def write_adapter(
    recipe: Recipe,
    sources: Sequence[Source],
    folder: Path,
    *,
    base_model: str,
    revision: str | None = None,
    max_rank: int | None = None,
    dtype: torch.dtype = torch.float32,
    beside: Callable[[Path], None] | None = None,
    card: Callable[[Written], str] | None = None,
) -> Written:
    """Writes the merged model as a PEFT adapter of its base into the new folder; returns its rank and its error.

    `PeftModel.from_pretrained(base, folder)` then is the merged model. In float32 without `max_rank` it differs from
    exact arithmetic by float32 rounding alone (about 1e-6 of the change): factors are concatenated, and only ranks
    above a matrix's smaller side are cut to it, which loses nothing. `max_rank` keeps the largest singular values of
    every matrix's change; bfloat16 rounds the factors to 8 significant bits (at most 2^-8 of every added product). A
    merged checkpoint differs more: it rounds whole weights to the base's stored dtype.

    `base_model` and its `revision` are what the configuration names as its base; `beside` writes what else the folder
    holds, such as a tokenizer; `card` makes README.md of what was written. Raises
    FileExistsError if the folder exists, ValueError listing everything that keeps the recipe from being an adapter.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; name a new folder")
    if dtype not in DTYPES or (max_rank is not None and max_rank < 1):
        raise ValueError(f"expected dtype float32 or bfloat16 and max_rank above 0, got {dtype} and {max_rank}")
    exact = merged_changes(recipe, sources)
    products = {name: _stored(product, max_rank, dtype) for name, product in exact.products.items()}
    changes = Changes(products, exact.wholes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    written = Written(max(product.up.shape[1] for product in products.values()), _error(exact.products, products))
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        save(_tensors(changes), unfinished / WEIGHTS)
        config = {**_config(changes), "base_model_name_or_path": base_model, "revision": revision}
        (unfinished / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        (unfinished / "recipe.json").write_text(json.dumps(json.loads(recipe.to_json()), indent=1) + "\n")
        if beside is not None:
            beside(unfinished)
        if card is not None:
            (unfinished / "README.md").write_text(card(written))
        publish(unfinished)
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished)
        raise
    return written


def publish(folder: Path) -> None:
    """Makes a finished folder as readable as its neighbours: temporary folders and safetensors files are private."""
    folder.chmod(0o755)
    for file in folder.iterdir():
        if file.is_file():
            file.chmod(0o644)


def compress(up: Tensor, down: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The factors (n_out, rank), (rank, n_in) nearest to up @ down in the Frobenius norm, float32.

    The singular value decomposition (Eckart and Young 1936) of the small core between the factors' QR
    decompositions, in float64; the product itself is never formed.
    """
    left, left_core = torch.linalg.qr(up.double())
    right, right_core = torch.linalg.qr(down.double().T)
    u, values, v = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    root = values[:rank].sqrt()
    return (left @ u[:, :rank] * root).float(), (right @ v[:rank].T * root).T.float()


def _stored(product: Product, max_rank: int | None, dtype: torch.dtype) -> Product:
    """The product as it is written, compressed and rounded."""
    site, up, down = product
    rank = min(len(up), down.shape[1], max_rank or up.shape[1])
    if rank < up.shape[1]:
        up, down = compress(up, down, rank)
    return Product(site, up.to(dtype), down.to(dtype))


def _error(exact: Mapping[str, Product], stored: Mapping[str, Product]) -> float:
    lost = total = 0.0
    for name, (_, up, down) in exact.items():
        _, other_up, other_down = stored[name]
        if up is not other_up:
            lost += _squared_norm(torch.cat([up, -other_up.float()], 1), torch.cat([down, other_down.float()], 0))
        total += _squared_norm(up, down)
    return math.sqrt(lost / total) if total else 0.0


def _squared_norm(up: Tensor, down: Tensor) -> float:
    """The squared Frobenius norm of up @ down, from the Gram matrices of the factors in float64."""
    u, v = up.double(), down.double()
    return max(0.0, float(((u.T @ u) * (v @ v.T)).sum()))


def _saved_modules(changes: Changes) -> set[str]:
    """Modules that are written whole."""
    return {whole.site.module for whole in changes.wholes.values() if whole.site.parameter != "bias"}


def _tensors(changes: Changes) -> dict[str, Tensor]:
    """What the weight file holds, by the names that PEFT gives."""
    tensors: dict[str, Tensor] = {}
    targets = {product.site.module for product in changes.products.values()}
    for site, tensor in changes.wholes.values():
        under = "base_layer." if site.module in targets else ""
        tensors[f"{PREFIX}{site.module}.{under}{site.parameter}"] = tensor
        if site.tied is not None:
            tensors[f"{PREFIX}{site.tied}.{site.parameter}"] = tensor
    for site, up, down in changes.products.values():
        tensors.update(zip(factor_names(site.module, site.layout), swap(up, down, site.layout), strict=True))
        if site.tied is not None:
            tensors.update(zip(factor_names(site.tied, "linear"), swap(up, down, "linear"), strict=True))
    # Tensors of a file must not share memory.
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}


def _config(changes: Changes) -> dict[str, Any]:
    """The configuration that PEFT reads; alpha equals the rank, so that the scale is 1."""
    ranks: dict[str, int] = {}
    for site, up, _ in changes.products.values():
        ranks |= dict.fromkeys([site.module, *([site.tied] if site.tied else [])], up.shape[1])
    usual = Counter(ranks.values()).most_common(1)[0][0]
    pattern = {f"^{re.escape(module)}": rank for module, rank in ranks.items() if rank != usual}
    saved = _saved_modules(changes)
    products = [product.site for product in changes.products.values()]
    wholes = [whole.site for whole in changes.wholes.values()]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": pattern,
        "alpha_pattern": pattern,
        "target_modules": sorted(site.module for site in products),
        "modules_to_save": sorted(saved) or None,
        "bias": "all" if any(site.module not in saved for site in wholes) else "none",
        "fan_in_fan_out": any(site.layout == "conv1d" for site in products),
        "ensure_weight_tying": any(site.tied is not None for site in products + wholes),
        "init_lora_weights": True,
        "inference_mode": True,
        "lora_dropout": 0.0,
    }
