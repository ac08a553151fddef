"""Views: where the crops lie, what the network sees of them, and the way back to the image."""

import numpy as np
import pytest
import torch

from cropformer import InputError, Target, Views, crop_target, make_clip_views, make_views
from cropformer.resampling import linear_weights, resized_size_hw, view_weights
from cropformer.views import (
    PIXEL_MEAN,
    PIXEL_STD,
    batch_views,
    crop_box,
    crop_places,
    cut_view,
    stack_views,
    view_boxes,
)


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# --- boxes


def published_crops(size_hw: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """The published loop, as it is described: a stride grid whose last crops are pushed back inside."""
    height, width = size_hw
    crop_h, crop_w = int(0.7 * height), int(0.7 * width)
    boxes = []
    for y in range(0, height, int(0.6 * height)):
        for x in range(0, width, int(0.6 * width)):
            y1, x1 = min(y + crop_h, height), min(x + crop_w, width)
            boxes.append((x1 - crop_w, y1 - crop_h, x1, y1))
    return boxes


@pytest.mark.parametrize("other", [4, 97, 600, 5999])
@pytest.mark.parametrize("upright", [False, True])
def test_four_corners_are_the_published_crops(other, upright):
    for side in (*range(4, 401), 600, 999, 1080, 1333, 2160, 4001, 6000):
        size_hw = (side, other) if upright else (other, side)
        boxes = view_boxes(size_hw, crops=4)[1:]
        assert boxes == published_crops(size_hw)
        assert boxes[0][2] >= boxes[1][0]  # left and right meet: nothing is left uncovered
        assert boxes[0][3] >= boxes[2][1]


def test_corners_of_a_known_image():
    assert view_boxes((100, 200))[1:] == [
        (0, 0, 140, 70),
        (60, 0, 200, 70),
        (0, 30, 140, 100),
        (60, 30, 200, 100),
    ]
    assert view_boxes((90, 90))[1] == (0, 0, 62, 62)  # 0.7 * 90 is 62.99...


@pytest.mark.parametrize("ratio", [0.5, 0.6, 0.7, 0.8, 1.0])
@pytest.mark.parametrize("crops", [4, 8, (2, 3)])
def test_every_crop_has_the_ratio_and_lies_inside(ratio, crops):
    for height, width in ((90, 131), (4, 5), (799, 1201)):
        for x0, y0, x1, y1 in view_boxes((height, width), crops=crops, ratio=ratio)[1:]:
            assert (y1 - y0, x1 - x0) == (int(ratio * height), int(ratio * width))
            assert min(x0, y0) >= 0
            assert x1 <= width
            assert y1 <= height


@pytest.mark.parametrize("ratio", [0, -0.1, 1.01, float("nan")])
def test_impossible_ratios(ratio):
    with pytest.raises(InputError, match=rf"a crop cannot have {ratio} times the side"):
        make_views(picture(40, 60), crops=4, crop_ratio=ratio)


@pytest.mark.parametrize("crops", [-1, (2, -3)])
def test_impossible_layouts(crops):
    with pytest.raises(InputError, match="there are no .* crops; give 0, 4, 8"):
        view_boxes((40, 60), crops=crops)


def test_a_place_is_a_fraction_of_the_free_play():
    assert crop_box((100, 200), (0.5, 0.25), ratio=0.5) == (25, 25, 125, 75)
    assert crop_box((3, 1), (1, 1), ratio=0.5) == (0, 2, 1, 3)  # never empty
    assert crop_places(4) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert crop_places((1, 3)) == [(0, 0), (0, 0.5), (0, 1)]


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 3), (3, 200), (200, 2)])
@pytest.mark.parametrize("crops", [0, 4, 8, (1, 3)])
def test_tiny_images_have_only_their_full_view(size_hw, crops):
    assert view_boxes(size_hw, crops=crops) == [(0, 0, size_hw[1], size_hw[0])]


def test_the_full_view_comes_first():
    full = (0, 0, 200, 100)
    assert view_boxes((100, 200), crops=0) == [full]
    assert view_boxes((100, 200), crops=4) == [full, *published_crops((100, 200))]


def test_eight_crops_are_the_ring_of_a_three_by_three_grid():
    boxes = view_boxes((100, 200), crops=8)[1:]
    starts = [(0, 0), (30, 0), (60, 0), (0, 15), (60, 15), (0, 30), (30, 30), (60, 30)]
    assert boxes == [(x, y, x + 140, y + 70) for x, y in starts]


@pytest.mark.parametrize("crops", [(1, 3), 3])
def test_crops_in_one_row_keep_the_full_height(crops):
    assert view_boxes((100, 200), crops=crops)[1:] == [(x, 0, x + 140, 100) for x in (0, 30, 60)]


def test_crops_in_one_column_keep_the_full_width():
    assert view_boxes((100, 200), crops=(2, 1))[1:] == [(0, 0, 200, 70), (0, 30, 200, 100)]


# --- sizes and pixels


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((1200, 1800), (800, 1200)),
        ((100, 1000), (133, 1333)),  # capped by the long side
        ((300, 300), (800, 800)),
        ((1, 1), (800, 800)),
        ((1, 2000), (1, 1333)),  # no side ever vanishes
    ],
)
def test_resized_sizes(size_hw, expected):
    assert resized_size_hw(size_hw, short_side=800, max_side=1333) == expected


def test_views_are_normalised_padded_and_described():
    image = picture(100, 150)
    views = make_views(image, crops=4, short_side=64, max_side=100)
    assert views.pixels.shape == (1, 5, 3, 64, 96)
    assert views.pixels.dtype == torch.float32
    assert views.boxes_xyxy[0].tolist() == [list(box) for box in view_boxes((100, 150), crops=4)]
    assert views.image_sizes_hw.tolist() == [[100, 150]]
    assert views.frames == (0, 0, 0, 0, 0)
    for t, (box, (height, width)) in enumerate(zip(view_boxes((100, 150)), views.sizes_hw[0].tolist())):
        seen = cut_view(image, box, short_side=64, max_side=100)
        assert seen.shape[:2] == (height, width)
        back = views.pixels[0, t, :, :height, :width].permute(1, 2, 0).numpy() * PIXEL_STD + PIXEL_MEAN
        assert np.abs(back - seen).max() < 1e-3
        assert not views.pixels[0, t, :, height:].any()
        assert not views.pixels[0, t, :, :, width:].any()


def test_every_view_is_resized_from_its_own_size():
    """The crop of 62x62 pixels fills its canvas as the image of 90x90 does."""
    views = make_views(picture(90, 90), crops=4, short_side=64, max_side=64)
    assert views.sizes_hw[0].tolist() == [[64, 64]] * 5
    assert views.boxes_xyxy[0, 1].tolist() == [0, 0, 62, 62]


def test_a_view_at_its_own_size_is_not_resampled():
    image = picture(64, 96)
    assert np.array_equal(cut_view(image, (0, 0, 96, 64), short_side=64, max_side=96), image)


def test_without_crops_there_is_one_view():
    views = make_views(picture(40, 60), crops=0, short_side=32, max_side=100)
    assert views.pixels.shape == (1, 1, 3, 32, 64)
    assert views.frames == (0,)


@pytest.mark.parametrize("size_hw", [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_the_smallest_images(size_hw):
    views = make_views(picture(*size_hw), crops=4, short_side=32, max_side=64)
    assert views.pixels.shape[1] == 1
    assert views.pixels.shape[3] % 32 == views.pixels.shape[4] % 32 == 0
    assert views.pixels.isfinite().all()


@pytest.mark.parametrize(("crops", "count"), [(8, 9), ((1, 3), 4), ((2, 2), 5)])
def test_other_layouts(crops, count):
    assert make_views(picture(60, 80), crops=crops, short_side=32, max_side=64).pixels.shape[1] == count


@pytest.mark.parametrize("crops", [0, 4, 8, 3, (3, 1)])
@pytest.mark.parametrize("size_hw", [(90, 131), (131, 90), (300, 20), (100, 100), (3, 5), (1, 1)])
def test_the_size_of_an_image_tells_its_canvas(size_hw, crops):
    layout = {"crops": crops, "short_side": 64, "max_side": 107, "crop_ratio": 0.6}
    assert Views.canvas_hw(size_hw, **layout) == tuple(make_views(picture(*size_hw), **layout).pixels.shape[-2:])


def test_frames_of_a_clip_are_views():
    frames = [picture(40, 60, seed) for seed in range(3)]
    views = make_clip_views(frames, short_side=32, max_side=64)
    assert views.pixels.shape == (1, 3, 3, 32, 64)
    assert views.frames == (0, 1, 2)
    assert views.boxes_xyxy[0].tolist() == [[0, 0, 60, 40]] * 3
    for t, frame in enumerate(frames):
        alone = make_views(frame, crops=0, short_side=32, max_side=64)
        assert torch.equal(views.pixels[0, t], alone.pixels[0, 0])


def test_joined_images_share_a_canvas():
    wide, tall = (make_views(picture(*size), crops=4, short_side=32, max_side=100) for size in ((40, 120), (120, 40)))
    joined = batch_views([wide, tall])
    assert joined.pixels.shape == (2, 5, 3, 96, 96)
    for item, single in enumerate((wide, tall)):
        height, width = single.pixels.shape[-2:]
        assert torch.equal(joined.pixels[item, ..., :height, :width], single.pixels[0])
        assert not joined.pixels[item, ..., height:, :].any()
        assert not joined.pixels[item, ..., width:].any()
        for name in ("boxes_xyxy", "sizes_hw", "image_sizes_hw"):
            assert torch.equal(getattr(joined, name)[item], getattr(single, name)[0])


# --- targets and the way back


def test_targets_follow_their_views():
    masks = np.zeros((3, 100, 150), dtype=bool)
    masks[0, :20, :20] = True  # top left only
    masks[1, 40:60, 60:90] = True  # the middle, in every crop
    boxes = view_boxes((100, 150))
    target = crop_target(masks, boxes, [(70, 105)] * 5, labels=np.array([4, 5, 6]))
    assert target.masks.shape == (3, 5, 70, 105)
    assert target.labels.tolist() == [4, 5, 6]
    assert target.valid.tolist() == [[True, True, False, False, False], [True] * 5, [False] * 5]
    for t, (x0, y0, x1, y1) in enumerate(boxes[1:], start=1):  # crops of 70x105 keep every pixel
        assert np.array_equal(target.masks[:, t].numpy(), masks[:, y0:y1, x0:x1])


def test_targets_are_class_agnostic_unless_told():
    target = crop_target(np.ones((2, 8, 8), dtype=bool), [(0, 0, 8, 8)], [(8, 8)])
    assert target.labels.tolist() == [0, 0]
    assert target.exhaustive


def test_smaller_views_are_padded_with_nothing():
    target = crop_target(np.ones((1, 20, 20), dtype=bool), [(0, 0, 20, 20), (0, 0, 10, 10)], [(20, 20), (8, 12)])
    assert target.masks.shape == (1, 2, 20, 20)
    assert target.masks[0, 1].sum() == 8 * 12
    larger = target.padded((32, 64))
    assert larger.masks.shape == (1, 2, 32, 64)
    assert larger.masks.sum() == target.masks.sum()


def test_each_view_has_a_target_of_what_it_shows():
    valid = torch.tensor([[True, False], [True, True], [False, True]])
    masks = valid[:, :, None, None].expand(3, 2, 4, 4)
    first, second = Target(torch.tensor([7, 8, 9]), masks, valid, exhaustive=False).per_view()
    assert first.labels.tolist() == [7, 8]
    assert second.labels.tolist() == [8, 9]
    assert second.masks.shape == (2, 1, 4, 4)
    assert second.masks.all()
    assert second.valid.all()
    assert not first.exhaustive


@pytest.mark.parametrize("target", [1, 7, 40, 90])
def test_resizing_as_matrices(target):
    """Both ways of reading logits keep a constant, and without padding they are the same resize."""
    whole = view_weights(10, padded=40, valid=40, target=target, two_step=False)
    assert torch.allclose(whole.sum(1), torch.ones(target), atol=1e-6)
    assert torch.allclose(whole, linear_weights(10, target), atol=1e-5)
    published = view_weights(10, padded=40, valid=33, target=target, two_step=True)
    assert torch.allclose(published.sum(1), torch.ones(target), atol=1e-5)


def test_stacked_views_may_have_different_sizes():
    views = stack_views(
        [picture(40, 30), picture(20, 70)],
        [(0, 0, 30, 40), (5, 5, 25, 25)],
        image_size_hw=(40, 30),
        frames=(0, 0),
    )
    assert views.pixels.shape == (1, 2, 3, 64, 96)
    assert views.sizes_hw.tolist() == [[[40, 30], [20, 70]]]
