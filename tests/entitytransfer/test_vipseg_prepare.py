"""Preparation of VIPSeg: equal to what the official scripts make, resumed where it stopped, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import rle
from entitytransfer.cli import main
from entitytransfer.datasets import vipseg
from entitytransfer.preparation.segment_maps import ids_near_colors
from entitytransfer.readers.panoptic_png import read_id_map
from entitytransfer.readers.vipseg_codes import read_categories, read_codes

from .clip_trees import VIPSEG_NAMES

DATA = Path(__file__).parents[1] / "data" / "metrics"
OFFICIAL, RESIZED = DATA / "vipseg", DATA / "vipseg_resize"
VAL = "panoptic_gt_VIPSeg_val.json"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """The official example, prepared by the command."""
    root = tmp_path_factory.mktemp("vipseg")
    shutil.copytree(OFFICIAL / "VIPSeg", root / "VIPSeg")
    assert prepare(root, workers=2) == 0
    return root


def prepare(root: Path, *more: str, workers: int = 1) -> int:
    return main(["prepare", "dataset=vipseg", f"root={root}", *more, "--workers", str(workers)])


def load(path: Path) -> dict:
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def categories() -> list[dict]:
    return read_categories(OFFICIAL / "VIPSeg" / "panoVIPSeg_categories.json")


def test_maps_are_made_smaller_as_the_official_script_does(tmp_path, categories):
    expected, home = load(RESIZED / "expected.json"), tmp_path / "VIPSeg"
    shutil.copytree(RESIZED / "panomasks", home / "panomasks")
    codes = read_codes(home / "panomasks" / "v0" / "00000000.png")
    (home / "imgs" / "v0").mkdir(parents=True)
    frame = Image.linear_gradient("L").resize(codes.shape[::-1]).convert("RGB")
    frame.save(home / "imgs" / "v0" / "00000000.jpg")
    (home / "train.txt").write_text("v0\n")
    (home / "panoVIPSeg_categories.json").write_text(json.dumps(categories))
    assert prepare(tmp_path, "split=train") == 0
    path = Path("VIPSeg_720P", "panomasks", "v0", "00000000.png")
    mine, theirs = read_codes(home / path), read_codes(RESIZED / path)
    np.testing.assert_array_equal(mine, theirs)
    assert list(mine.shape) == expected["size_hw"] == [720, int(720 * codes.shape[1] / codes.shape[0])]
    assert {str(code): int((mine == code).sum()) for code in np.unique(mine)} == expected["pixel_counts"]
    with Image.open(home / "VIPSeg_720P/images/v0/00000000.jpg") as image:
        smaller = frame.resize(image.size, Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(image).astype(int) - np.asarray(smaller)).mean() < 2  # two JPEGs


def test_the_files_equal_the_official_ones_but_for_random_ids(prepared):
    folder = prepared / "VIPSeg" / "VIPSeg_720P"
    mine, theirs = load(folder / VAL), load(OFFICIAL / "VIPSeg_720P" / VAL)
    assert list(mine) == list(theirs) and mine["categories"] == theirs["categories"]
    assert mine == load(folder / "panoptic_gt_VIPSeg.json")
    for video, official in zip(mine["videos"], theirs["videos"], strict=True):
        assert video["video_id"] == official["video_id"]
        for image, other in zip(video["images"], official["images"], strict=True):
            scale = 720 // other["height"]  # whole in this example, so that areas grow by its square
            assert image == other | {"height": 720, "width": scale * other["width"]}
    for video, official in zip(mine["annotations"], theirs["annotations"], strict=True):
        ids: dict[int, int] = {}
        for frame, other in zip(video["annotations"], official["annotations"], strict=True):
            check_frame(folder / "panomasksRGB" / video["video_id"], frame, other, ids)
        assert len(set(ids.values())) == len(ids)


def check_frame(folder: Path, frame: dict, official: dict, ids: dict[int, int]) -> None:
    """A frame is the official one, but larger, and with these ids in place of others."""
    assert (frame["image_id"], frame["file_name"]) == (official["image_id"], official["file_name"])
    theirs = read_id_map(OFFICIAL / "VIPSeg_720P" / "panomasksRGB" / folder.name / official["file_name"])
    mine, scale = read_id_map(folder / frame["file_name"]), 720 // len(theirs)
    for segment, other in zip(frame["segments_info"], official["segments_info"], strict=True):
        assert segment == other | {"id": segment["id"], "area": other["area"] * scale**2}
        assert ids.setdefault(other["id"], segment["id"]) == segment["id"]
        np.testing.assert_array_equal(mine == segment["id"], (theirs == other["id"]).repeat(scale, 0).repeat(scale, 1))


def test_stuff_has_the_official_ids(prepared, categories):
    colors = {one["id"]: int(np.dot(one["color"], (1, 2**8, 2**16))) for one in categories if not one["isthing"]}
    for clip in vipseg.read(prepared, split="val"):
        truth = clip.truth()
        stuff = [index for index, category_id in enumerate(truth.category_ids.tolist()) if category_id in colors]
        assert stuff
        assert truth.track_ids[stuff].tolist() == [colors[truth.category_ids[index]] for index in stuff]


def test_a_thing_never_has_the_id_of_stuff():
    colors = {0: (140, 140, 140), 1: (140, 140, 140), 2: (0, 0, 0)}
    ids = ids_near_colors([1, 0, 1, 2, 0], colors=colors, things={1, 2})
    assert ids[1] == ids[4] == 140 + 140 * 2**8 + 140 * 2**16
    assert len(set(ids)) == 4 and 0 not in ids


def test_raw_and_prepared_clips_are_alike(vipseg_tree):
    before = vipseg.read(vipseg_tree)
    assert prepare(vipseg_tree) == 0
    after = vipseg.read(vipseg_tree)
    assert [clip.clip_id for clip in before] == [clip.clip_id for clip in after]
    for raw, made in zip(before, after):
        assert made.size_hw == (720, 960) and made.labels().tolist() == raw.labels().tolist()
        for one, mask in zip(raw.frame_rles(3), made.frame_rles(3), strict=True):
            assert (one is None) == (mask is None)
            assert one is None or (rle.decode(mask)[::15, ::15] == rle.decode(one)).all()


def test_lists_need_no_last_end_of_line(vipseg_tree, vipseg_home):
    for name in ("train", "val"):
        path = vipseg_home / f"{name}.txt"
        path.write_text(path.read_text().rstrip("\n"))
    assert prepare(vipseg_tree, "split=val") == 0
    assert [clip.clip_id for clip in vipseg.read(vipseg_tree, split="val")] == [VIPSEG_NAMES[2]]
    assert not (vipseg_home / "VIPSeg_720P" / "panoptic_gt_VIPSeg.json").exists()


def made(home: Path) -> dict[str, tuple[bytes, int]]:
    """Every prepared file, and when it was made."""
    files = [path for path in (home / "VIPSeg_720P").rglob("*") if path.is_file()]
    return {str(path.relative_to(home)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def test_an_interrupted_run_is_resumed(vipseg_tree, vipseg_home, capsys):
    assert prepare(vipseg_tree, "split=val", workers=2) == 0
    assert capsys.readouterr().out == f"{VAL}: 1 videos\n"
    whole, folder = made(vipseg_home), vipseg_home / "VIPSeg_720P"
    assert not [name for name in whole if Path(name).name.startswith(".")]
    (folder / VAL).unlink()
    lost = [sorted((folder / name / VIPSEG_NAMES[2]).iterdir())[1] for name in ("images", "panomasks", "panomasksRGB")]
    for path in lost[:2]:
        path.unlink()
    lost[2].write_bytes(lost[2].read_bytes()[:100])
    assert prepare(vipseg_tree, "split=val") == 0
    again = made(vipseg_home)
    assert {name: content for name, (content, _) in again.items()} == {name: one for name, (one, _) in whole.items()}
    remade = {name for name in whole if whole[name][1] != again[name][1]}
    assert remade == {str(path.relative_to(vipseg_home)) for path in [*lost, folder / VAL]}
    capsys.readouterr()
    assert prepare(vipseg_tree, "split=val") == 0
    assert capsys.readouterr().out == f"{VAL} is there already\n" and made(vipseg_home) == again


def test_damaged_videos_are_said_when_the_others_are_done(vipseg_tree, vipseg_home, capsys):
    first, second = (sorted((vipseg_home / "panomasks" / name).iterdir())[2] for name in VIPSEG_NAMES[:2])
    good = first.read_bytes()
    first.write_bytes(good[:60])
    assert prepare(vipseg_tree, "split=train") == 2
    error = capsys.readouterr().err
    assert "1 of the 2 videos of train could not be prepared" in error and str(first) in error
    folder = vipseg_home / "VIPSeg_720P"
    assert not (folder / "panoptic_gt_VIPSeg_train.json").exists()
    assert len(list((folder / "panomasksRGB" / VIPSEG_NAMES[1]).iterdir())) == 6
    first.write_bytes(good)
    Image.new("RGB", (50, 48)).save(vipseg_home / "imgs" / VIPSEG_NAMES[1] / f"{second.stem}.jpg")
    (folder / "images" / VIPSEG_NAMES[1] / f"{second.stem}.jpg").unlink()
    assert prepare(vipseg_tree, "split=train") == 2
    assert f"{second.stem}.jpg has height and width (48, 50)" in capsys.readouterr().err


def test_nothing_to_prepare_is_bad_input(tmp_path, capsys):
    assert prepare(tmp_path) == 2
    assert "Cannot read the list of videos" in capsys.readouterr().err
