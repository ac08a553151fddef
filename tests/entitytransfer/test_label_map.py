"""Label PNGs: one region for each class, the ignored value nowhere, and what is refused."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import Cut, InputError, cut_masks, rle
from entitytransfer.readers.label_map import LabelledImages, LabelRegions

LABELS = np.array([[3, 3, 255, 0, 3], [3, 7, 255, 0, 0], [7, 7, 255, 255, 3]], dtype=np.uint8)


@pytest.fixture
def regions(tmp_path) -> LabelRegions:
    Image.fromarray(LABELS).save(tmp_path / "a.png")
    return LabelRegions(tmp_path / "a.png", LABELS.shape, classes=8)


def test_each_class_is_one_region_even_if_disconnected(regions):
    assert regions.labels().tolist() == [0, 3, 7]
    assert regions.labels().dtype == np.int64
    np.testing.assert_array_equal(regions.masks(), [LABELS == 0, LABELS == 3, LABELS == 7])


def test_rles_and_cuts_are_those_of_the_masks(regions):
    for encoded, mask in zip(regions.rles(), regions.masks(), strict=True):
        np.testing.assert_array_equal(rle.decode(encoded), mask)
    for flip in (False, True):
        cut = Cut((1, 0, 5, 3), (5, 7), (1, 1, 6, 5), flip=flip)
        np.testing.assert_array_equal(regions.cut(cut), cut_masks(regions.masks(), cut))


def test_the_truth_is_every_region_with_its_pixels(regions):
    truth = regions.truth()
    assert truth.rles == regions.rles()
    assert truth.labels.tolist() == [0, 3, 7]
    assert truth.areas.tolist() == [3, 5, 3]
    assert not truth.is_crowd.any()


def test_classes_may_be_stored_from_one_with_zero_ignored(tmp_path, regions):
    Image.fromarray(LABELS + np.uint8(1)).save(tmp_path / "raw.png")
    raw = LabelRegions(tmp_path / "raw.png", LABELS.shape, classes=8, ignored=0, first=1)
    assert raw.labels().tolist() == regions.labels().tolist()
    np.testing.assert_array_equal(raw.masks(), regions.masks())
    np.testing.assert_array_equal(raw.label_map(), LABELS)
    narrow = LabelRegions(tmp_path / "raw.png", LABELS.shape, classes=7, ignored=0, first=1)
    with pytest.raises(InputError, match="holds the value 8, but the classes are 1 to 7 and 0 is ignored"):
        narrow.labels()


def test_an_image_without_classes_has_no_region(tmp_path):
    Image.new("L", (4, 3), 255).save(tmp_path / "a.png")
    regions = LabelRegions(tmp_path / "a.png", (3, 4), classes=150)
    assert regions.masks().shape == (0, 3, 4)
    assert regions.labels().shape == (0,)
    assert regions.rles() == []


def test_of_a_palette_the_numbers_count(tmp_path):
    image = Image.fromarray(LABELS).convert("P")
    image.putdata(LABELS.reshape(-1).tolist())
    image.save(tmp_path / "a.png")
    assert LabelRegions(tmp_path / "a.png", LABELS.shape, classes=8).labels().tolist() == [0, 3, 7]


def test_samples_take_their_size_from_the_png(regions):
    images = [Path("photos/one.jpg"), Path("photos/two.jpg")]
    samples = LabelledImages([(image, regions.png_path) for image in images], partial(LabelRegions, classes=8))
    assert [sample.image_id for sample in samples] == ["one", "two"]
    assert samples[-1].image_path == images[1]
    assert samples[0].size_hw == (3, 5)
    assert samples[0].annotation == regions
    assert [sample.image_id for sample in samples[1:]] == ["two"]
    with pytest.raises(IndexError):
        samples[2]


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (Image.new("L", (5, 3), 8), "holds the value 8, but the classes are 0 to 7 and 255 is ignored"),
        (Image.new("L", (5, 4)), r"has height and width \(4, 5\) but its image \(3, 5\)"),
        (Image.new("RGB", (5, 3)), "has the mode RGB, but a label map has one byte for each pixel"),
    ],
)
def test_what_is_no_label_map_is_refused(tmp_path, image, sentence):
    image.save(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"a.png {sentence}"):
        LabelRegions(tmp_path / "a.png", (3, 5), classes=8).masks()


@pytest.mark.parametrize("content", [None, b"", b"no PNG"])
def test_a_png_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "a.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"Cannot read the label map .*a\.png"):
        LabelRegions(path, (3, 5), classes=8).labels()
    with pytest.raises(InputError, match=r"Cannot read the label map .*a\.png"):
        LabelledImages([(Path("a.jpg"), path)], partial(LabelRegions, classes=8))[0]
