"""The ``consistency`` command: agreement by hand, images of one file, and what is refused."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from cropformer import rle
from entitytransfer.cli import main
from entitytransfer.consistency import compare, read_annotator

COCO_TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
SIZE_HW = (100, 120)
NAMES = {0: "cat", 1: "dog", 2: "sky"}
Entity = tuple[int, np.ndarray]  # category, mask
Write = Callable[..., Path]


def box(*box_xyxy: int, size_hw: tuple[int, int] = SIZE_HW) -> np.ndarray:
    mask = np.zeros(size_hw, dtype=bool)
    left, top, right, bottom = box_xyxy
    mask[top:bottom, left:right] = True
    return mask


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an annotation file from the entities of each image."""

    def write(
        name: str,
        images: Mapping[int | str, list[Entity]],
        *,
        names: Mapping[int, str] = NAMES,
        size_hw: tuple[int, int] = SIZE_HW,
    ) -> Path:
        height, width = size_hw
        content = {
            "images": [{"id": i, "file_name": f"{i}.jpg", "height": height, "width": width} for i in images],
            "annotations": [
                {"id": f"{i}-{k}", "image_id": i, "category_id": category, "segmentation": rle.encode(mask)}
                for i, entities in images.items()
                for k, (category, mask) in enumerate(entities)
            ],
            "categories": [{"id": number, "name": text} for number, text in names.items()],
        }
        path = tmp_path / name
        path.write_text(json.dumps(content))
        return path

    return write


def consistency(first: Path, second: Path, *options: str) -> int:
    return main(["consistency", "--first", str(first), "--second", str(second), *options])


def test_agreement_by_hand(write, tmp_path, capsys):
    """One mask equal, one of IoU 0.72 with another category, one of IoU 0.4, and one that the second misses."""
    first = write(
        "a.json",
        {7: [(0, box(0, 0, 50, 50)), (1, box(50, 0, 100, 50)), (2, box(0, 50, 50, 100)), (2, box(60, 60, 90, 90))]},
    )
    second = write("b.json", {7: [(0, box(0, 0, 50, 50)), (2, box(50, 0, 86, 50)), (2, box(0, 50, 50, 70))]})
    assert consistency(first, second, "--json", str(tmp_path / "out.json")) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["images"] == 1
    assert found["entities"] == [4, 3]
    assert found["pairs"] == {"count": 2, "identical": 1, "agreeing": 1, "pairing": "iou", "category_accuracy": 0.5}
    # Up to IoU 0.70 the first two of three predictions are right: precision 1 up to recall 1/2 of 4 entities, or up
    # to 2/3 of 3; above, one: up to 1/4, or up to 1/3. Recall is read at 0, 0.01, ..., 1.
    assert found["first_as_truth"]["AP"] == pytest.approx((5 * 51 + 5 * 26) / 10 / 101)
    assert found["second_as_truth"]["AP"] == pytest.approx((5 * 67 + 5 * 34) / 10 / 101)
    assert found["first_as_truth"]["AP50"] == pytest.approx(51 / 101)


def test_what_is_printed(write, capsys):
    same = {1: [(0, box(0, 0, 50, 50)), (1, box(50, 0, 100, 50))]}
    first = write("a.json", same | {"only-a": []})
    second = write("b.json", same | {f"only-b{i:02d}": [] for i in range(12)})
    assert consistency(first, second) == 0
    lines = capsys.readouterr().out.splitlines()
    named = ", ".join(f"only-b{i:02d}.jpg" for i in range(10))
    assert lines == [
        "Images in both files: 1",
        f"{first}: entities in them 2; other images, left out: 1 (only-a.jpg)",
        f"{second}: entities in them 2; other images, left out: 12 ({named} and 2 more)",
        "",
        "Class-agnostic mask AP, in %, the other file's masks as predictions with score 1",
        "  first file as truth   AP 100.0  AP50 100.0  AP75 100.0",
        "  second file as truth  AP 100.0  AP50 100.0  AP75 100.0",
        "  paper, Table 1(a)     AP 90.6 91.2 92.1",
        "Category accuracy, in %, over 2 pairs of entities, 2 of them of identical masks; "
        "pairs: one to one with IoU > 0.5, the largest sum of IoUs (Hungarian)",
        "  both files            100.0",
        "  paper, Table 1(b)     95.4 94.8 95.2",
    ]


def test_images_of_one_file_do_not_count(write):
    shared = {1: [(0, box(0, 0, 50, 50))]}
    first = write("a.json", shared | {2: [(1, box(0, 0, 9, 9))]})
    second = write("b.json", {3: [(1, box(0, 0, 5, 5))]} | shared)
    found = compare(read_annotator(first), read_annotator(second))
    assert (found.only_first, found.only_second) == (("2.jpg",), ("3.jpg",))
    assert found.entities == (1, 1)
    assert (found.first_as_truth["AP"], found.second_as_truth["AP"]) == pytest.approx((1.0, 1.0))


def test_a_file_that_only_relabels(write):
    """Close masks are no pair where only identical ones are."""
    masks = [box(0, 0, 50, 50), box(50, 0, 100, 50), box(0, 50, 50, 100)]
    first = write("a.json", {1: list(zip((0, 1, 2), masks))})
    second = write("b.json", {1: list(zip((2, 1, 0), [masks[2], masks[1], box(0, 0, 50, 49)]))})
    annotators = read_annotator(first), read_annotator(second)
    same, close = (compare(*annotators, pairing=pairing).pairs for pairing in ("same", "iou"))
    assert (same.count, same.identical, same.agreeing) == (2, 2, 2)
    assert (close.count, close.identical, close.agreeing) == (3, 2, 3)


def test_overlapping_masks_are_paired_for_the_largest_sum(write):
    """Greedy pairing would take IoU 0.9 and leave 0.6; 0.8 and 0.89 are more together."""
    first = write("a.json", {1: [(0, box(0, 0, 100, 10)), (1, box(20, 0, 100, 10))]})
    second = write("b.json", {1: [(0, box(0, 0, 80, 10)), (1, box(10, 0, 100, 10))]})
    pairs = compare(read_annotator(first), read_annotator(second)).pairs
    assert (pairs.count, pairs.identical, pairs.agreeing) == (2, 0, 2)


def test_more_entities_than_coco_counts(write):
    cells = [(0, box(x, y, x + 8, y + 8)) for x in range(0, 120, 8) for y in range(0, 96, 8)]
    assert len(cells) > 100
    annotator = read_annotator(write("a.json", {1: cells}))
    assert compare(annotator, annotator).first_as_truth["AP"] == 1.0


def test_entities_without_pixel_are_no_entities(write):
    first = write("a.json", {1: [(0, box(0, 0, 50, 50)), (1, box(0, 0, 0, 0))]})
    found = compare(read_annotator(first), read_annotator(first))
    assert found.entities == (1, 1)
    assert found.pairs.count == 1
    assert found.first_as_truth["AR@100"] == 1.0


def test_no_pair_leaves_the_accuracy_undefined(write, capsys, tmp_path):
    first = write("a.json", {1: [(0, box(0, 0, 50, 50))]})
    second = write("b.json", {1: [(0, box(60, 60, 90, 90))]})
    assert consistency(first, second, "--json", str(tmp_path / "out.json")) == 0
    assert "  both files            undefined" in capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["pairs"]["category_accuracy"] is None
    assert found["first_as_truth"]["AP"] == 0.0
    assert found["first_as_truth"]["APl"] is None


def test_panoptic_files_against_instances(capsys, tmp_path):
    """The same photos twice: where nothing was painted over, both forms say the same."""
    panoptic, instances = COCO_TINY / "panoptic.json", COCO_TINY / "instances.json"
    annotator = read_annotator(panoptic)
    found = compare(annotator, annotator)
    assert found.first_as_truth["AP"] == found.pairs.accuracy == 1.0
    assert found.pairs.count == found.pairs.identical == sum(found.entities) // 2 > 20
    assert {category for sample in annotator.samples.values() for category in sample.labels()} > {1, 35}
    content = json.loads(instances.read_text())
    content["categories"] = json.loads(panoptic.read_text())["categories"]
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(content))
    assert consistency(panoptic, path, "--pairs", "same") == 0
    assert "identical masks only" in capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], first: Path, second: Path) -> str:
    assert consistency(first, second) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_what_cannot_be_compared(write, capsys, tmp_path):
    entities = [(0, box(0, 0, 50, 50))]
    first = write("a.json", {1: entities})
    missing = tmp_path / "none.json"
    assert refused(capsys, first, missing) == f"Cannot read the annotation file {missing}: No such file or directory."
    other = write("b.json", {2: entities})
    assert refused(capsys, first, other) == (
        f"{first} and {other} have no image id in common; give files of the same images."
    )
    other = write("b.json", {1: []})
    assert refused(capsys, first, other) == (
        f"{other} has no entity in the images of both files; there is nothing to compare."
    )
    other = write("b.json", {1: entities}, names=NAMES | {1: "wolf"})
    assert refused(capsys, first, other) == (
        f"Category 1 is 'dog' in {first} but 'wolf' in {other}; give files with the same categories."
    )
    other = write("b.json", {1: [(0, box(0, 0, 5, 5, size_hw=(10, 12)))]}, size_hw=(10, 12))
    assert refused(capsys, first, other) == (
        f"Image 1 has height and width (100, 120) in {first} but (10, 12) in {other}; "
        "give annotations of images of the same size."
    )


def test_files_that_are_no_annotations(write, capsys, tmp_path):
    first = write("a.json", {1: [(0, box(0, 0, 50, 50))]})
    other = tmp_path / "b.json"
    other.write_text('{"images": [], "annotations": []}')
    assert refused(capsys, first, other).startswith(f"{other} has no field 'categories'")
    other.write_text('{"images": [], "annotations": [3], "categories": []}')
    assert refused(capsys, first, other).startswith(f"{other} is not COCO-format JSON")
