"""The resident model: one live `transformers` model into which recipes are written in place.

Nothing is read from disk or built per candidate, and only the slots that differ from what the model holds are
written again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from automerge.language_model import CausalLM, InvalidModelError
from automerge.merge import ResidentSources
from automerge.recipe import Fusion, Recipe

DType = Literal["auto", "float32", "bfloat16", "float16"]


def load_causal_lm(
    folder: Path | str,
    *,
    device: str = "cpu",
    dtype: DType = "auto",
    batch_tokens: int = 16384,
    trust_remote_code: bool = False,
) -> CausalLM:
    """The model of a folder, ready to be asked.

    `dtype` is that of the computation: `auto` takes float32 on a CPU, whose low-precision kernels are slow, and the
    stored dtype elsewhere. Raises OSError, as transformers does, for a folder without model or tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415 (slow to import)

    chosen = "float32" if dtype == "auto" and torch.device(device).type == "cpu" else dtype
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=chosen if chosen == "auto" else getattr(torch, chosen),
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
    )
    model.to(device)  # type: ignore[arg-type]  # the overloads of transformers hide torch.nn.Module.to
    return CausalLM(model, tokenizer, batch_tokens=batch_tokens)


class ResidentModel:
    """The live model and the sources merged into it. Holds which fusion each slot of the model has now."""

    def __init__(self, lm: CausalLM, sources: ResidentSources) -> None:
        self.lm = lm
        self.sources = sources
        self._parameters: dict[str, Tensor] = dict(lm.model.named_parameters(remove_duplicate=False))
        self._written: dict[tuple[int | None, str], Fusion] = {}
        absent = sorted(set(sources.alignment.places) - set(self._parameters))
        if absent:
            raise ValueError(
                f"the checkpoint has {len(absent)} tensors that are no parameters of the live "
                f"{type(lm.model).__name__}: {', '.join(absent[:4])}; is this a plain transformers checkpoint?"
            )

    def write(self, recipe: Recipe) -> int:
        """Makes the live model the one that the recipe describes; returns the number of slots written.

        Raises ValueError for a recipe that this model cannot hold, InvalidModelError if merged weights are not finite.
        """
        n_layers = self.sources.alignment.n_layers
        if len(recipe.layers) != n_layers or any(layer.scale != 1.0 for layer in recipe.layers):
            raise ValueError(
                f"the resident model holds {n_layers} unscaled layers; the recipe has {len(recipe.layers)} layers "
                f"with scales {sorted({layer.scale for layer in recipe.layers})}"
            )
        self.sources.check(recipe)
        n_written = 0
        with torch.no_grad():
            for (depth, component), fusion in recipe.fusions():
                if self._written.get((depth, component)) != fusion:
                    # An interrupted write leaves the slot marked as unknown, never as the wrong recipe.
                    self._written.pop((depth, component), None)
                    self._write_slot(depth, fusion, component)
                    self._written[(depth, component)] = fusion
                    n_written += 1
        return n_written

    def costs(self, recipe: Recipe) -> dict[str, float]:
        """Exact figures of the merged model: layers, parameters."""
        return {"layers": float(len(recipe.layers)), "parameters": float(self.sources.n_parameters(recipe))}

    def _write_slot(self, depth: int | None, fusion: Fusion, component: str) -> None:
        for name, merged in self.sources.merge(fusion, component):
            target = self._parameters[self.sources.alignment.name_at(name, depth)]
            if not bool(torch.isfinite(merged).all()):
                raise InvalidModelError(f"merging by {fusion.method} gave NaN or infinity in {name}")
            target.copy_(merged)
