"""Point sampling: binary masks read as if they were float planes, and points chosen where masks are unsure."""

import pytest
import torch
import torch.nn.functional as F

from cropformer.point_sampling import (
    sample_features,
    sample_masks,
    sample_planes,
    uncertain_points,
    uniform_points,
)


def grid_sample(planes: torch.Tensor, points_xy: torch.Tensor) -> torch.Tensor:
    """The definition: planes [N,H,W] at points [N,P,2], float [N,P]."""
    return F.grid_sample(planes[:, None], 2 * points_xy[:, None] - 1, align_corners=False)[:, 0, 0]


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (7, 5), (32, 48)])
def test_masks_and_features_are_read_as_planes(size_hw):
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 2, *size_hw, generator=generator) > 0.5
    chosen = torch.tensor([5, 0, 3, 3])
    points = 3 * torch.rand(4, 200, 2, generator=generator) - 1  # many of them outside
    expected = grid_sample(masks.flatten(0, 1)[chosen].float(), points)
    assert torch.allclose(sample_masks(masks, points, chosen=chosen), expected, atol=1e-5)
    features = torch.randn(4, *size_hw, 5, generator=generator)
    expected = [grid_sample(features[..., channel], points) for channel in range(5)]
    assert torch.allclose(sample_features(features, points), torch.stack(expected, dim=-1), atol=1e-4)


def test_the_border_fades_to_zero():
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    points = torch.tensor([[[0.5, 0.5], [0.0, 0.5], [0.0, 0.0], [1.0, 0.5], [1.2, 0.5]]])
    values = sample_masks(mask, points, chosen=torch.tensor([0]))
    assert values[0].tolist() == pytest.approx([1.0, 0.5, 0.25, 0.5, 0.0])


def test_no_mask_gives_no_value():
    nothing = torch.zeros(0, dtype=torch.long)
    assert sample_masks(torch.zeros(0, 5, 6, dtype=torch.bool), torch.rand(0, 7, 2), chosen=nothing).shape == (0, 7)


def test_planes_are_read_at_pixel_centres():
    planes = torch.arange(12.0).view(2, 2, 3)
    centres = torch.tensor([[0.5 / 3, 0.25], [2.5 / 3, 0.75]]).expand(2, -1, -1)
    assert torch.allclose(sample_planes(planes, centres), torch.tensor([[0.0, 5.0], [6.0, 11.0]]), atol=1e-5)


def test_points_gather_where_the_mask_is_unsure():
    """Logits fall from left to right through zero at x = 0.5; three of four points must lie around there."""
    logits = torch.linspace(8, -8, 64).expand(2, 64, 64)
    torch.manual_seed(0)
    draw = uniform_points(torch.device("cpu"))
    points, values = uncertain_points(logits, draw, points=200, oversample=3.0, importance=0.75)
    assert torch.equal(values, sample_planes(logits, points))
    assert points.shape == (2, 200, 2)
    distance = (points[..., 0] - 0.5).abs()
    assert distance[:, :150].max() < 0.2
    assert distance[:, 150:].max() > 0.4


def test_the_chosen_candidates_are_those_of_least_absolute_logit():
    logits = torch.tensor([5.0, -1.0, 0.5, -4.0]).view(1, 1, 4)
    candidates = torch.tensor([[[0.125, 0.5], [0.375, 0.5], [0.625, 0.5], [0.875, 0.5]]])
    fresh = torch.tensor([[[0.9, 0.9]]])
    asked = []

    def draw(count: int, points: int) -> torch.Tensor:
        asked.append((count, points))
        return candidates if len(asked) == 1 else fresh

    points, values = uncertain_points(logits, draw, points=3, oversample=4 / 3, importance=0.67)
    assert asked == [(1, 4), (1, 1)]
    assert {tuple(point) for point in points[0, :2].tolist()} == {(0.375, 0.5), (0.625, 0.5)}
    assert torch.equal(points[:, 2:], fresh)
    assert sorted(values[0, :2].tolist()) == [-1.0, 0.5]


def test_uniform_points_fill_the_unit_square():
    torch.manual_seed(0)
    points = uniform_points(torch.device("cpu"))(3, 500)
    assert points.shape == (3, 500, 2)
    assert points.min() >= 0
    assert points.max() < 1
    assert points.std() > 0.25
