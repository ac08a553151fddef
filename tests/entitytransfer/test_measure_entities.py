"""The measuring tool: every method is scored, the numbers are written, and bad input is one sentence."""

import json
from pathlib import Path

import numpy as np
import pytest

from cropformer import Entities
from entitytransfer.datasets import coco
from entitytransfer.evaluators.average_precision import AveragePrecision
from tools import baselines, measure_entities

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


def test_every_method_is_measured_the_same_way(tiny_weights, tmp_path, capsys):
    out = tmp_path / "numbers.json"
    assert measure_entities.main([str(TINY), "--weights", str(tiny_weights), "--out", str(out)]) == 0
    numbers = json.loads(out.read_text())
    ours = ["crops=0", "crops=4", "crops=0 official", "crops=4 official", "crops=4 overlapping", "untrained crops=4"]
    assert list(numbers) == [*ours, *baselines.BASELINES]
    assert all("AR@100" in values and "AP" in values for values in numbers.values())
    assert "felzenszwalb" in capsys.readouterr().out


def test_the_truth_measured_against_itself_is_perfect():
    samples = coco.read(TINY)
    truth = {sample.read_frame().tobytes(): sample.entity_masks() for sample in samples}

    def oracle(image: np.ndarray) -> Entities:
        masks = truth[image.tobytes()]
        return Entities.from_masks(masks, np.ones(len(masks)), np.zeros(len(masks)))

    assert measure_entities.measure(samples, oracle)["AR@100"] == pytest.approx(1.0)


def test_missing_weights_are_one_sentence(capsys):
    assert measure_entities.main([str(TINY), "--weights", "/nowhere.pth"]) == 2
    assert "no weights file" in capsys.readouterr().err


def test_the_evaluator_starts_anew_after_a_reset():
    metric = AveragePrecision()
    samples = coco.read(TINY)
    metric.update(baselines.grid(samples[0].read_frame()), samples[0])
    first = metric.compute()
    metric.reset()
    metric.update(baselines.grid(samples[0].read_frame()), samples[0])
    assert metric.compute() == first
