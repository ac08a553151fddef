"""Deformable attention: outputs and gradients of the published core, by both ways of sampling."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cropformer.deformable_attention import (
    DeformableAttention,
    _sample_by_grid,
    deformable_attention,
)
from cropformer.deformable_bag import BagAttention

FIXTURE = Path(__file__).parents[1] / "data" / "parity" / "msda_core.npz"
WAYS = pytest.mark.parametrize("sample", [BagAttention.apply, _sample_by_grid], ids=["bag", "grid"])
SIZES_HW = [(3, 4), (2, 2)]


@WAYS
@pytest.mark.parametrize("case", ["a", "b_self"])
def test_published_outputs_and_gradients(sample, case):
    saved = {k[len(case) + 1 :]: v for k, v in np.load(FIXTURE).items() if k.startswith(f"{case}_")}
    sizes_hw = [(int(h), int(w)) for h, w in saved["shapes"]]
    inputs = [torch.from_numpy(saved[name]).requires_grad_() for name in ("value", "loc", "weight")]
    out = sample(inputs[0], sizes_hw, inputs[1], inputs[2])
    out.backward(torch.from_numpy(saved["grad_out"]))
    assert np.abs(out.detach().numpy() - saved["out"]).max() < 1e-5
    for tensor, name in zip(inputs, ("value", "loc", "weight")):
        expected = saved[f"grad_{name}"]
        assert tensor.grad.shape == expected.shape
        assert np.abs(tensor.grad.numpy() - expected).max() < 1e-5 * max(1.0, np.abs(expected).max()), name


@WAYS
def test_gradients_are_those_of_finite_differences(sample):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.rand(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    values, weights = random(2, 16, 2, 3), random(2, 5, 2, 2, 2)
    locations = (1.6 * random(2, 5, 2, 2, 2, 2) - 0.3).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, p, w: sample(v, SIZES_HW, p, w), (values, locations, weights))


def read_at(sample, x: float, y: float) -> float:
    """One head reads the level [[1, 2], [3, 4]] at one place."""
    values = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)
    place = torch.tensor([x, y]).view(1, 1, 1, 1, 1, 2)
    return sample(values, [(2, 2)], place, torch.ones(1, 1, 1, 1, 1)).item()


@WAYS
@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.25, 0.25, 1.0),  # centre of the first pixel
        (0.75, 0.25, 2.0),
        (0.5, 0.25, 1.5),  # half way between two
        (0.5, 0.5, 2.5),
        (0.0, 0.25, 0.5),  # on the border half of what is read lies outside, and that is zero
        (1.0, 1.0, 1.0),
        (-0.3, 0.25, 0.0),
        (0.25, 7.0, 0.0),
    ],
)
def test_values_by_hand(sample, x, y, expected):
    assert read_at(sample, x, y) == pytest.approx(expected)


@WAYS
def test_levels_points_and_heads_are_kept_apart(sample):
    """Each head reads its own channels; its weights choose the level and the point."""
    values = torch.zeros(1, 5, 2, 1)  # one level of four pixels and one of a single pixel
    values[0, :4, 0, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    values[0, 4, :, 0] = torch.tensor([10.0, 20.0])
    places = torch.full((1, 1, 2, 2, 2, 2), 0.5)
    places[0, 0, 0, 0, 1] = 0.25
    weights = torch.zeros(1, 1, 2, 2, 2)
    weights[0, 0, 0, 0] = torch.tensor([1.0, 2.0])  # head 0, fine level: 2.5 + 2 * 1
    weights[0, 0, 1, 1] = torch.tensor([0.5, 0.5])  # head 1, coarse level
    assert sample(values, [(2, 2), (1, 1)], places, weights).flatten().tolist() == [4.5, 20.0]


def test_both_ways_agree_through_the_public_function():
    generator = torch.Generator().manual_seed(1)
    values = torch.randn(2, 16, 4, 8, generator=generator)
    places = 1.4 * torch.rand(2, 11, 4, 2, 3, 2, generator=generator) - 0.2
    weights = torch.rand(2, 11, 4, 2, 3, generator=generator)
    ours = deformable_attention(values, SIZES_HW, places, weights)
    assert ours.shape == (2, 11, 32)
    assert torch.allclose(ours, _sample_by_grid(values, SIZES_HW, places, weights), atol=1e-5)


def test_chunks_and_sides_of_one_pixel_change_nothing(monkeypatch):
    """A chunk for each query; levels with a single column, a single line, a single pixel."""
    monkeypatch.setattr("cropformer.deformable_bag._CHUNK_SAMPLES", 1)
    sizes_hw = [(5, 3), (4, 1), (1, 3), (1, 1)]
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(2, 23, 2, 4, generator=generator)
    places = 1.6 * torch.rand(2, 9, 2, 4, 3, 2, generator=generator) - 0.3
    weights = torch.rand(2, 9, 2, 4, 3, generator=generator)
    results = []
    for sample in (BagAttention.apply, _sample_by_grid):
        inputs = [tensor.clone().requires_grad_() for tensor in (values, places, weights)]
        read = sample(inputs[0], sizes_hw, *inputs[1:])
        results.append([read, *torch.autograd.grad(read.square().sum(), inputs)])
    for ours, theirs in zip(*results):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_place_that_is_no_number_spoils_only_its_query():
    values, places = torch.ones(1, 16, 1, 2), torch.full((1, 3, 1, 2, 1, 2), 0.5)
    places[0, 1], places[0, 2] = torch.nan, 1e30
    read = deformable_attention(values, SIZES_HW, places, torch.ones(1, 3, 1, 2, 1))
    assert torch.allclose(read[0, 0], torch.tensor(2.0))
    assert read[0, 1].isnan().all()
    assert not read[0, 2].any()


def test_bfloat16_values_are_read_in_the_precision_of_the_places():
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(1, 16, 2, 8, generator=generator).bfloat16()
    places = torch.rand(1, 6, 2, 2, 3, 2, generator=generator)
    weights = torch.rand(1, 6, 2, 2, 3, generator=generator)
    read = deformable_attention(values, SIZES_HW, places, weights)
    assert read.dtype == torch.bfloat16
    assert torch.equal(read, deformable_attention(values.float(), SIZES_HW, places, weights).bfloat16())


def test_module_follows_its_equations():
    """Offsets are pixels of each level, weights sum to one over levels and points."""
    torch.manual_seed(0)
    module = DeformableAttention(8, heads=2, levels=2, points=2)
    for linear in (module.sampling_offsets, module.attention_weights):
        torch.nn.init.normal_(linear.weight)
    queries, tokens, references = torch.randn(2, 5, 8), torch.randn(2, 16, 8), torch.rand(5, 2)
    offsets = module.sampling_offsets(queries).view(2, 5, 2, 2, 2, 2)  # [B,Q,C'] -> [B,Q,M,L,P,2]
    sides = torch.tensor([(w, h) for h, w in SIZES_HW])
    places = references.view(1, 5, 1, 1, 1, 2) + offsets / sides.view(1, 1, 1, 2, 1, 2)
    weights = module.attention_weights(queries).view(2, 5, 2, 4).softmax(-1).view(2, 5, 2, 2, 2)
    values = module.value_proj(tokens).view(2, 16, 2, 4)  # [B,S,C] -> [B,S,M,D]
    expected = module.output_proj(_sample_by_grid(values, SIZES_HW, places, weights))
    read = module(queries, tokens, references=references, sizes_hw=SIZES_HW)
    assert torch.allclose(read, expected, atol=1e-5)


def test_heads_start_in_eight_directions():
    module = DeformableAttention(32, heads=8, levels=3, points=4)
    offsets = module.sampling_offsets.bias.view(8, 3, 4, 2)  # [MLP2] -> [M,L,P,2]
    assert torch.allclose(offsets[0, 2], torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]), atol=1e-6)
    assert torch.allclose(offsets[3, 0, 1], torch.tensor([-2.0, 2.0]), atol=1e-5)  # the corner, not the circle
    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any()


def test_a_fresh_module_averages_what_its_points_read():
    """Equal weights: a constant plane is read as itself wherever all points lie inside."""
    module = DeformableAttention(8, heads=2, levels=1, points=2)
    tokens = torch.ones(1, 81, 8)
    centre = torch.tensor([[0.5, 0.5]])
    read = module(torch.randn(1, 1, 8), tokens, references=centre, sizes_hw=[(9, 9)])
    assert torch.allclose(read, module.output_proj(module.value_proj(tokens[:, :1])), atol=1e-5)
