"""Point sampling: binary masks read as if they were float planes, and points chosen where masks are unsure."""

import pytest
import torch
import torch.nn.functional as F

from cropformer.point_sampling import sample_masks, sample_planes, uncertain_points, uniform_points


def grid_sample(planes: torch.Tensor, points_xy: torch.Tensor) -> torch.Tensor:
    """The definition: planes [N,H,W] at points [N,P,2], float [N,P]."""
    return F.grid_sample(planes[:, None], 2 * points_xy[:, None] - 1, align_corners=False)[:, 0, 0]


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (7, 5), (32, 48)])
@pytest.mark.parametrize("shared", [False, True])
def test_masks_are_read_as_planes(size_hw, shared):
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(6, *size_hw, generator=generator) > 0.5
    points = 1.4 * torch.rand(1 if shared else 6, 200, 2, generator=generator) - 0.2  # some of them outside
    expected = grid_sample(masks.float(), points.expand(6, -1, -1))
    assert torch.allclose(sample_masks(masks, points), expected, atol=1e-5)


def test_the_border_fades_to_zero():
    mask = torch.ones(1, 4, 4, dtype=torch.bool)
    points = torch.tensor([[[0.5, 0.5], [0.0, 0.5], [0.0, 0.0], [1.0, 0.5], [1.2, 0.5]]])
    assert sample_masks(mask, points)[0].tolist() == pytest.approx([1.0, 0.5, 0.25, 0.5, 0.0])


def test_no_mask_gives_no_value():
    assert sample_masks(torch.zeros(0, 5, 6, dtype=torch.bool), torch.rand(1, 7, 2)).shape == (0, 7)


def test_planes_are_read_at_pixel_centres():
    planes = torch.arange(12.0).view(1, 2, 2, 3)
    centres = torch.tensor([[[0.5 / 3, 0.25], [2.5 / 3, 0.75]]])
    assert torch.allclose(sample_planes(planes, centres), torch.tensor([[[0.0, 5.0], [6.0, 11.0]]]), atol=1e-5)


def test_points_gather_where_the_mask_is_unsure():
    """Logits fall from left to right through zero at x = 0.5; three of four points must lie around there."""
    logits = torch.linspace(8, -8, 64).expand(2, 64, 64)
    torch.manual_seed(0)
    draw = uniform_points(torch.device("cpu"))
    points = uncertain_points(logits, draw, points=200, oversample=3.0, importance=0.75)
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

    points = uncertain_points(logits, draw, points=3, oversample=4 / 3, importance=0.67)
    assert asked == [(1, 4), (1, 1)]
    assert {tuple(point) for point in points[0, :2].tolist()} == {(0.375, 0.5), (0.625, 0.5)}
    assert torch.equal(points[:, 2:], fresh)


def test_uniform_points_fill_the_unit_square():
    torch.manual_seed(0)
    points = uniform_points(torch.device("cpu"))(3, 500)
    assert points.shape == (3, 500, 2)
    assert points.min() >= 0
    assert points.max() < 1
    assert points.std() > 0.25
