import pytest
import torch

from automerge.recipe import COMPONENTS, Fusion, Input, OutputLayer, Recipe, Scaling
from automerge.scaling import MAX_GAIN, MIN_SCALE, Gains, folded, gains, writers

OUTER = Fusion("passthrough", (Input("left", None),))
SCALE = 0.7


def scaled(*scales: float, scaling: Scaling = "residual") -> Recipe:
    """The layers of one source with these scales."""
    layers = []
    for depth, scale in enumerate(scales):
        fusion = Fusion("passthrough", (Input("left", depth),))
        layers.append(OutputLayer(tuple((component, fusion) for component in COMPONENTS), scale))
    return Recipe(tuple(layers), OUTER, scaling)


def test_the_gain_of_a_branch_is_one_over_the_scales_before_it() -> None:
    assert gains(scaled(0.5, 2.0, 4.0, 1.0)) == [Gains(g, g) for g in (1.0, 2.0, 1.0, 0.25)]


def test_adding_branches_with_gains_is_scaling_the_stream_for_branches_that_see_no_common_factor() -> None:
    # A toy pre-norm network in closed form: every branch reads the direction of the stream only.
    weights = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    start = torch.randn(6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scales = (0.3, 1.7, 0.9, 0.5)
    stream, added = start, start
    for weight, scale, gain in zip(weights, scales, gains(scaled(*scales)), strict=True):
        stream = (stream + weight @ (stream / stream.norm())) * scale
        added = added + gain.mlp * (weight @ (added / added.norm()))
    torch.testing.assert_close(stream / stream.norm(), added / added.norm())


def test_the_last_scale_does_nothing_and_the_other_meaning_is_a_factor_of_the_own_mlp() -> None:
    assert gains(scaled(0.5, 3.0)) == gains(scaled(0.5, 0.1))
    assert gains(scaled(0.5, 0.0, 3.0, scaling="branch_mlp")) == [Gains(1, 0.5), Gains(1, 0.0), Gains(1, 3.0)]


def test_scales_near_nothing_are_refused_with_the_bound() -> None:
    with pytest.raises(ValueError, match=rf"layer 1 scales the residual stream by 0, .* at least {MIN_SCALE:g}"):
        gains(scaled(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"scales before layer 3 multiply to 0.000125, .* with the gain 8000"):
        gains(scaled(0.05, 0.05, 0.05, 1.0))
    with pytest.raises(ValueError, match=rf"layer 0 scales its mlp by -1; choose from 0 to {MAX_GAIN:g}"):
        gains(scaled(-1.0, scaling="branch_mlp"))


def test_projections_end_branches_unless_norms_follow_them() -> None:
    llama = ["self_attn.q_proj.weight", "self_attn.o_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"]
    norms = ["input_layernorm.weight", "post_attention_layernorm.weight"]
    assert writers([*llama, *norms], "llama") == {
        "self_attn.o_proj.weight": ("attention", 0.0),
        "mlp.down_proj.weight": ("mlp", 0.0),
    }
    behind = {"post_attention_layernorm.weight": ("attention", 0.0), "post_feedforward_layernorm.weight": ("mlp", 0.0)}
    assert writers([*llama, *behind], "olmo2") == behind
    assert writers([*llama, *behind], "gemma2") == {name: (branch, 1.0) for name, (branch, _) in behind.items()}
    assert writers(["mixer.out_proj.weight"], "mamba") == {}
    fused = ["self_attn.o_proj.weight", "mlp.experts.down_proj", "mlp.experts.down_proj_bias", "mlp.router.bias"]
    assert set(writers(fused, "gpt_oss")) == set(fused[:3])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folded_tensor_multiplies_by_the_gain_whatever_is_stored(dtype: torch.dtype) -> None:
    tensor = torch.randn(64, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(folded(tensor, SCALE, 0.0, dtype), (tensor.float() * SCALE).to(dtype))
    assert torch.allclose(1 + folded(tensor, SCALE, 1.0, dtype).float(), SCALE * (1 + tensor.float()), atol=2e-2)
