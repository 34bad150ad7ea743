"""Which tensors of a base a LoRA adapter changes, and every reason why it does not fit that base.

Names decide what belongs together, shapes how the factors lie, so that one rule covers `nn.Linear`, GPT-2's Conv1D,
and checkpoints whose names lack the prefix of the live model: `h.0.attn.c_attn.weight` is what an adapter knows as
`transformer.h.0.attn.c_attn`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from automerge.alignment import HEAD, place
from automerge.folders import Header
from automerge.lora.settings import MERGE_FIRST, PREFIX, Layout, LoraSettings, Role, part, swap
from automerge.protocols import Source

EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in|tok_embeddings)\.weight$")

COMPLETE: tuple[set[Role], ...] = (
    {"A", "B"},
    {"A", "B", "replaced"},
    {"embedding_A", "embedding_B"},
    {"embedding_A", "embedding_B", "replaced"},
    {"B_bias"},
    {"B_bias", "replaced"},
    {"plain"},
    {"plain", "copy", "original"},
)
"""What an adapter may store of one tensor; of biases also `replaced` alone."""

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)

Stored = Mapping[Role, str]
"""Names in the adapter's file by role."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where and how an adapter changes one tensor of its base.

    `module` and `parameter` name it in the live model. `factors` are the names of A and B in the file and `layout`
    how they lie; `vector` is the name of what is added to a bias; `whole` that of the tensor stored whole, to which
    factors or vector are added if there are any. `tied` is the live name of the head that shares this embedding.
    """

    module: str
    parameter: str
    layout: Layout
    factors: tuple[str, str] | None
    vector: str | None
    whole: str | None
    tied: str | None

    @property
    def has_product(self) -> bool:
        """Whether something is added to the base's tensor, or to the one stored whole."""
        return self.factors is not None or self.vector is not None


def find_sites(
    base: Source, settings: LoraSettings, headers: Mapping[str, Header], read: Callable[[str], Tensor]
) -> tuple[dict[str, Site], list[str]]:
    """The sites by the base's tensor names, and every reason why the adapter does not fit, as sentences.

    `headers` are those of the adapter's file, `read` gives a tensor of it; only embeddings and heads are read, where
    the base has one tensor for both.
    """
    return _Search(base, settings, headers, read).run()


class _Search:
    """Holds what was found so far."""

    def __init__(
        self, base: Source, settings: LoraSettings, headers: Mapping[str, Header], read: Callable[[str], Tensor]
    ) -> None:
        self._base = base
        self._settings = settings
        self._headers = headers
        self._read = read
        self._faults: list[str] = []

    def run(self) -> tuple[dict[str, Site], list[str]]:
        found = self._grouped()
        tied = self._tie(found)
        names = _Names(self._base)
        sites: dict[str, Site] = {}
        for (module, parameter), stored in found.items():
            live = f"{module}.{parameter}"
            matches = names.like(live)
            if len(matches) != 1:
                self._faults.append(f"{live}: {self._unmatched(matches, stored)}")
            elif matches[0] in sites:
                other = sites[matches[0]]
                self._faults.append(
                    f"{live} and {other.module}.{other.parameter} are both {matches[0]} in the base; "
                    "give the base it was trained on"
                )
            elif problems := list(self._misfits(matches[0], module, parameter, stored)):
                self._faults += [f"{live}: {problem}" for problem in problems]
            else:
                sites[matches[0]] = Site(
                    module,
                    parameter,
                    self._layout(matches[0], stored),
                    _factors(stored),
                    stored.get("B_bias"),
                    stored.get("plain") or stored.get("replaced"),
                    tied.get(module),
                )
        if not found and not self._faults:
            self._faults.append("its file holds no tensors; save the adapter again with peft")
        return sites, self._faults

    def _grouped(self) -> dict[tuple[str, str], dict[Role, str]]:
        """Names in the file by (module, parameter) and role."""
        found: dict[tuple[str, str], dict[Role, str]] = {}
        for key in self._headers:
            known = part(key)
            if known is None:
                self._faults.append(f"{key}: expected a name that begins with {PREFIX}; {MERGE_FIRST}")
            else:
                found.setdefault((known.module, known.parameter), {})[known.role] = key
        return found

    def _unmatched(self, matches: list[str], stored: Stored) -> str:
        told = f"it could be any of {', '.join(matches)}" if matches else "no tensor of the base has this name"
        shapes = ", ".join(f"{key} {self._headers[key].shape}" for key in stored.values())
        trained = f", {self._settings.base_model}" if self._settings.base_model else ""
        return f"{told} (stored: {shapes}); give the base it was trained on{trained}, or {MERGE_FIRST}"

    def _misfits(self, name: str, module: str, parameter: str, stored: Stored) -> Iterator[str]:
        """Why what is stored for one tensor of the base does not fit it."""
        if set(stored) not in COMPLETE and (set(stored) != {"replaced"} or parameter != "bias"):
            yield f"expected both factors, or the tensor whole, got {', '.join(stored.values())}; save it again"
            return
        base, shape = self._base.shapes[name], self._shape(name, stored)
        if shape != base and (place(name).layer is not None or shape[1:] != base[1:]):
            yield f"stored whole with shape {shape}, the base has {base}; give the base it was trained on"
        if "plain" not in stored and self._base.dtypes[name] not in FLOATS:
            yield f"the base stores it as {self._base.dtypes[name]}; give a base that is not quantised"
        if factors := _factors(stored):
            yield from self._misfit_factors(factors, shape, self._settings.rank_of(module), "embedding_A" in stored)
        if "B_bias" in stored and self._headers[stored["B_bias"]].shape != shape:
            yield f"lora_B.bias has shape {self._headers[stored['B_bias']].shape}, the base's bias {shape}"

    def _misfit_factors(
        self, factors: tuple[str, str], shape: tuple[int, ...], rank: int, embedding: bool
    ) -> Iterator[str]:
        a, b = (self._headers[key].shape for key in factors)
        if len(a) != 2 or len(b) != 2 or len(shape) != 2:
            yield f"factors of shapes {a} and {b} for a weight of shape {shape} are no matrices; {MERGE_FIRST}"
        elif a[0] != rank or b[1] != rank:
            yield f"the configuration tells rank {rank}, but A has shape {a} and B {b}; save it again with peft"
        elif (a[1], b[0]) != shape and (embedding or (b[0], a[1]) != shape):
            yield (
                f"A of shape {a} and B of shape {b} make no matrix of shape {shape}, as the base has; "
                "give the base it was trained on"
            )

    def _shape(self, name: str, stored: Stored) -> tuple[int, ...]:
        """The shape of the tensor to which factors are added."""
        key = stored.get("plain") or stored.get("replaced")
        return self._headers[key].shape if key else self._base.shapes[name]

    def _layout(self, name: str, stored: Stored) -> Layout:
        factors = _factors(stored)
        if factors is None:
            return "linear"
        if "embedding_A" in stored:
            return "embedding"
        n_in, n_out = self._headers[factors[0]].shape[1], self._headers[factors[1]].shape[0]
        if n_in != n_out:
            return "linear" if (n_out, n_in) == self._shape(name, stored) else "conv1d"
        # A square weight fits both ways, and PEFT's own flag is false for Conv1D if a Linear was targeted besides.
        return "conv1d" if place(name).layer is not None and self._transposes() else "linear"

    def _transposes(self) -> bool:
        """Whether the base's layers hold Conv1D weights (n_in, n_out): biases tell n_out, else the settings decide."""
        for name, shape in self._base.shapes.items():
            bias = self._base.shapes.get(f"{name.removesuffix('weight')}bias", ())
            if name.endswith(".weight") and place(name).layer is not None and len(set(shape)) == len(shape) == 2:
                if bias == shape[:1]:
                    return False
                if bias == shape[1:]:
                    return True
        return self._settings.fan_in_fan_out

    def _tie(self, found: dict[tuple[str, str], dict[Role, str]]) -> dict[str, str]:
        """By embedding module the head that shares its tensor and is changed alike; takes it out of `found`."""
        if any(HEAD.search(name) and place(name).layer is None for name in self._base.shapes):
            return {}
        weights = [f"{module}.weight" for module, parameter in found if parameter == "weight"]
        outer = [name for name in weights if place(name).layer is None]
        heads = [name.removesuffix(".weight") for name in outer if HEAD.search(name)]
        embeddings = [name.removesuffix(".weight") for name in outer if EMBEDDING.search(name)]
        if not heads and not embeddings:
            return {}
        changes = {head: found.pop((head, "weight")) for head in heads}
        if len(heads) == len(embeddings) == 1:
            embedding, head = embeddings[0], heads[0]
            same_scale = self._settings.scale_of(embedding) == self._settings.scale_of(head)
            if same_scale and self._alike(found[(embedding, "weight")], changes[head]):
                return {embedding: head}
        self._faults.append(
            f"the base has no head of its own, it shares the embedding, but the adapter changes "
            f"{' and '.join(embeddings + heads)} {'differently' if heads and embeddings else 'alone'}, and one tensor "
            "cannot hold two changes; train with ensure_weight_tying=True, or use a base and adapters with "
            "tie_word_embeddings=false and a head of their own"
        )
        return {}

    def _alike(self, embedding: Stored, head: Stored) -> bool:
        """Whether embedding and head are changed by the same numbers."""
        whole: tuple[Role, ...] = ("plain", "replaced")
        if any(
            role in embedding and role in head and not self._read(embedding[role]).equal(self._read(head[role]))
            for role in whole
        ):
            return False
        if "plain" in embedding and "plain" in head:
            return True
        if not {"embedding_A", "embedding_B"} <= embedding.keys() or not {"A", "B"} <= head.keys():
            return False
        up, down = swap(self._read(embedding["embedding_A"]), self._read(embedding["embedding_B"]), "embedding")
        return up.equal(self._read(head["B"])) and down.equal(self._read(head["A"]))


class _Names:
    """The base's tensor names, found by names that may have a longer or a shorter prefix."""

    def __init__(self, base: Source) -> None:
        self._names = frozenset(base.shapes)
        self._by_suffix: dict[str, list[str]] = {}
        for name in sorted(self._names):
            for suffix in _suffixes(name):
                self._by_suffix.setdefault(suffix, []).append(name)

    def like(self, live: str) -> list[str]:
        """The base's names for a tensor of the live model: the same, else every one that differs in its prefix."""
        if live in self._names:
            return [live]
        shorter = [suffix for suffix in _suffixes(live) if suffix in self._names]
        return shorter + self._by_suffix.get(live, [])


def _factors(stored: Stored) -> tuple[str, str] | None:
    """The names of A and B, None if there is no product of matrices."""
    if "A" in stored:
        return stored["A"], stored["B"]
    return (stored["embedding_A"], stored["embedding_B"]) if "embedding_A" in stored else None


def _suffixes(name: str) -> list[str]:
    """The name without its first part, without its first two, and so on."""
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(1, len(parts))]
