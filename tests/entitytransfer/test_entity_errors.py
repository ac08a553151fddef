"""What became of an annotated entity, on strips of pixels where it can be counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from cropformer import rle
from entitytransfer.evaluators.coco_ap import ImageRecall
from entitytransfer.evaluators.entity_errors import judge_entities
from entitytransfer.readers.coco_set import CocoSet

WIDTH = 40


def strip(*spans: tuple[int, int]) -> rle.RLE:
    """A mask of one row of pixels, with the pixels from ``start`` to before ``end`` of each span."""
    mask = np.zeros((1, WIDTH), dtype=bool)
    for start, end in spans:
        mask[0, start:end] = True
    return rle.encode(mask)


def image(predictions: list[rle.RLE], truths: list[rle.RLE], *, crowds: tuple[int, ...] = ()) -> CocoSet:
    """The first prediction has the best score."""
    common = {"image_id": 1, "category_id": 1}
    return CocoSet(
        images=[{"id": 1, "height": 1, "width": WIDTH}],
        categories=[{"id": 1, "name": "object"}],
        truths=[
            common | {"id": i + 1, "iscrowd": int(i in crowds), "area": rle.area(encoded), "segmentation": encoded}
            for i, encoded in enumerate(truths)
        ],
        results=[
            common | {"score": 1 / (i + 1), "area": rle.area(encoded), "segmentation": encoded}
            for i, encoded in enumerate(predictions)
        ],
    )


def fates(image: CocoSet, **options: int) -> str:
    """The fate of each annotated entity: (f)ound, (m)erged, (s)plit, missed = (l)ost, - for none."""
    judged = judge_entities(image, **options)
    letters = {"f": judged.found, "m": judged.merged, "s": judged.split, "l": judged.missed}
    count = len(image.truths)
    found = ["".join(letter for letter, fate in letters.items() if fate[index]) for index in range(count)]
    return "".join(letters or "-" for letters in found)


A, B = strip((0, 10)), strip((10, 20))


@pytest.mark.parametrize(
    ("predictions", "truths", "expected"),
    [
        pytest.param([A, B], [A, B], "ff", id="found"),
        pytest.param([strip((0, 5))], [A], "f", id="an IoU of exactly a half is found"),
        pytest.param([strip((0, 4))], [A], "l", id="less than half of it"),
        pytest.param([], [A, B], "ll", id="nothing is predicted"),
        pytest.param([A], [], "", id="nothing is annotated"),
        pytest.param([strip((0, 20))], [strip((0, 6)), strip((6, 12))], "mm", id="one prediction holds both"),
        pytest.param([strip((0, 14))], [A, strip((10, 14))], "fm", id="the larger one is found"),
        pytest.param([strip((0, 14))], [A, strip((2, 6))], "fl", id="a part of the other is not merged with it"),
        pytest.param([strip((0, 12))], [A, strip((10, 14))], "fl", id="half of it is not most of it"),
        pytest.param([strip((0, 4)), strip((4, 8))], [A], "s", id="two parts"),
        pytest.param([strip((0, 4)), strip((0, 4))], [A], "l", id="the same part twice"),
        pytest.param([strip((0, 3)), strip((3, 5))], [A], "l", id="half of it together is not most of it"),
        pytest.param([strip((0, 4)), strip((4, 8), (20, 26))], [A], "l", id="the second part mostly lies elsewhere"),
        pytest.param([strip((0, 6), (20, 25))], [A], "l", id="most of it with too much else"),
        pytest.param(
            [strip((0, 12)), strip((12, 14))],
            [strip((0, 5)), strip((5, 14))],
            "mf",
            id="the larger one of two merged is found",
        ),
        pytest.param([A], [A, A], "lf", id="one prediction finds one of two"),
        pytest.param([A], [strip(), A], "lf", id="no pixel is annotated"),
    ],
)
def test_every_entity_has_its_fate(predictions, truths, expected):
    assert fates(image(predictions, truths)) == expected


def test_one_that_is_merged_and_split_counts_as_merged():
    left, right = strip((0, 10)), strip((10, 20))
    parts = [strip((0, 4)), strip((4, 8))]
    assert fates(image([strip((0, 20), (30, 40)), *parts], [left, right])) == "mm"


def test_only_the_best_predictions_count():
    assert fates(image([A, B], [A, B]), max_entities=1) == "fl"


def test_predictions_may_come_in_any_order():
    both = image([A, B], [A, B])
    assert fates(replace(both, results=both.results[::-1]), max_entities=1) == "fl"


def test_crowds_have_no_fate_and_are_nobodys_neighbour():
    halves = [strip((0, 6)), strip((6, 12))]
    assert fates(image([strip((0, 20))], halves, crowds=(1,))) == "l-"
    counts = judge_entities(image([B], halves, crowds=(1,))).counts()
    assert counts == {"found": 0, "merged": 0, "split": 0, "missed": 1}


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_found_are_those_that_average_recall_counts(seed):
    random = np.random.default_rng(seed)
    spans = [(start, start + random.integers(1, 15)) for start in random.integers(0, 25, 12)]
    rles = [strip(span) for span in spans]
    crowds = (0,) if seed % 2 else ()
    one = image(rles[5:], rles[:5], crowds=crowds)
    recall = ImageRecall(one, max_dets=(1, 3, 100), iou_thresholds=(0.5,)).pooled(np.array([0]))
    regular = 5 - len(crowds)
    for limit in (1, 3, 100):
        judged = judge_entities(one, max_entities=limit)
        assert judged.found.sum() == pytest.approx(regular * recall[f"AR@{limit}"])
        assert sum(judged.counts().values()) == regular


def test_no_mask_is_decoded(monkeypatch):
    monkeypatch.setattr(rle, "decode", None)
    monkeypatch.setattr(coco_mask, "decode", None)
    assert fates(image([strip((0, 4)), strip((4, 8))], [A])) == "s"
