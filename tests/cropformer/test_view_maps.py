"""Views lie in their image where they were cut from it, tile by tile, and tiles know which views they are inside."""

import numpy as np
import pytest
import torch

from cropformer import crop_target, make_views
from cropformer.tiling import Tiling, make_tiling
from cropformer.views import Views, pad_to_multiple, view_boxes


def tiling_of(views: Views, *, two_step: bool = False) -> Tiling:
    grid_hw = (views.pixels.shape[-2] // 4, views.pixels.shape[-1] // 4)
    members = list(range(len(views.frames)))
    return make_tiling(views, 0, members, grid_hw=grid_hw, two_step=two_step)


def pixels_of(tiling: Tiling, tile: int) -> tuple[slice, slice]:
    """Where a tile lies in its image."""
    row, column = int(tiling.rows[tile]), int(tiling.columns[tile])
    return slice(*tiling.borders[0][row : row + 2]), slice(*tiling.borders[1][column : column + 2])


def picture(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


SIZES = pytest.mark.parametrize("size_hw", [(1, 1), (5, 300), (64, 64), (200, 333)])


@SIZES
@pytest.mark.parametrize("crops", [0, 4, 8, (1, 3)])
def test_tiles_cover_the_image_once_and_views_as_a_whole(size_hw, crops):
    views = make_views(picture(*size_hw), crops=crops, short_side=64, max_side=107)
    tiling = tiling_of(views)
    seen = np.zeros((len(views.frames) + 1, *size_hw), dtype=int)
    for group in tiling.groups:
        for tile in range(group.start, group.stop):
            window = pixels_of(tiling, tile)
            assert tiling.areas()[tile] == seen[0][window].size
            for plane in (0, *(t + 1 for t in group.views)):
                seen[(plane, *window)] += 1
    assert (seen[0] == 1).all()
    for count, (x0, y0, x1, y1) in zip(seen[1:], views.boxes_xyxy[0].tolist()):
        inside = np.zeros(size_hw, dtype=int)
        inside[y0:y1, x0:x1] = 1
        assert np.array_equal(count, inside)


@pytest.mark.parametrize("box", view_boxes((150, 190)))
def test_pasting_back_is_the_inverse_of_cropping(box):
    """Views of exactly four input pixels for each image pixel: masks survive the round trip bit for bit."""
    mask = np.random.default_rng(0).random((1, 150, 190)) > 0.5
    x0, y0, x1, y1 = box
    height, width = y1 - y0, x1 - x0
    target = crop_target(mask, [box], [(4 * height, 4 * width)])
    padded_hw = tuple(pad_to_multiple(4 * side, multiple=32) for side in (height, width))
    grid = target.padded(padded_hw).masks[0, 0, 2::4, 2::4].float() - 0.5  # one logit for each 4x4 input pixels
    views = Views(
        torch.zeros(1, 1, 3, *padded_hw),
        torch.tensor([[box]]),
        torch.tensor([[[4 * height, 4 * width]]]),
        torch.tensor([[150, 190]]),
        (0,),
    )
    tiling = tiling_of(views)
    (group,) = tiling.groups
    tiles = torch.arange(group.start, group.stop)
    pasted = tiling.maps[0].paste_back(grid, tiling.rows[tiles], tiling.columns[tiles])
    for tile, logits in zip(tiles.tolist(), pasted):
        truth = mask[0][pixels_of(tiling, tile)]
        assert np.array_equal(logits[: truth.shape[0], : truth.shape[1]].numpy() > 0, truth)


@pytest.mark.parametrize("two_step", [False, True])
def test_a_tile_that_is_not_reached_has_no_pixel_inside(two_step):
    views = make_views(picture(200, 333), crops=4, short_side=64, max_side=107)
    tiling = tiling_of(views, two_step=two_step)
    grid_hw = (views.pixels.shape[-2] // 4, views.pixels.shape[-1] // 4)
    logits = [torch.randn(6, *grid_hw, generator=torch.Generator().manual_seed(t)) - 2.3 for t in range(5)]
    reached = tiling.reached(logits)
    assert 0.05 < reached.float().mean() < 0.95  # the bound is worth testing
    for query in range(6):
        for group in tiling.groups:
            tiles = torch.arange(group.start, group.stop)
            probs = tiling.fused_probs([planes[query] for planes in logits], tiles, views=group.views)
            inside = (probs > 0.5).flatten(1).any(1)
            assert not (inside & ~reached[query, tiles]).any()


def test_the_part_by_which_a_tile_is_smaller_is_outside():
    views = make_views(picture(130, 90), crops=4, short_side=64, max_side=107)
    tiling = tiling_of(views)
    grid_hw = (views.pixels.shape[-2] // 4, views.pixels.shape[-1] // 4)
    logits = [torch.full(grid_hw, 4.0)] * 5
    for group in tiling.groups:
        tiles = torch.arange(group.start, group.stop)
        inside = (tiling.fused_probs(logits, tiles, views=group.views) > 0.5).flatten(1).sum(1)
        assert torch.equal(inside, tiling.areas()[tiles])
