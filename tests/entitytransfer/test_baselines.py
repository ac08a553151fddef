"""The two baselines: what they propose, and that they are scored like a model."""

import json
from pathlib import Path

import numpy as np
import pytest

from entitytransfer.datasets import coco
from tools import baselines

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


def test_grid_covers_the_image_once_per_level_and_largest_first():
    entities = baselines.grid(np.zeros((41, 67, 3), dtype=np.uint8))
    masks = entities.masks()
    assert len(entities) == 1 + 4 + 16 + 64
    assert (masks.sum(axis=0) == len(baselines.GRIDS)).all()
    assert masks[0].all()
    assert entities.scores[0] == 1.0


def test_felzenszwalb_finds_a_square_on_a_plain_ground():
    image = np.full((80, 100, 3), 30, dtype=np.uint8)
    square = np.zeros((80, 100), dtype=bool)
    square[20:60, 30:70] = True
    image[square] = (240, 200, 20)
    masks = baselines.felzenszwalb_regions(image).masks()
    ious = (masks & square).sum(axis=(1, 2)) / (masks | square).sum(axis=(1, 2))
    assert ious.max() > 0.9


def test_no_more_entities_than_the_metric_counts():
    noise = np.random.default_rng(0).integers(0, 255, size=(400, 400, 3), dtype=np.uint8)
    assert len(baselines.felzenszwalb_regions(noise)) <= baselines.MAX_ENTITIES


def test_measure_runs_over_the_set():
    samples = coco.read(TINY)
    truth = {sample.read_frame().tobytes(): sample.entity_masks() for sample in samples}

    def oracle(image):
        masks = truth[image.tobytes()]
        return baselines.Entities.from_masks(masks, np.ones(len(masks)), np.zeros(len(masks)))

    assert baselines.measure(samples, oracle)["AR@100"] == pytest.approx(1.0)


def test_command_writes_both_baselines(tmp_path, capsys):
    assert baselines.main([str(TINY), "--out", str(tmp_path / "out.json")]) == 0
    metrics = json.loads((tmp_path / "out.json").read_text())
    assert list(metrics) == ["grid", "felzenszwalb"]
    assert 0 < metrics["felzenszwalb"]["AR@100"] < 1
    assert f"AR@100 {metrics['grid']['AR@100']:.3f}" in capsys.readouterr().out
