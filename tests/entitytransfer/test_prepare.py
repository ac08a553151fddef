"""The prepare command: equal to what the official scripts made, resumed where it stopped, and what it refuses."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from entitytransfer.cli import main
from entitytransfer.preparation.ade20k import segment_ids
from entitytransfer.readers.panoptic_png import read_id_map

from .ade20k_tree import make_ade20k_tree

OFFICIAL = Path(__file__).parents[1] / "data" / "metrics" / "ade20k" / "ADEChallengeData2016"
NAMES = ("ade20k_panoptic_val.json", "ade20k_instance_val.json", "ade20k_entity_val.json")


def prepare(root: Path, *more: str, workers: int = 1) -> int:
    return main(["prepare", "dataset=ade20k", f"root={root}", *more, "--workers", str(workers)])


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def made(home: Path) -> dict[str, bytes]:
    """Every prepared file."""
    files = [*home.glob("ade20k_*.json"), *home.glob("ade20k_*/*"), *home.glob("annotations_detectron2/*/*")]
    return {str(file.relative_to(home)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """The official example, prepared by the command."""
    root = tmp_path_factory.mktemp("ade")
    for name in ("images", "annotations", "annotations_instance"):
        shutil.copytree(OFFICIAL / name, root / OFFICIAL.name / name)
    assert prepare(root, "split=validation", workers=2) == 0
    return root / OFFICIAL.name


def test_semantic_maps_equal_the_official_ones(home):
    folder = Path("annotations_detectron2/validation")
    names = [path.name for path in sorted((OFFICIAL / folder).iterdir())]
    assert [path.name for path in sorted((home / folder).iterdir())] == names
    for name in names:
        with Image.open(home / folder / name) as mine, Image.open(OFFICIAL / folder / name) as theirs:
            assert mine.mode == theirs.mode
            np.testing.assert_array_equal(np.asarray(mine), np.asarray(theirs))


def test_panoptic_files_equal_the_official_ones_but_for_random_colours(home):
    mine, theirs = load(home / NAMES[0]), load(OFFICIAL / NAMES[0])
    assert list(mine) == list(theirs)
    assert mine["images"] == theirs["images"]
    for category in theirs["categories"]:
        category["name"] = category["name"].strip()  # one of the official names ends in a blank
    assert mine["categories"] == theirs["categories"]
    for one, other in zip(mine["annotations"], theirs["annotations"], strict=True):
        assert {k: v for k, v in one.items() if k != "segments_info"} == {
            k: v for k, v in other.items() if k != "segments_info"
        }
        my_ids, their_ids = (
            read_id_map(folder / "ade20k_panoptic_val" / one["file_name"]) for folder in (home, OFFICIAL)
        )
        seen = set()
        for segment, like in zip(one["segments_info"], other["segments_info"], strict=True):
            assert segment | {"id": 0} == like | {"id": 0}
            np.testing.assert_array_equal(my_ids == segment["id"], their_ids == like["id"])
            if segment["category_id"] not in seen:  # stuff, and the first of a class of things, have its colour
                assert segment["id"] == like["id"]
            seen.add(segment["category_id"])
        np.testing.assert_array_equal(my_ids == 0, their_ids == 0)


@pytest.mark.parametrize("name", NAMES[1:])
def test_instance_and_entity_files_equal_the_official_ones(home, name):
    mine, theirs = load(home / name), load(OFFICIAL / name)
    assert mine == theirs
    assert list(mine) == list(theirs)


def test_a_second_run_changes_nothing(home, capsys):
    before = {path: (home / path).stat().st_mtime_ns for path in made(home)}
    assert prepare(home, "split=val") == 0
    assert capsys.readouterr().out == "validation: 4 images are prepared already\n"
    assert {path: (home / path).stat().st_mtime_ns for path in made(home)} == before


def test_an_interrupted_run_is_resumed(tmp_path, capsys):
    root = make_ade20k_tree(tmp_path)
    home = root / OFFICIAL.name
    assert prepare(root) == 0
    assert capsys.readouterr().out == (
        "training: 4 images, made semantic, panoptic, instance, entity\n"
        "validation: 2 images, made semantic, panoptic, instance, entity\n"
    )
    whole = made(home)
    assert len(whole) == 6 + 2 * (4 + 2)
    (home / "ade20k_panoptic_train.json").unlink()
    kept, lost, half = sorted((home / "ade20k_panoptic_train").iterdir())[:3]
    lost.unlink()
    half.write_bytes(half.read_bytes()[:100])
    for path in (home / "annotations_detectron2/validation").iterdir():
        path.unlink()
    os.utime(kept, ns=(0, 0))
    assert prepare(root, workers=2) == 0
    assert capsys.readouterr().out == "training: 4 images, made panoptic\nvalidation: 2 images, made semantic\n"
    assert made(home) == whole
    assert kept.stat().st_mtime_ns == 0


def test_ids_are_distinct_and_their_own():
    ids = segment_ids([2, 0, *[12] * 200, 19, *[12] * 55, 19])
    assert len(set(ids)) == len(ids)
    assert 0 < min(ids) <= max(ids) < 2**24
    assert ids == segment_ids([2, 0, *[12] * 200, 19, *[12] * 55, 19])
    assert ids[:3] == [6 + 230 * 256 + 230 * 65536, 120 + 120 * 256 + 120 * 65536, 150 + 5 * 256 + 61 * 65536]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["dataset=ade20k", "root={}/nowhere"], "holds no ADE20K"),
        (["dataset=ade20k", "root={}", "split=test"], "has no split=test"),
        (["dataset=coco", "root={}"], "The dataset coco has no function prepare"),
        (["dataset=ade20k", "root={}", "task=entity"], "has no setting task=; choose from split"),
    ],
)
def test_what_makes_no_sense_is_bad_input(tmp_path, capsys, settings, sentence):
    root = make_ade20k_tree(tmp_path, photos=1, val=1)
    assert main(["prepare", *(setting.format(root) for setting in settings)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sentence in line


def test_a_damaged_map_is_bad_input_and_leaves_no_json(tmp_path, capsys):
    root = make_ade20k_tree(tmp_path, photos=2, val=1)
    Image.new("L", (240, 160), 200).save(root / OFFICIAL.name / "annotations/training/ADE_train_00000002.png")
    assert prepare(root, "split=training") == 2
    assert "ADE_train_00000002.png holds the value 200" in capsys.readouterr().err
    assert not list((root / OFFICIAL.name).glob("*.json"))
