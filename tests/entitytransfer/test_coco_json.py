"""Reading COCO-instance JSON: every encoding of a mask, crowds, ids, and damaged files."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from cropformer import Cut, InputError, rle
from entitytransfer.classes import Classes
from entitytransfer.readers.coco_json import read_classes, read_coco
from entitytransfer.readers.segmentations import encode_segmentation

SIZE_HW = (6, 8)
MASK = np.zeros(SIZE_HW, dtype=bool)
MASK[1:4, 2:7] = True
POLYGON = [2, 1, 7, 1, 7, 4, 2, 4]
RUNS = [13, 3, 3, 3, 3, 3, 3, 3, 3, 3, 8]  # MASK column by column: 2 columns and a pixel, then 3 of each 6


def instance(segmentation, **fields):
    defaults = {"id": 1, "image_id": 7, "category_id": 3, "iscrowd": 0}
    return defaults | {"segmentation": segmentation} | fields


def write(folder, annotations, image_id=7, **image):
    path = folder / "instances.json"
    images = [{"id": image_id, "file_name": "a.png", "height": SIZE_HW[0], "width": SIZE_HW[1]} | image]
    path.write_text(json.dumps({"images": images, "annotations": annotations}))
    return path


def read_masks(folder, *annotations):
    (sample,) = read_coco(write(folder, list(annotations)), folder)
    return sample.entity_masks()


@pytest.mark.parametrize(
    "segmentation",
    [[POLYGON], {"size": [6, 8], "counts": RUNS}, rle.encode(MASK), [POLYGON, [0, 0, 5, 5]]],
    ids=["polygon", "runs", "compressed", "a polygon and a line"],
)
def test_every_encoding_gives_the_same_mask(tmp_path, segmentation):
    np.testing.assert_array_equal(read_masks(tmp_path, instance(segmentation)), MASK[None])


def test_two_polygons_are_one_mask(tmp_path):
    (mask,) = read_masks(tmp_path, instance([[0, 0, 2, 0, 2, 2, 0, 2], [4, 0, 8, 0, 8, 2, 4, 2]]))
    assert mask.sum() == 4 + 8


def test_overlapping_instances_stay_whole(tmp_path):
    masks = read_masks(tmp_path, instance([POLYGON]), instance(rle.encode(MASK), id=2))
    assert masks.shape == (2, *SIZE_HW)
    np.testing.assert_array_equal(masks[0], masks[1])


def test_crowds_are_dropped(tmp_path):
    crowd = instance({"size": [6, 8], "counts": RUNS}, iscrowd=1, id=2)
    assert len(read_masks(tmp_path, instance([POLYGON]), crowd)) == 1


def test_the_truth_has_the_crowds_and_the_stated_areas(tmp_path):
    crowd = instance({"size": [6, 8], "counts": RUNS}, iscrowd=1, id=1, area=9.5, category_id=4)
    entries = [
        crowd,
        instance([POLYGON], id=2, area=7),
        instance([POLYGON], id=3),
        instance([POLYGON], id=4, area=None),
    ]
    (sample,) = read_coco(write(tmp_path, entries), tmp_path, label_of={3: 0, 4: 1})
    truth = sample.truth()
    assert truth.rles == [rle.encode(MASK)] * 4
    assert truth.labels.tolist() == [0, 0, 0, 1]
    assert truth.areas.tolist() == [7, 15, 15, 9.5]
    assert truth.is_crowd.tolist() == [False, False, False, True]
    assert (truth.labels.dtype, truth.areas.dtype, truth.is_crowd.dtype) == (np.int64, np.float64, bool)
    assert sample.labels().tolist() == [0, 0, 0]
    assert len(sample.entity_rles()) == len(sample.entity_masks()) == 3
    assert sample.cut_masks([Cut((0, 0, 8, 6), (6, 8))])[0].shape == (3, *SIZE_HW)


def test_the_truth_refuses_a_damaged_crowd_that_training_does_not_see(tmp_path):
    crowd = instance({"size": [6, 8], "counts": "P1"}, iscrowd=1, id=41)
    (sample,) = read_coco(write(tmp_path, [crowd, instance([POLYGON])]), tmp_path)
    assert len(sample.entity_masks()) == 1
    with pytest.raises(InputError, match=r"instances\.json, annotation 41: "):
        sample.truth()


def test_an_image_without_annotation_has_an_empty_truth(tmp_path):
    (sample,) = read_coco(write(tmp_path, []), tmp_path)
    truth = sample.truth()
    assert truth.rles == []
    assert truth.labels.shape == truth.areas.shape == truth.is_crowd.shape == (0,)


def test_lvis_names_a_file_at_the_end_of_its_address(tmp_path):
    path = write(tmp_path, [], coco_url="http://images.cocodataset.org/train2017/000000000009.jpg")
    assert read_coco(path, tmp_path)[0].image_path == tmp_path / "a.png"
    content = json.loads(path.read_text())
    del content["images"][0]["file_name"]
    path.write_text(json.dumps(content))
    assert read_coco(path, tmp_path)[0].image_path == tmp_path / "train2017" / "000000000009.jpg"


def test_classes_are_the_listed_categories_in_the_order_of_their_ids(tmp_path):
    path = write(tmp_path, [])
    content = json.loads(path.read_text())
    content["categories"] = [{"id": 9, "name": "sky", "isthing": 0}, {"id": 2}, {"id": 4, "name": "cat", "isthing": 1}]
    path.write_text(json.dumps(content))
    classes = read_classes(path)
    assert classes == Classes(names=("2", "cat", "sky"), category_ids=(2, 4, 9), is_thing=(True, True, False))
    assert classes.labels() == {2: 0, 4: 1, 9: 2}


def test_lvis_style_annotations_without_iscrowd_are_instances(tmp_path):
    annotation = instance([POLYGON])
    del annotation["iscrowd"]
    assert len(read_masks(tmp_path, annotation)) == 1


def test_image_without_annotation_is_an_empty_sample(tmp_path):
    (sample,) = read_coco(write(tmp_path, []), tmp_path)
    assert sample.entity_masks().shape == (0, *SIZE_HW)
    assert sample.labels().shape == (0,)


def test_string_ids_and_labels(tmp_path):
    path = write(tmp_path, [instance([POLYGON], image_id="x/1")], image_id="x/1")
    (agnostic,) = read_coco(path, tmp_path)
    (classed,) = read_coco(path, tmp_path, label_of={3: 5})
    assert agnostic.image_id == "x/1"
    assert (agnostic.labels().tolist(), classed.labels().tolist()) == ([0], [5])
    assert classed.labels().dtype == np.int64


def test_samples_survive_pickling(tmp_path):
    (sample,) = read_coco(write(tmp_path, [instance([POLYGON])]), tmp_path, exhaustive=True)
    copy = pickle.loads(pickle.dumps(sample))
    assert copy == sample
    np.testing.assert_array_equal(copy.entity_masks(), MASK[None])


def test_frame_is_the_image(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, size=(*SIZE_HW, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (sample,) = read_coco(write(tmp_path, []), tmp_path)
    np.testing.assert_array_equal(sample.read_frame(), pixels)
    (frame,) = sample.frames
    np.testing.assert_array_equal(frame(), pixels)
    with pytest.raises(IndexError):
        sample.read_frame(1)


def test_image_of_another_size_is_refused(tmp_path):
    Image.new("RGB", (3, 3)).save(tmp_path / "a.png")
    (sample,) = read_coco(write(tmp_path, []), tmp_path)
    with pytest.raises(InputError, match=r"a\.png has height and width \(3, 3\) .* \(6, 8\)"):
        sample.read_frame()


@pytest.mark.parametrize(
    ("segmentation", "problem"),
    [
        ({"size": [8, 6], "counts": RUNS}, "size"),
        ({"size": [6, 8], "counts": RUNS[:-1]}, "add up"),
        ({"size": [6, 8], "counts": [-1, 49]}, "add up"),
        ({"size": [6, 8], "counts": "P1"}, "add up|compressed"),
        ({"size": 6, "counts": RUNS}, "size"),
        ({"size": [6, 8], "counts": 48}, "text or a list of runs"),
        ({"size": [6, 8], "counts": ["a", 48]}, "add up"),
        ({"counts": RUNS}, "polygons or an RLE"),
        (None, "polygons or an RLE"),
        ([], "three x, y pairs"),
        ([[1, 1, 5, 5]], "three x, y pairs"),
        ([[1, 1, 5, 5, 3]], "x, y pairs"),
        ([["a", 1, 5, 5, 3, 3]], "x, y pairs"),
        ([[1, 1, float("nan"), 5, 3, 3]], "outside its image or is not finite"),
        ([[1, 1, 1e9, 5, 3, 3]], "outside its image"),
    ],
)
def test_damaged_segmentation_names_file_and_annotation(tmp_path, segmentation, problem):
    with pytest.raises(InputError, match=rf"instances\.json, annotation 41: .*({problem})"):
        read_masks(tmp_path, instance(segmentation, id=41))


@pytest.mark.parametrize("read", ["entity_rles", "cut"])
def test_every_way_to_the_masks_refuses_a_damaged_one(tmp_path, read):
    (sample,) = read_coco(write(tmp_path, [instance({"size": [6, 8], "counts": "P1"}, id=41)]), tmp_path)
    with pytest.raises(InputError, match=r"instances\.json, annotation 41: "):
        sample.entity_rles() if read == "entity_rles" else sample.cut_masks([Cut((0, 0, 8, 6), (3, 4))])


def test_damage_concerns_its_own_image_only(tmp_path):
    path = write(tmp_path, [instance([POLYGON]), instance(None, image_id=8)])
    content = json.loads(path.read_text())
    content["images"].append(content["images"][0] | {"id": 8})
    path.write_text(json.dumps(content))
    sound, _ = read_coco(path, tmp_path)
    np.testing.assert_array_equal(sound.entity_masks(), MASK[None])


def test_views_and_runs_are_read_without_the_whole(tmp_path):
    Image.new("RGB", SIZE_HW[::-1], "teal").save(tmp_path / "a.png")
    (sample,) = read_coco(write(tmp_path, [instance([POLYGON])]), tmp_path)
    cuts = [Cut((0, 0, 8, 6), (6, 8)), Cut((2, 1, 7, 4), (3, 5), flip=True)]
    assert sample.entity_rles() == [rle.encode(MASK)]
    whole, part = sample.cut_masks(cuts)
    np.testing.assert_array_equal(whole, MASK[None])
    assert part.all()
    assert [view.shape for view in sample.read_views(cuts)] == [(6, 8, 3), (3, 5, 3)]


def test_reduced_images_of_another_size_are_refused(tmp_path):
    Image.new("RGB", (7, 6)).save(tmp_path / "a.jpg")
    (sample,) = read_coco(write(tmp_path, [], file_name="a.jpg"), tmp_path)
    with pytest.raises(InputError, match=r"a\.jpg has height and width \(6, 7\) .* \(6, 8\)"):
        sample.read_views([Cut((0, 0, 8, 6), (3, 4))])


def test_categories_without_a_label_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"instances of category 3, which is none of the 2 known"):
        read_coco(write(tmp_path, [instance([POLYGON])]), tmp_path, label_of={1: 0, 2: 1})


def test_annotation_of_an_unlisted_image_is_refused(tmp_path):
    with pytest.raises(InputError, match="annotates image 8 but does not list it"):
        read_coco(write(tmp_path, [instance([POLYGON], image_id=8)]), tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "not valid JSON"),
        ("[]", "no field 'images'"),
        ('{"images": []}', "no field 'annotations'"),
        ('{"images": [{"id": 1}], "annotations": []}', "not COCO-instance JSON, KeyError\\('height'\\)"),
        ('{"images": [3], "annotations": []}', "not COCO-instance JSON"),
        ('{"images": [{"id": 1, "height": "a", "width": 1}], "annotations": []}', "not COCO-instance JSON, ValueError"),
    ],
)
def test_wrong_files_are_refused(tmp_path, text, problem):
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"instances\.json .*{problem}"):
        read_coco(path, tmp_path)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json: No such file"):
        read_coco(tmp_path / "nowhere.json", tmp_path)


def test_polygon_may_leave_the_image_a_little():
    mask = rle.decode(encode_segmentation([[-2, -2, 4, -2, 4, 3, -2, 3]], SIZE_HW))
    expected = np.zeros(SIZE_HW, dtype=bool)
    expected[:3, :4] = True
    np.testing.assert_array_equal(mask, expected)
