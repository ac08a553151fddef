"""Mask probabilities tile by tile are those of the dense reference, and never take the room of the whole."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmarks.dense_pipeline import mean_probs
from cropformer import (
    FrameQueries,
    InputError,
    Queries,
    Views,
    frame_queries,
    fuse,
    make_clip_views,
    mask_probs,
    whole_masks,
)

from .fusion_cases import SIDES, LargestTensor, photo_views, picture, random_queries


def collect(frame: FrameQueries, *, max_memory: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """All tiles in one tensor [Q,H,W], and how often each pixel came, int64 [H,W]."""
    probs = torch.zeros(len(frame.query_ids), *frame.size_hw)
    seen = torch.zeros(frame.size_hw, dtype=torch.int64)
    for (rows, columns), tile in mask_probs(frame, max_memory=max_memory):
        probs[:, rows, columns] = tile
        seen[rows, columns] += 1
    return probs, seen


def dense_probs(queries: Queries, views: Views, image: int, members: list[int]) -> torch.Tensor:
    logits = torch.einsum(
        "qc,tchw->qthw", queries.mask_embeddings[image].double(), queries.mask_features[image, members].double()
    )
    return mean_probs(logits, views, image, members, official=False)


def only_frame(queries: Queries, views: Views) -> FrameQueries:
    (frame,) = frame_queries(queries, views)
    return frame


@pytest.mark.parametrize("crops", [0, 4, 8])
@pytest.mark.parametrize("size_hw", [(90, 131), (200, 333), (7, 5)])
def test_tiles_together_are_the_dense_probabilities(size_hw, crops):
    views = photo_views(size_hw, crops=crops)
    queries = random_queries(views)
    probs, seen = collect(only_frame(queries, views))
    assert (seen == 1).all()
    assert torch.allclose(probs.double(), dense_probs(queries, views, 0, list(range(len(views.frames)))), atol=1e-5)


def test_every_image_of_a_batch_and_every_source():
    views = photo_views((90, 131), (60, 150))
    queries = random_queries(views)
    for source, members in {"B-OC": [0, 1, 2, 3, 4], "B-O": [0], "B-C": [1, 2, 3, 4]}.items():
        for image, frame in enumerate(frame_queries(queries, views, source=source)):
            assert torch.allclose(collect(frame)[0].double(), dense_probs(queries, views, image, members), atol=1e-5)
    for image, frame in enumerate(frame_queries(queries, views, source="I-O")):
        alone, row = queries.per_view, 5 * image
        logits = torch.einsum("qc,tchw->qthw", alone.mask_embeddings[row].double(), alone.mask_features[row].double())
        expected = mean_probs(logits, views, image, [0], official=False)
        assert torch.allclose(collect(frame)[0].double(), expected, atol=1e-5)
        assert torch.equal(frame.class_probs, alone.class_logits[row].softmax(-1))


def test_the_frames_of_a_clip_are_read_apart():
    views = make_clip_views([picture(90, 131)] * 2, **SIDES)
    queries = random_queries(views)
    frames = list(frame_queries(queries, views))
    assert len(frames) == 2
    for t, frame in enumerate(frames):
        assert torch.allclose(collect(frame)[0].double(), dense_probs(queries, views, 0, [t]), atol=1e-5)


def test_ground_that_no_view_shows_is_in_no_tile():
    views = photo_views((90, 130), crops=4)
    boxes = views.boxes_xyxy.clone()
    boxes[0, 1:] = torch.tensor([[0, 0, 40, 30], [90, 0, 130, 30], [0, 60, 40, 90], [90, 60, 130, 90]])
    views = replace(views, boxes_xyxy=boxes)
    (frame,) = frame_queries(random_queries(views), views, source="B-C")
    _, seen = collect(frame)
    shown = torch.zeros(90, 130, dtype=torch.int64)
    for x0, y0, x1, y1 in boxes[0, 1:].tolist():
        shown[y0:y1, x0:x1] = 1
    assert torch.equal(seen, shown)


def test_chosen_queries_in_a_chosen_order():
    views = photo_views((90, 131))
    frame = only_frame(random_queries(views), views)
    indices = torch.tensor([5, 2, 9])
    chosen = frame.select(indices)
    assert chosen.query_ids.tolist() == [5, 2, 9]
    assert torch.equal(chosen.class_probs, frame.class_probs[indices])
    assert torch.allclose(collect(chosen)[0], collect(frame)[0][indices], atol=1e-5)
    assert collect(frame.select(indices[:0]))[0].shape == (0, 90, 131)


def test_no_bound_on_the_memory_changes_a_bit():
    views = photo_views((300, 420))
    frame = only_frame(random_queries(views, count=40), views)
    results = [collect(frame, max_memory=bound)[0] for bound in (1, 3 * 10**6, None)]
    for first, second in pairwise(results):
        assert torch.equal(first, second)


def test_the_largest_tensor_is_a_tile_of_all_queries():
    """100 queries at 1500x2000 take 1.2 GB as float32; a tile of 64x64 takes 1.6 MB."""
    views = photo_views((1500, 2000))
    frame = only_frame(random_queries(views, count=100), views)
    with LargestTensor() as largest:
        tiles = sum(1 for _ in mask_probs(frame))
    assert tiles > 700
    assert largest.floats <= 4 * 112 * 64 * 64  # queries go in blocks of 16


def test_nonsense_is_refused():
    views = photo_views((40, 60))
    queries = random_queries(views)
    with pytest.raises(InputError, match="no prediction source 'C-B'"):
        next(frame_queries(queries, views, source="C-B"))
    frame = only_frame(queries, views)
    with pytest.raises(InputError, match="max_memory is 0 bytes"):
        next(mask_probs(frame, max_memory=0))
    with pytest.raises(InputError, match="max_memory is -1 bytes"):
        whole_masks(frame, max_memory=-1)


def test_whole_masks_are_the_overlapping_entities_of_certain_queries():
    views = photo_views((90, 131))
    queries = random_queries(views)
    found, entities = whole_masks(only_frame(queries, views)), fuse(queries, views, overlap=True)[0]
    assert sorted(found.query_ids) == sorted(entities.query_ids)
    assert 0 not in found.query_ids  # it has no pixel
    assert (np.diff(found.scores) <= 0).all()
    probs = dense_probs(queries, views, 0, [0, 1, 2, 3, 4])
    for query, mask, score in zip(found.query_ids, found.masks(), found.scores):
        assert (mask == (probs[query] > 0.5).numpy()).mean() > 0.9999
        assert score == pytest.approx(probs[query][probs[query] > 0.5].mean().item(), abs=1e-4)
