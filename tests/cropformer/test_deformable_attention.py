"""Deformable attention: outputs and gradients of the published core, by both ways of sampling."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cropformer.deformable_attention import (
    DeformableAttention,
    _sample_by_bag,
    _sample_by_grid,
    deformable_attention,
)

FIXTURE = Path(__file__).parents[1] / "data" / "parity" / "msda_core.npz"
WAYS = pytest.mark.parametrize("sample", [_sample_by_bag, _sample_by_grid], ids=["bag", "grid"])
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
