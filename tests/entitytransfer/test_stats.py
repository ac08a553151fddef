"""The ``stats`` command: hand-computed statistics, what it prints and writes, and what it refuses."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import rle
from entitytransfer import console
from entitytransfer.cli import main
from entitytransfer.datasets import coco
from entitytransfer.shapes import measure_shape
from entitytransfer.stats import DEFINITIONS, Statistics, measure_set, summarise

from .entityseg_tree import make_entityseg_tree

COCO_TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


def box(size_hw: tuple[int, int], *box_xyxy: int) -> np.ndarray:
    mask = np.zeros(size_hw, dtype=bool)
    left, top, right, bottom = box_xyxy
    mask[top:bottom, left:right] = True
    return mask


def write_set(root: Path, images: list[tuple[tuple[int, int], list[np.ndarray]]]) -> Path:
    """A COCO-format folder whose images have these sizes and masks; no photo is needed."""
    (root / "images").mkdir(parents=True)
    annotations = [
        {"id": f"{i}-{k}", "image_id": i, "category_id": 1, "iscrowd": 0, "segmentation": rle.encode(mask)}
        for i, (_, masks) in enumerate(images)
        for k, mask in enumerate(masks)
    ]
    listed = [
        {"id": i, "file_name": f"{i}.jpg", "height": height, "width": width}
        for i, ((height, width), _) in enumerate(images)
    ]
    content = {"images": listed, "annotations": annotations, "categories": [{"id": 1, "name": "entity"}]}
    (root / "instances.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """An image of 40x90 pixels with an L, a box that covers part of it and nothing; an empty one of 160x40."""
    size_hw = (40, 90)
    corner = box(size_hw, 0, 0, 20, 40) | box(size_hw, 0, 20, 60, 40)
    masks = [corner, box(size_hw, 40, 20, 80, 40), np.zeros(size_hw, dtype=bool)]
    return write_set(tmp_path / "boxes", [(size_hw, masks), ((160, 40), [])])


def test_statistics_by_hand(boxes, tmp_path, capsys):
    assert main(["stats", "dataset=coco", f"root={boxes}", "--workers", "1", "--json", str(tmp_path / "a.json")]) == 0
    found = json.loads((tmp_path / "a.json").read_text())["statistics"]
    ell_area, ell_hull = 20 * 40 + 40 * 20, 60 * 40 - 20 * 40 / 2
    simplicity = [math.sqrt(4 * math.pi * area) / perimeter for area, perimeter in ((ell_area, 200), (800, 120))]
    assert found == {
        "images": 2,
        "entities": 2,
        "entities_without_pixel": 1,
        "image_resolution": (60 + 80) / 2,
        "mean_height": 100.0,
        "mean_width": 65.0,
        "mean_pixels": (3600 + 6400) / 2,
        "entities_mean": 1.0,
        "entities_max": 2,
        "complexity": pytest.approx((ell_area / ell_hull + 1) / 2),
        "simplicity": pytest.approx(np.mean(simplicity), rel=0.03),
        "valid_area": pytest.approx((ell_area + 20 * 20) / 3600 / 2),
    }


def test_every_number_is_printed_with_its_definition(boxes, capsys):
    assert main(["stats", "dataset=coco", f"root={boxes}", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "Dataset"
    assert lines[1].split() == ["coco", "70.0", "1.0", "2", *lines[1].split()[4:6], "0.278"]
    assert lines[4].split() == ["EntitySeg", "(paper)", "2700.7", "18.1", "236", "0.719", "0.538", "0.999"]
    assert {line.split(" = ")[0]: line.split(": ", 1)[1] for line in lines[6:]} == DEFINITIONS
    assert set(Statistics.__dataclass_fields__) == set(DEFINITIONS)


def test_real_panoptic_photos(capsys):
    """Every number from decoded masks."""
    samples = coco.read(COCO_TINY)
    masks = [mask for sample in samples for mask in sample.entity_masks() if mask.any()]
    shapes = [measure_shape(rle.encode(mask)) for mask in masks]
    found = summarise(measure_set(samples, workers=1))
    assert found.entities == len(masks) > 20
    assert found.complexity == pytest.approx(np.mean([shape.convexity for shape in shapes]))
    assert found.simplicity == pytest.approx(np.mean([shape.simplicity for shape in shapes]))
    assert found.valid_area == pytest.approx(np.mean([sample.entity_masks().any(axis=0).mean() for sample in samples]))


def test_the_number_of_workers_changes_nothing():
    samples = coco.read(COCO_TINY)
    alone, shared = (measure_set(samples, workers=workers) for workers in (1, 2))
    for name, values in vars(alone).items():
        np.testing.assert_array_equal(getattr(shared, name), values)


def test_a_tree_of_entityseg(tmp_path, capsys):
    root = make_entityseg_tree(tmp_path)
    numbers = {}
    for resolution in ("high", "low"):
        path = tmp_path / f"{resolution}.json"
        settings = ["dataset=entityseg", f"root={root}", "split=val", f"resolution={resolution}"]
        assert main(["stats", *settings, "--workers", "1", "--json", str(path)]) == 0
        numbers[resolution] = json.loads(path.read_text())["statistics"]
    assert numbers["high"]["image_resolution"] == pytest.approx(math.sqrt(96 * 128))
    assert numbers["low"]["image_resolution"] == pytest.approx(math.sqrt(48 * 64))
    assert numbers["low"]["entities"] == numbers["high"]["entities"]


def test_out_gets_numbers_and_plots(tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert main(["stats", "dataset=coco", f"root={COCO_TINY}", "--workers", "1", "--out", str(out)]) == 0
    assert {path.name for path in out.iterdir()} == {"stats.json", "stats.png"}
    content = json.loads((out / "stats.json").read_text())
    assert content["settings"] == {"dataset": "coco", "root": str(COCO_TINY)}
    assert content["definitions"] == DEFINITIONS
    pixels = np.asarray(Image.open(out / "stats.png").convert("RGB"))
    quarters = [half for rows in np.array_split(pixels, 2) for half in np.array_split(rows, 2, axis=1)]
    assert all((quarter == (0x3B, 0x6E, 0xA5)).all(axis=-1).sum() > 500 for quarter in quarters)


def test_progress_is_told_where_no_terminal_is(capsys, monkeypatch):
    monkeypatch.setattr(console, "_PLAIN_INTERVAL_S", 0.0)
    measure_set(coco.read(COCO_TINY), workers=1)
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"{number} of 4 images" for number in (1, 2, 3, 4)
    ]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["stats", "--workers", "1", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_plots_without_matplotlib(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = refused(capsys, "dataset=coco", f"root={COCO_TINY}", "--out", str(tmp_path / "out"))
    assert line == "The plots need matplotlib; run `pip install 'cropformer[plots]'`."
    assert not (tmp_path / "out").exists()
    assert main(["stats", "dataset=coco", f"root={COCO_TINY}", "--workers", "1"]) == 0


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path, capsys):
    (tmp_path / "file").touch()
    line = refused(capsys, "dataset=coco", "root=nowhere", "--json", str(tmp_path / "file" / "a.json"))
    assert line == f"Cannot write to the folder {tmp_path}/file: File exists; choose another folder."


def test_settings_that_make_no_sense(capsys):
    assert refused(capsys, "root=x").startswith("Say dataset=..., as in")
    assert refused(capsys, "dataset=coco").startswith("Say root=..., as in")
    assert refused(capsys, "dataset=cocoa", "root=x").startswith("There is no dataset 'cocoa'")
    assert "has no setting splt=" in refused(capsys, "dataset=coco", "root=x", "splt=val")


def test_a_setting_must_have_a_value(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["stats", "coco"])
    assert stop.value.code == 2
    assert "give key=value, such as dataset=entityseg, not 'coco'" in capsys.readouterr().err


def test_sets_with_nothing_to_measure(tmp_path, capsys):
    assert refused(capsys, "dataset=coco", f"root={tmp_path / 'none'}").startswith("There is no folder")
    line = refused(capsys, "dataset=coco", f"root={write_set(tmp_path / 'a', [])}")
    assert line == "The dataset has no image, so there is nothing to measure; check root= and split=."
    line = refused(capsys, "dataset=coco", f"root={write_set(tmp_path / 'b', [((5, 5), [])] * 3)}")
    assert line == "None of the 3 images has an entity to measure; check the annotation file."


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_damaged_annotation_is_one_sentence(boxes, capsys, workers):
    path = boxes / "instances.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["segmentation"]["counts"] = "5"
    path.write_text(json.dumps(content))
    line = refused(capsys, "dataset=coco", f"root={boxes}", "--workers", workers)
    assert line.startswith(f'{path}, annotation "0-1": The runs of an RLE do not add up')
