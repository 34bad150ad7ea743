"""A PEFT LoRA adapter (a local folder or a hub id) as base + scale * up @ down, tensor by tensor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from automerge.folders import headers, resolve
from automerge.lora.settings import CONFIG, WEIGHTS, read_settings, swap
from automerge.lora.sites import Site, find_sites
from automerge.protocols import LowRank, Source
from automerge.weight_files import opened


class AdapterSource:
    """Reads the changes of one LoRA adapter to `base`, whose tensor names it takes; nothing is kept in memory.

    `path` is a local folder or a hub id (`revision` pins it). `base_model` tells what the adapter was trained on
    according to itself; whether `base` is that model shows in names and shapes alone.

    Tensors that a product changes come as float32 (base + scale * up @ down, computed in float32), tensors stored
    whole (`modules_to_save`, trained biases, resized embeddings) in their stored dtype and shape, all others as the
    base's. Where the base checkpoint has no head, because the head shares the embedding, both must be changed alike,
    as `ensure_weight_tying` of PEFT does: one tensor cannot hold two changes.

    Raises FileNotFoundError without safetensors, ValueError listing every reason why the adapter cannot be read or
    does not fit the base; nothing in the file is left out silently.
    """

    def __init__(self, name: str, path: str, *, base: Source, revision: str | None = None) -> None:
        self.name = name
        self.folder = resolve(path, revision=revision)
        self._base = base
        self._settings, faults = read_settings(self.folder)
        self._file = _weights(self.folder)
        self._headers = headers(self._file)
        self.sites: Mapping[str, Site] = {}
        """By tensor name what the adapter changes."""
        if not faults:
            self.sites, faults = find_sites(base, self._settings, self._headers, self._read)
        if faults:
            listed = "\n".join(f"  - {fault}" for fault in faults)
            raise ValueError(f"adapter {name!r} ({self.folder}) cannot be read on {base.name!r}:\n{listed}")

    @property
    def base_model(self) -> str | None:
        """The `base_model_name_or_path` that the adapter says it was trained on, None if it tells none."""
        return self._settings.base_model

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shape of every tensor of the base by name; an embedding stored whole may have another number of rows."""
        wholes = {name: self._headers[site.whole].shape for name, site in self.sites.items() if site.whole}
        return {**self._base.shapes, **wholes}

    @cached_property
    def dtypes(self) -> Mapping[str, torch.dtype]:
        """float32 where a product is added, the stored dtype of tensors stored whole, else the base's."""
        wholes = {name: self._headers[site.whole].dtype for name, site in self.sites.items() if site.whole}
        products = {name: torch.float32 for name, site in self.sites.items() if site.has_product}
        return {**self._base.dtypes, **wholes, **products}

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name as if merged into the base, on the CPU. Raises KeyError for an unknown name."""
        self._refuse_unknown(name)
        site = self.sites.get(name)
        if site is None:
            return self._base.tensor(name)
        under = self._base.tensor(name) if site.whole is None else self._read(site.whole)
        if not site.has_product:
            return under
        change = self._change(site)
        return under.float() + change.scale * (change.up @ change.down).reshape(under.shape)

    def low_rank(self, name: str) -> LowRank | None:
        """The change of that tensor; None if it is stored whole. Raises KeyError for an unknown name.

        A product on a stored copy of the base's own tensor, as PEFT saves beside targeted embeddings, is a product.
        """
        self._refuse_unknown(name)
        site = self.sites.get(name)
        if site is None:
            n_out, *rest = self.shapes[name] or (1,)
            return LowRank(torch.zeros(n_out, 0), torch.zeros(0, torch.Size(rest).numel()), 1.0)
        return self._change(site) if site.has_product and name not in self._replaced else None

    @cached_property
    def _replaced(self) -> frozenset[str]:
        """Names of the tensors under a product that are not the base's."""
        return frozenset(
            name
            for name, site in self.sites.items()
            if site.has_product
            and site.whole is not None
            and not self._read(site.whole).float().equal(self._base.tensor(name).float())
        )

    def _change(self, site: Site) -> LowRank:
        scale = self._settings.scale_of(site.module)
        if site.vector is not None:
            return LowRank(self._read(site.vector).float()[:, None], torch.ones(1, 1), scale)
        if site.factors is None:
            raise ValueError(f"{site.module}.{site.parameter} is stored whole; read it by `tensor`")
        a, b = (self._read(key).float() for key in site.factors)
        up, down = swap(a, b, site.layout)
        return LowRank(up.contiguous(), down.contiguous(), scale)

    def _read(self, key: str) -> Tensor:
        with opened(self._file) as file:
            tensor: Tensor = file.get_tensor(key)
        return tensor

    def _refuse_unknown(self, name: str) -> None:
        if name not in self.shapes:
            raise KeyError(f"source {self.name!r} has no tensor {name!r}; it has {len(self.shapes)} others")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter rather than a whole model."""
    return (folder / CONFIG).is_file()


def _weights(folder: Path) -> Path:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    pickled = sorted(path.name for path in folder.glob("*.bin")) + sorted(path.name for path in folder.glob("*.pt"))
    found = f"it has {', '.join(pickled)}, which are pickles and never opened" if pickled else "it has no weights"
    raise FileNotFoundError(
        f"{folder}: expected {WEIGHTS}, but {found}; load the adapter once with peft and save_pretrained it, "
        "which writes safetensors"
    )
