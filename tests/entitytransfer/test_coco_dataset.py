"""Opening a COCO-format folder: which annotation is taken, what counts as exhaustive, and what is missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.datasets import coco

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


@pytest.fixture
def root(tmp_path):
    return Path(shutil.copytree(TINY, tmp_path / "set"))


def test_every_photo_decodes_with_its_masks():
    samples = coco.read(TINY)
    assert len(samples) == 4
    for sample in samples:
        masks = sample.entity_masks()
        assert sample.read_frame().shape == (*sample.size_hw, 3)
        assert masks.shape == (len(sample.labels()), *sample.size_hw)
        assert masks.any(axis=(1, 2)).all()
        assert not sample.labels().any()


def test_panoptic_is_preferred_and_exhaustive(root):
    assert all(sample.exhaustive for sample in coco.read(root))
    assert not any(sample.exhaustive for sample in coco.read(root, panoptic="panoptic.json", exhaustive=False))


def test_instances_are_partial_unless_told(root):
    assert not any(sample.exhaustive for sample in coco.read(root, annotations="instances.json"))
    assert all(sample.exhaustive for sample in coco.read(root, annotations="instances.json", exhaustive=True))


def test_both_annotations_hold_the_same_entities(root):
    instances = coco.read(root, annotations="instances.json")
    for left, right in zip(coco.read(root), instances, strict=True):
        assert (left.image_id, left.image_path) == (right.image_id, right.image_path)
        np.testing.assert_array_equal(left.entity_masks(), right.entity_masks())


@pytest.mark.parametrize("name", ["instances.json", "entities.json"])
def test_instance_file_is_found_by_its_name(root, name):
    (root / "panoptic.json").unlink()
    if name != "instances.json":
        (root / "instances.json").rename(root / name)
    (first, *_) = coco.read(root)
    assert first.annotation.source == root / name


def test_absolute_paths_and_other_folders(root, tmp_path):
    images, annotations = tmp_path / "photos", tmp_path / "other.json"
    (root / "images").rename(images)
    (root / "instances.json").rename(annotations)
    for sample in coco.read(root, annotations=annotations, images=images):
        assert sample.read_frame().shape[2] == 3


def test_image_sizes_in_the_file_are_checked(root):
    content = json.loads((root / "panoptic.json").read_text())
    content["images"][0]["height"] += 1
    (root / "panoptic.json").write_text(json.dumps(content))
    (first, *_) = coco.read(root)
    with pytest.raises(InputError, match="its annotation says"):
        first.read_frame()
    with pytest.raises(InputError, match="put back the original PNG"):
        first.entity_masks()


@pytest.mark.parametrize("missing", ["images", "panoptic"])
def test_missing_folder_is_named(root, missing):
    shutil.rmtree(root / missing)
    with pytest.raises(InputError, match=f"no folder .*{missing}; .* with {missing}="):
        coco.read(root)


def test_folder_without_annotations_says_what_it_looked_for(root):
    for path in root.glob("*.json"):
        path.unlink()
    with pytest.raises(InputError, match=r"none of panoptic\.json, instances\.json, entities\.json"):
        coco.read(root)


def test_two_annotations_are_refused(root):
    with pytest.raises(InputError, match="not both"):
        coco.read(root, annotations="instances.json", panoptic="panoptic.json")
