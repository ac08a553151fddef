"""Ground truth as folders of PNGs: which pixels are which object, what images are called, what is said of damage."""

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError, rle
from entitytransfer.readers.mask_folder import read_camo, read_fss, read_ocid


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    image.save(path)


def stripes(*labels, dtype=np.uint8):
    return np.repeat(np.array([labels], dtype=dtype), 4, axis=0)  # [4,W]


def masks_of(truth, image_id):
    number = truth.image_numbers[image_id]
    return [rle.decode(one["segmentation"])[0].tolist() for one in truth.annotations(range(number, number + 1))]


@pytest.mark.parametrize("supports, floor, table", [(False, [2, 3], [3]), (True, [1, 2, 3], [1, 2, 3])])
@pytest.mark.parametrize("dtype, mode", [(np.uint8, "P"), (np.uint16, None)])
def test_ocid_drops_what_objects_stand_on(tmp_path, supports, floor, table, dtype, mode):
    root = tmp_path / "table" / "OCID-dataset"  # the name of a folder above must not matter
    labels = stripes(0, 1, 2, 2, 3, dtype=dtype)
    save(root / "ARID20/floor/seq01/label/result_1.png", labels, mode)
    save(root / "ARID20/table/seq02/label/result_1.png", labels, mode)
    truth = read_ocid(root, supports=supports)
    assert masks_of(truth, "ARID20/floor/seq01/result_1.png") == [(labels[0] == one).tolist() for one in floor]
    assert masks_of(truth, "ARID20/table/seq02/result_1.png") == [(labels[0] == one).tolist() for one in table]


def test_camo_has_one_mask_for_an_image_called_by_stem_or_number(tmp_path):
    save(tmp_path / "GT/camourflage_00007.png", stripes(0, 255, 128, 129))
    save(tmp_path / "GT/camourflage_00012.png", stripes(0, 0, 0))
    truth = read_camo(tmp_path)
    assert masks_of(truth, 7) == masks_of(truth, "camourflage_00007") == [[False, True, False, True]]
    assert masks_of(truth, 12) == []
    assert [truth.size_hw(number) for number in (1, 2)] == [(4, 4), (4, 3)]


def test_fss_keeps_components_together_and_reads_the_list(tmp_path):
    pixels = np.repeat(stripes(255, 0, 255)[..., None], 3, axis=-1)
    for name in ("bus", "cat"):
        save(tmp_path / "fewshot_data" / name / "1.png", pixels)
    (tmp_path / "fss_test_set.txt").write_text("bus")
    assert list(read_fss(tmp_path, split="test").image_numbers) == ["bus/1"]
    every = read_fss(tmp_path, split="all")
    assert list(every.image_numbers) == ["bus/1", "cat/1"]
    assert masks_of(every, "cat/1") == [[True, False, True]]


def test_fss_says_what_the_list_lacks(tmp_path):
    save(tmp_path / "bus/1.png", stripes(255))
    with pytest.raises(
        InputError, match=r"no fss_test_set.txt in or beside .*; put it there or choose the split 'all'"
    ):
        read_fss(tmp_path, split="test")
    (tmp_path / "fss_test_set.txt").write_text("bus\ntram\n")
    with pytest.raises(InputError, match="lists the class 'tram', but .* has no such folder"):
        read_fss(tmp_path, split="test")


def read_all(truth):
    return truth.annotations(range(1, len(truth.images) + 1))


def test_damaged_pngs_are_named(tmp_path):
    path = tmp_path / "ARID20/floor/label/a.png"
    with pytest.raises(InputError, match=r"no file \*\*/label/\*.png in"):
        read_ocid(tmp_path, supports=True)
    save(path, np.zeros((4, 4, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="a.png has pixels of mode RGB, not one number each"):
        read_all(read_ocid(tmp_path, supports=True))
    path.write_bytes(b"no png")
    with pytest.raises(InputError, match="a.png is not an image"):
        read_ocid(tmp_path, supports=True)
    save(path, np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="a.png: image file is truncated"):
        read_all(read_ocid(tmp_path, supports=True))
    with pytest.raises(InputError, match="has pixels of mode I;16, not 8-bit grey or RGB"):
        save(tmp_path / "x.png", np.zeros((4, 4), dtype=np.uint16))
        read_all(read_camo(tmp_path))
