"""A recipe as a mergekit configuration, and a mergekit configuration as a recipe (mergekit 0.1.5).

mergekit has one `merge_method` for a whole configuration and sets its parameters by slices of layers and by `filter`,
a substring of tensor names. So a recipe can be written if its slots share one method; a source passed through is a
weight of 1 among zeros. Stacks are slices of passthrough; scales of layers are scales of the tensors in which branches
end, which `writers` names. What cannot be written or read is listed, all of it::

    ends = writers({"self_attn.o_proj.weight", "mlp.down_proj.weight"}, "llama")
    found = to_yaml(recipe, {"base": "org/base", "math": "org/math"}, alignment, dtype="bfloat16", writers=ends)
    print(found.text or found.faults)
    assert from_yaml(found.text, {"org/base": "base", "org/math": "math"}, alignment, ends) == recipe

Both compute in float32 and round once at the end; mergekit draws random masks of its own.
"""

from automerge.mergekit.reading import from_yaml, models
from automerge.mergekit.writing import Translation, to_yaml

__all__ = ["Translation", "from_yaml", "models", "to_yaml"]
