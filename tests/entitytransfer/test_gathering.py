"""Two processes that each score a share of a set find the numbers of one process that scores it all."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.evaluators.clip_results import ClipPanopticResults, TrackResults
from entitytransfer.evaluators.gathering import gather

from .clip_evaluator_cases import panoptic_clip_pairs, track_classes, track_pairs
from .evaluator_cases import feed
from .test_average_precision import entities, random_scene, sample

SCENES = 5


def scored(indices: range) -> dict[str, float]:
    """Numbers of some of the scenes; scores are so coarse that many are equal, within images and between them."""
    rng = np.random.default_rng(7)
    scenes = [random_scene(rng) for _ in range(SCENES)]
    metric = AveragePrecision()
    for index in indices:
        truth, predictions, scores = scenes[index]
        metric.update(entities(predictions, np.ceil(scores * 4) / 4), sample(truth, f"image {index}"))
    return metric.compute()


def scored_clips(share: slice) -> list[dict[str, float]]:
    """Numbers of some clips of the fixtures, tracks and segments."""
    tracks = feed(TrackResults(track_classes("ytvis")), track_pairs("ytvis")[share])
    segments = feed(ClipPanopticResults(track_classes("vipseg")), panoptic_clip_pairs()[share])
    return [tracks.compute(), segments.compute()]


def run_process(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    records = gather([(rank, place) for place in range(rank + 1)])
    metrics = [scored(range(rank, SCENES, 2)), *scored_clips(slice(rank, None, 2))]
    (folder / f"{rank}.json").write_text(json.dumps([records, metrics]))
    distributed.destroy_process_group()


def test_two_processes_give_the_numbers_of_one(tmp_path):
    torch.multiprocessing.spawn(run_process, args=(tmp_path,), nprocs=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    expected = [scored(range(SCENES)), *scored_clips(slice(None))]
    assert 0 < expected[0]["AP"] < 1 and 0 < expected[1]["AP"] < 1 and 0 < expected[2]["VPQ"] < 1
    for _, metrics in found:
        assert metrics[0] == expected[0]
        assert metrics == [pytest.approx(one, rel=0, abs=1e-12, nan_ok=True) for one in expected]
    assert [records for records, _ in found] == [[[0, 0], [1, 0], [1, 1]]] * 2


def test_the_order_of_the_images_does_not_matter():
    assert scored(range(SCENES)) == scored(range(SCENES - 1, -1, -1))


def test_one_process_keeps_its_records():
    records = [1, 2]
    assert gather(records) == records
