"""Reading COCO-panoptic JSON with id PNGs: segments, crowds, large ids, and damaged files."""

import json

import numpy as np
import pytest
from PIL import Image

from cropformer import Cut, InputError, rle
from entitytransfer.readers.panoptic_png import read_id_map, read_panoptic

IDS = np.array([[0, 7, 7, 7], [300, 300, 7, 70000], [300, 300, 9, 70000]])


def segment(segment_id, **fields):
    return {"id": segment_id, "category_id": 4, "iscrowd": 0} | fields


def write(folder, segments, ids=IDS, **entry):
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    (folder / "png").mkdir()
    Image.fromarray(rgb).save(folder / "png" / "a.png")
    entry = {"image_id": "a", "file_name": "a.png", "segments_info": segments} | entry
    images = [{"id": "a", "file_name": "a.jpg", "height": 3, "width": 4}]
    (folder / "panoptic.json").write_text(json.dumps({"images": images, "annotations": [entry]}))


def read(folder, **options):
    return read_panoptic(folder / "panoptic.json", folder / "png", folder / "images", **options)


def test_ids_use_all_three_channels(tmp_path):
    write(tmp_path, [])
    np.testing.assert_array_equal(read_id_map(tmp_path / "png" / "a.png"), IDS)


def test_each_segment_is_one_entity(tmp_path):
    write(tmp_path, [segment(70000), segment(300), segment(7), segment(9)])
    (sample,) = read(tmp_path)
    expected = np.stack([i == IDS for i in (70000, 300, 7, 9)])
    np.testing.assert_array_equal(sample.entity_masks(), expected)
    assert sample.entity_masks().dtype == bool
    assert sample.labels().tolist() == [0, 0, 0, 0]
    assert (sample.image_id, sample.size_hw, sample.exhaustive) == ("a", (3, 4), True)
    assert sample.image_path == tmp_path / "images" / "a.jpg"


def test_runs_and_views_are_those_of_the_masks(tmp_path):
    write(tmp_path, [segment(70000), segment(5), segment(7)])
    (sample,) = read(tmp_path)
    assert sample.entity_rles() == [rle.encode(mask) for mask in sample.entity_masks()]
    cuts = [Cut((0, 0, 4, 3), (3, 4), flip=True), Cut((1, 0, 4, 2), (4, 6))]
    mirrored, enlarged = sample.cut_masks(cuts)
    np.testing.assert_array_equal(mirrored, sample.entity_masks()[:, :, ::-1])
    np.testing.assert_array_equal(enlarged, sample.entity_masks()[:, :2, 1:].repeat(2, axis=1).repeat(2, axis=2))


def test_crowds_are_dropped_and_labels_follow(tmp_path):
    write(tmp_path, [segment(7, category_id=2), segment(300, iscrowd=1), segment(9)])
    (sample,) = read(tmp_path, label_of={2: 0, 4: 1})
    np.testing.assert_array_equal(sample.entity_masks(), np.stack([IDS == 7, IDS == 9]))
    assert sample.labels().tolist() == [0, 1]


def test_the_truth_has_crowds_hidden_segments_and_the_stated_areas(tmp_path):
    crowd = segment(300, iscrowd=1, area=6.5, category_id=2)
    write(tmp_path, [crowd, segment(7, area=11), segment(5, area=3), segment(9)])
    (sample,) = read(tmp_path, label_of={2: 0, 4: 1})
    truth = sample.truth()
    assert truth.rles == [rle.encode(one == IDS) for one in (7, 5, 9, 300)]
    assert truth.labels.tolist() == [1, 1, 1, 0]
    assert truth.areas.tolist() == [11, 3, 1, 6.5]
    assert truth.is_crowd.tolist() == [False, False, False, True]
    assert sample.entity_rles() == truth.rles[:3]
    assert sample.labels().tolist() == [1, 1, 1]


def test_the_truth_of_entities_is_what_is_visible(tmp_path):
    write(tmp_path, [segment(7, area=11), segment(5, area=3)])
    (sample,) = read(tmp_path)
    truth = sample.truth()
    assert truth.rles == [rle.encode(IDS == 7)]
    assert truth.areas.tolist() == [(IDS == 7).sum()]
    assert truth.is_crowd.tolist() == [False]


def test_segment_painted_over_by_others_is_an_empty_mask(tmp_path):
    write(tmp_path, [segment(5), segment(9)])
    (sample,) = read(tmp_path)
    assert sample.entity_masks().sum(axis=(1, 2)).tolist() == [0, 1]


def test_image_without_segments(tmp_path):
    write(tmp_path, [])
    (sample,) = read(tmp_path)
    assert sample.entity_masks().shape == (0, 3, 4)


def test_png_of_another_size_is_refused(tmp_path):
    write(tmp_path, [segment(7)], ids=IDS[:2])
    (sample,) = read(tmp_path)
    with pytest.raises(InputError, match=r"a\.png has height and width \(2, 4\) but its image \(3, 4\)"):
        sample.entity_masks()


def test_missing_png_is_named(tmp_path):
    write(tmp_path, [segment(7)])
    (tmp_path / "png" / "a.png").unlink()
    (sample,) = read(tmp_path)
    with pytest.raises(InputError, match=r"a\.png"):
        sample.entity_masks()


def test_unlisted_image_is_refused(tmp_path):
    write(tmp_path, [], image_id="b")
    with pytest.raises(InputError, match="annotates image b but does not list it"):
        read(tmp_path)


def test_instance_json_is_refused(tmp_path):
    path = tmp_path / "panoptic.json"
    images = [{"id": 1, "file_name": "a.jpg", "height": 3, "width": 4}]
    path.write_text(json.dumps({"images": images, "annotations": [{"image_id": 1, "segmentation": []}]}))
    with pytest.raises(InputError, match=r"panoptic\.json is not COCO-panoptic JSON"):
        read(tmp_path)
