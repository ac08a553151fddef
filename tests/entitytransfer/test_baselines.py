"""The two baselines: what they propose, and that they are scored like a model."""

import json
from pathlib import Path

import numpy as np

from entitytransfer.cli import main
from tools import baselines, predict_baseline


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


def test_the_results_file_of_a_baseline_is_judged_like_that_of_a_model(tmp_path):
    fss = ["dataset=fss", f"root={Path(__file__).parents[1] / 'data' / 'metrics' / 'fss'}"]
    predict_baseline.main(["grid", str(tmp_path / "grid.json"), *fss])
    assert main(["zeroshot", *fss, f"predictions={tmp_path / 'grid.json'}", f"out={tmp_path}", "examples=0"]) == 0
    (written,) = tmp_path.glob("fss*/zeroshot.json")
    assert json.loads(written.read_text())["metrics"]["AR@100"] == 0.5
