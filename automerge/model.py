"""The resident model: one live `transformers` model into which recipes are written in place.

Nothing is read from disk or built per candidate, and only the slots that differ from what the model holds are
written again; layers that are one source's as it is are not copied at all.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import Module, Parameter

from automerge.binding import bind
from automerge.language_model import CausalLM
from automerge.merge import ResidentSources, Run
from automerge.recipe import OUTER, Fusion, Recipe
from automerge.resident.layout import Block, staggered
from automerge.stack import Stack
from automerge.vocabulary.union import Vocabulary

DType = Literal["auto", "float32", "bfloat16", "float16"]


def load_causal_lm(
    folder: Path | str,
    *,
    device: str = "cpu",
    dtype: DType = "auto",
    batch_tokens: int = 16384,
    trust_remote_code: bool = False,
    vocabulary: Vocabulary | None = None,
) -> CausalLM:
    """The model of a folder, ready to be asked.

    `dtype` is that of the computation: `auto` takes float32 on a CPU, whose low-precision kernels are slow, and the
    stored dtype elsewhere. With a `vocabulary` it has that one's tokenizer and number of embedding rows, of which new
    ones wait to be written. Raises OSError, as transformers does, for a folder without model or tokenizer,
    ValueError for a recurrent model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 (slow to import)

    chosen = "float32" if dtype == "auto" and torch.device(device).type == "cpu" else dtype
    if vocabulary is not None and vocabulary.changes_tokenizer:
        tokenizer = vocabulary.tokenizer()
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=chosen if chosen == "auto" else getattr(torch, chosen),
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
    )
    if "past_key_values" not in inspect.signature(model.forward).parameters:
        raise ValueError(
            f"{type(model).__name__} keeps no keys and values of what it has read, as recurrent models do; batches of "
            "unequal prompts would give wrong answers, so use a model with attention"
        )
    if vocabulary is not None:
        if model.get_input_embeddings().weight.shape[0] != vocabulary.n_rows:
            model.resize_token_embeddings(vocabulary.n_rows, mean_resizing=False)
        if vocabulary.eos_token_ids and model.generation_config is not None:
            model.generation_config.eos_token_id = list(vocabulary.eos_token_ids)
    model.to(device)
    return CausalLM(model, tokenizer, batch_tokens=batch_tokens)


class ResidentModel:
    """The live model and the sources merged into it. Holds which fusion each slot of the model has now.

    A layer that is one source's as it is lies in that source's memory where it can: a stack is a list of references.
    Raises ValueError if the checkpoint's tensors and the live model's parameters do not correspond.
    """

    def __init__(self, lm: CausalLM, sources: ResidentSources) -> None:
        self.lm = lm
        self.sources = sources
        views = bind(lm.model, sources.shapes)
        absent = sorted(sources.alignment.places.keys() - views.keys())
        if absent:
            raise ValueError(
                f"{len(absent)} tensors are merged that the live {type(lm.model).__name__} does not hold apart: "
                f"{', '.join(absent[:4])}; a tied head must equal its embedding in every source that stores it"
            )
        self._stack = Stack(lm.model, sources, views)
        self._outer = _Outer(sources, views, {p.data_ptr(): p for p in lm.model.parameters()})

    def write(self, recipe: Recipe) -> int:
        """Makes the live model the one that the recipe describes; returns the number of slots whose weights were
        merged, which are none for layers that are only referred to.

        Raises ValueError for a recipe that this model cannot hold.
        """
        self.sources.check_scales(recipe)
        self.sources.check_layers(recipe)
        with torch.no_grad():
            return self._stack.write(recipe) + self._outer.write(recipe.outer)

    @property
    def path(self) -> str:
        """The name of the list of layers within the live model."""
        return self._stack.path

    @property
    def layers(self) -> list[Module]:
        """The layers that the model has now, in order."""
        return self._stack.layers

    def n_bytes_of_copies(self) -> int:
        """Bytes that copies of all layers would take to which a stack cannot refer where their source lies."""
        return self._stack.n_bytes_of_copies()

    def costs(self, recipe: Recipe) -> dict[str, float]:
        """Exact figures of the merged model: layers, parameters."""
        return {"layers": float(len(recipe.layers)), "parameters": float(self.sources.n_parameters(recipe))}


class _Outer:
    """The part outside the layers, and what it holds now. Its parameters are moved into flat buffers."""

    def __init__(
        self, sources: ResidentSources, views: Mapping[str, Tensor], parameters: Mapping[int, Parameter]
    ) -> None:
        self._sources = sources
        copies = sources.alignment.copies
        self._runs = [
            _runs(block, views, parameters, stream=1 + len(sources.names)) + _copy_runs(block, views, copies)
            for block in sources.layout.get((None, OUTER), ())
        ]
        self._held: Fusion | None = None

    def write(self, fusion: Fusion) -> int:
        """Writes the fusion unless it is there already; returns the number of slots written."""
        if self._held == fusion:
            return 0
        self._sources.check_fusion(fusion, OUTER)
        self._held = None
        self._sources.write(fusion, OUTER, self._runs)
        self._held = fusion
        return 1


def _copy_runs(block: Block, views: Mapping[str, Tensor], copies: Mapping[str, str]) -> list[Run]:
    """Where a tensor goes once more: a head that equals its embedding, yet is not tied to it in the live model."""
    return [
        Run(start, stop, views[copy])
        for name, start, stop in block.parts()
        for copy, original in copies.items()
        if original == name and copy in views
    ]


def _runs(block: Block, views: Mapping[str, Tensor], parameters: Mapping[int, Parameter], *, stream: int) -> list[Run]:
    """Where the entries of a block go: one flat buffer, or tensor by tensor where parameters are fused otherwise."""
    own = [parameters.get(views[name].data_ptr()) for name in block.names]
    whole = all(
        parameter is not None and parameter.shape == views[name].shape and parameter.is_contiguous()
        for name, parameter in zip(block.names, own, strict=True)
    )
    if not whole or len({views[name].dtype for name in block.names}) > 1:
        return [Run(start, stop, views[name]) for name, start, stop in block.parts()]
    flat: Tensor | None = None
    for (_, start, stop), parameter in zip(block.parts(), own, strict=True):
        if parameter is not None:
            if flat is None:
                flat = staggered(block.size, stream, dtype=parameter.dtype, device=parameter.device)
            flat[start:stop].copy_(parameter.data.reshape(-1))
            parameter.data = flat[start:stop].view(parameter.shape)
    return [Run(0, block.size, flat)] if flat is not None else []
