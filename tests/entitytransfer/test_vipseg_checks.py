"""What the doctor says about VIPSeg, raw and prepared."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from entitytransfer.datasets import vipseg
from entitytransfer.doctor import Finding

from .clip_trees import VIPSEG_NAMES, VIPSEG_SIZE_HW

OFFICIAL = Path(__file__).parents[1] / "data" / "metrics" / "vipseg"
VAL = "panoptic_gt_VIPSeg_val.json"


def found(root: Path, level: str, **options) -> list[Finding]:
    return [finding for finding in vipseg.examine(root, **options) if finding.level == level]


def test_the_doctor_counts(vipseg_tree):
    lines = [finding.what for finding in found(vipseg_tree, "ok")]
    assert len(lines) == 3 and lines[0].startswith("VIPSeg train: 2 videos, 12 frames, ")
    assert lines[2] == "VIPSeg test: 1 video, 6 frames, 0 tracks (0.0 in a video, at most 0), 0 masks, categories: 0"
    notes = [finding.what for finding in found(vipseg_tree, "note")]
    assert notes[:2] == ["2 videos in train.txt, where 2,806 are published", "train is not prepared"]
    raw = lines[1].removeprefix("VIPSeg val")
    assert list(vipseg.prepare(vipseg_tree, split="val"))
    assert [finding.what for finding in found(vipseg_tree, "ok", split="val")] == [
        f"VIPSeg val{raw}",
        f"VIPSeg val, prepared{raw}",
    ]


def test_the_doctor_finds_an_archive_that_was_half_extracted(vipseg_tree, vipseg_home):
    first, second = VIPSEG_NAMES[:2]
    (vipseg_home / "imgs" / first / "00000012.jpg").unlink()
    (vipseg_home / "panomasks" / first / "00000018.png").unlink()
    for name in ("imgs", "panomasks"):
        shutil.rmtree(vipseg_home / name / second)
    none, some, maps = found(vipseg_tree, "missing", split="train")
    assert none.what == f"1 video of 2 in train.txt without frames: {second}"
    assert some.what == f"1 frame missing in 1 video of 2: {first}"
    assert maps.what == "1 map of 6 in train.txt missing: 00000018.png"
    assert none.fix.startswith("Download VIPSeg from its page")


def test_the_doctor_finds_other_sizes_and_unknown_codes(vipseg_tree, vipseg_home):
    video = VIPSEG_NAMES[2]
    images, maps = (sorted((vipseg_home / name / video).iterdir()) for name in ("imgs", "panomasks"))
    Image.new("RGB", (50, 48)).save(images[1])
    Image.fromarray(np.ones((1, 2), dtype=np.uint16)).save(maps[2])
    Image.fromarray(np.full(VIPSEG_SIZE_HW, 20_000, dtype=np.uint16)).save(maps[3])
    texts = [finding.what for finding in found(vipseg_tree, "broken", split="val")]
    assert texts[0].startswith("1 image not of the annotated size: 00000006.jpg; 00000006.jpg is 50x48")
    assert texts[1].startswith("2 broken maps: 00000012.png, 00000018.png; 00000012.png has height and width (1, 2)")


def test_the_doctor_compares_prepared_maps_with_their_file(tmp_path):
    shutil.copytree(OFFICIAL, tmp_path / "vipseg")
    video = next((tmp_path / "vipseg" / "VIPSeg_720P" / "panomasksRGB").iterdir())
    lost, other = sorted(video.iterdir())[:2]
    lost.unlink()
    Image.fromarray(np.full_like(np.asarray(Image.open(other)), 7)).save(other)
    assert [finding.what for finding in found(tmp_path / "vipseg", "missing", split="val")] == [
        f"1 map of 25 in {VAL} missing: {lost.name}"
    ]
    (broken,) = found(tmp_path / "vipseg", "broken", split="val")
    assert f"{other.name} and the JSON differ" in broken.what
