"""VIPSeg: its raw and prepared files, the codes, what counts in it, and its results."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError, rle
from entitytransfer.classes import ENTITY
from entitytransfer.clip_sample import ClipSample
from entitytransfer.datasets import vipseg
from entitytransfer.doctor import is_healthy
from entitytransfer.readers.vipseg_codes import category_of_segment, read_categories, read_codes, segments_of_codes
from entitytransfer.score_task import score
from entitytransfer.writers.panoptic import VipsegWriter

from .clip_trees import VIPSEG_NAMES, VIPSEG_SIZE_HW
from .moving_clips import moving_clip

OFFICIAL = Path(__file__).parents[1] / "data" / "metrics" / "vipseg"
VAL = "panoptic_gt_VIPSeg_val.json"
WALL, CEILING, DOOR, LADDER = 0, 1, 2, 4


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """The official example, prepared."""
    root = tmp_path_factory.mktemp("vipseg")
    shutil.copytree(OFFICIAL / "VIPSeg", root / "VIPSeg")
    assert list(vipseg.prepare(root))
    return root


def load(path: Path) -> dict:
    return json.loads(path.read_text())


def edit(path: Path, change) -> None:
    """Change a JSON file."""
    content = load(path)
    change(content)
    path.write_text(json.dumps(content))


def save_codes(path: Path, codes: list[list[int]]) -> Path:
    Image.fromarray(np.array(codes, dtype=np.uint16)).save(path)
    return path


def masks_of(clip: ClipSample, frame: int) -> np.ndarray:
    empty = np.zeros(clip.size_hw, dtype=bool)
    return np.array([empty if one is None else rle.decode(one) for one in clip.frame_rles(frame)])


# --- codes


@pytest.fixture(scope="module")
def categories() -> list[dict]:
    return read_categories(OFFICIAL / "VIPSeg" / "panoVIPSeg_categories.json")


def test_there_are_124_classes_of_which_58_are_things(categories):
    assert [category["id"] for category in categories] == list(range(124))
    assert sum(category["isthing"] for category in categories) == 58


def test_codes_name_segments(tmp_path, categories):
    is_thing = [bool(category["isthing"]) for category in categories]
    assert (is_thing[WALL], is_thing[CEILING], is_thing[DOOR], is_thing[LADDER]) == (False, False, True, True)
    codes = read_codes(save_codes(tmp_path / "map.png", [[0, 1, 2, 3, 124], [300, 301, 599, 207, 12400]]))
    segments = segments_of_codes(codes, is_thing)
    # VOID, two stuff classes, a door without a number, the last class; two doors, a ladder, ceiling, the last class
    assert segments.tolist() == [[0, 1, 2, 3, 124], [300, 301, 599, 2, 12400]]
    assert [category_of_segment(code) for code in (1, 2, 3, 124, 300, 301, 599, 12400)] == [0, 1, 2, 123, 2, 2, 4, 123]


def test_a_code_of_no_class_is_refused(tmp_path):
    path = save_codes(tmp_path / "map.png", [[0, 12500]])
    with pytest.raises(InputError, match="map.png holds the code 12500, but codes are below 12500"):
        read_codes(path)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (lambda listed: listed.pop(), "lists 123 categories, not those from 0 to 123"),
        (lambda listed: listed[4].update(id=124), "not those from 0 to 123"),
        (lambda listed: listed[4].pop("isthing"), "category 4: the field 'isthing' is missing"),
        (lambda listed: listed[4].update(color=[1, 2]), "category 4: 'color' must be red, green and blue"),
    ],
)
def test_other_categories_are_refused(vipseg_tree, vipseg_home, change, sentence):
    edit(vipseg_home / "panoVIPSeg_categories.json", change)
    with pytest.raises(InputError, match=sentence):
        vipseg.read(vipseg_tree)
    assert any(finding.level == "broken" and sentence in finding.what for finding in vipseg.examine(vipseg_tree))


# --- reading


def test_raw_clips_are_what_was_written(vipseg_tree):
    samples = vipseg.read(vipseg_tree)
    assert len(samples.classes) == 124 and sum(samples.classes.is_thing) == 58
    assert [clip.clip_id for clip in samples] == [VIPSEG_NAMES[1], VIPSEG_NAMES[0]]  # by name
    clip, written = samples[0], moving_clip(1, frames=6, size_hw=VIPSEG_SIZE_HW)
    assert (clip.size_hw, clip.exhaustive, clip.annotated) == (VIPSEG_SIZE_HW, True, None)
    assert [path.name for path in clip.frame_paths[:2]] == ["00000000.jpg", "00000006.jpg"]
    names = [samples.classes.names[label] for label in clip.labels()]
    assert names.count("person") == 2 and names.count("refrigerator") == 1
    things = [index for index, name in enumerate(names) if name in written.names]
    for frame in range(6):
        masks = masks_of(clip, frame)
        assert (masks.sum(axis=0) <= 1).all()
        assert {mask.tobytes() for mask in masks[things]} == {mask.tobytes() for mask in written.tracks[frame]}


def test_stuff_of_a_class_is_one_region_and_a_thing_one_for_each_code(vipseg_tree, vipseg_home):
    (video,) = vipseg.read(vipseg_tree, split="val")
    for number, path in enumerate(sorted((vipseg_home / "panomasks" / video.clip_id).iterdir())):
        codes = np.zeros(VIPSEG_SIZE_HW, dtype=np.uint16)
        codes[:8], codes[8:16], codes[16:24] = CEILING + 1, (CEILING + 1) * 100 + 7, DOOR + 1
        if number:
            codes[24:32] = (DOOR + 1) * 100
        Image.fromarray(codes).save(path)
    truth = vipseg.read(vipseg_tree, split="val")[0].truth()
    assert truth.category_ids.tolist() == truth.labels.tolist() == [CEILING, DOOR, DOOR]
    assert truth.areas.tolist() == [[16 * 64] * 6, [8 * 64] * 6, [0] + [8 * 64] * 5]
    assert [one is None for one in truth.rles[2]] == [True] + [False] * 5
    assert not truth.is_crowd.any()


def test_raw_and_official_files_give_the_same_tracks(tmp_path):
    shutil.copytree(OFFICIAL / "VIPSeg", tmp_path / "VIPSeg")
    raw, official = (vipseg.read(root, split="val") for root in (tmp_path, OFFICIAL))
    assert raw.classes == official.classes and len(raw) == len(official) == 3
    for ours, theirs in zip(raw, official):
        assert (ours.clip_id, ours.size_hw, len(ours.frames)) == (theirs.clip_id, theirs.size_hw, len(theirs.frames))
        mine, listed = ours.truth(), theirs.truth()
        assert mine.rles == listed.rles and mine.areas.tolist() == listed.areas.tolist()
        assert mine.category_ids.tolist() == listed.category_ids.tolist()
        assert theirs.read_frame(0).shape == (*theirs.size_hw, 3)  # no smaller frames were made, so these are the raw


def test_areas_and_crowds_are_those_of_the_file(tmp_path):
    shutil.copytree(OFFICIAL, tmp_path / "vipseg")
    first = vipseg.read(tmp_path / "vipseg", split="val")[0].truth()

    def change(content):
        segments = content["annotations"][0]["annotations"][0]["segments_info"]
        segments[1]["area"] += 5
        segments[0]["iscrowd"] = 1

    edit(tmp_path / "vipseg" / "VIPSeg_720P" / VAL, change)
    clip = vipseg.read(tmp_path / "vipseg", split="val")[0]
    truth = clip.truth()
    assert truth.track_ids.tolist() == [*first.track_ids[1:], first.track_ids[0]]
    assert truth.is_crowd.tolist() == [False] * (len(first.rles) - 1) + [True]
    assert truth.areas[0, 0] == first.areas[1, 0] + 5
    assert len(clip.labels()) == len(clip.frame_rles(0)) == len(first.rles) - 1


def test_labels_are_all_alike_where_everything_is_an_entity(prepared, vipseg_tree):
    for root in (prepared, vipseg_tree):
        samples = vipseg.read(root, split="val", task="entity")
        assert samples.classes == ENTITY and not samples[0].labels().any()
        assert samples[0].truth().category_ids.any()


def test_clips_of_test_have_no_annotation(vipseg_tree):
    assert list(vipseg.prepare(vipseg_tree))
    (clip,) = vipseg.read(vipseg_tree, split="test")
    assert clip.annotated == () and clip.labels().shape == (0,) and clip.frame_rles(0) == []
    assert clip.truth().areas.shape == (0, 6) and clip.read_frame(5).shape == (*VIPSEG_SIZE_HW, 3)


@pytest.mark.parametrize("inner", ["", "VIPSeg", "VIPSeg/VIPSeg_720P"])
def test_the_root_is_any_of_the_folders(prepared, inner):
    clip = vipseg.read(prepared / inner, split="val")[0]
    assert clip.frame_paths[0].parents[2].name == "VIPSeg_720P" and clip.size_hw[0] == 720


@pytest.mark.parametrize("options", [{"split": "valid"}, {"task": "instance"}])
def test_choices_that_do_not_exist(vipseg_tree, options):
    with pytest.raises(InputError, match=next(iter(options.values()))):
        vipseg.read(vipseg_tree, **options)
    with pytest.raises(InputError, match="test"):
        list(vipseg.prepare(vipseg_tree, split="test"))


def remove_map(home: Path, video: str) -> None:
    next((home / "panomasks" / video).iterdir()).unlink()


def remove_frame(home: Path, video: str) -> None:
    next((home / "imgs" / video).iterdir()).unlink()


def remove_video(home: Path, video: str) -> None:
    shutil.rmtree(home / "imgs" / video)


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (remove_map, "frames and maps in .* that do not belong together"),
        (remove_frame, "frames and maps in .* that do not belong together"),
        (remove_video, "no frame in"),
    ],
)
def test_incomplete_raw_files_are_refused(vipseg_tree, vipseg_home, damage, sentence):
    damage(vipseg_home, VIPSEG_NAMES[2])
    with pytest.raises(InputError, match=f"1 of 1 videos, such as {VIPSEG_NAMES[2]}, have {sentence}"):
        vipseg.read(vipseg_tree, split="val")
    with pytest.raises(InputError, match=sentence):
        list(vipseg.prepare(vipseg_tree, split="val"))


def change_size(content):
    content["videos"][0]["images"][2]["width"] += 1


def change_category(content):
    content["annotations"][0]["annotations"][2]["segments_info"][0]["category_id"] = 3


def forget_frame(content):
    content["annotations"][0]["annotations"].pop()


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (change_size, "the frames of .* have several sizes"),
        (change_category, "the segment .* has two categories"),
        (forget_frame, "annotation 0: the frame .* has no annotation"),
    ],
)
def test_damaged_prepared_files_are_refused_and_found(tmp_path, spoil, sentence):
    shutil.copytree(OFFICIAL, tmp_path / "vipseg")
    edit(tmp_path / "vipseg" / "VIPSeg_720P" / VAL, spoil)
    with pytest.raises(InputError, match=sentence):
        vipseg.read(tmp_path / "vipseg", split="val")
    assert not is_healthy(vipseg.examine(tmp_path / "vipseg", split="val"))


def test_a_map_of_another_size_is_refused(vipseg_tree, vipseg_home):
    path = sorted((vipseg_home / "panomasks" / VIPSEG_NAMES[2]).iterdir())[1]
    save_codes(path, [[1, 2]])
    clip = vipseg.read(vipseg_tree, split="val")[0]
    with pytest.raises(InputError, match=rf"{path.name} has height and width \(1, 2\) but its clip \(48, 64\)"):
        clip.labels()


# --- results


def write_truth(samples, folder: Path) -> None:
    """The ground truth as a submission."""
    with VipsegWriter(folder) as writer:
        for clip in samples:
            truth = clip.truth()
            categories = dict(zip(truth.track_ids.tolist(), truth.category_ids.tolist()))
            for frame, path in enumerate(clip.frame_paths):
                ids = np.zeros(clip.size_hw, dtype=np.int64)
                for track_id, mask in zip(truth.track_ids, [track[frame] for track in truth.rles]):
                    if mask is not None:
                        ids[rle.decode(mask)] = track_id
                writer.write(clip.clip_id, ids, categories, name=path.stem)


def test_its_own_tracks_score_one(tmp_path):
    write_truth(vipseg.read(OFFICIAL, split="val"), tmp_path)
    metrics = score("vipseg", ground_truth=OFFICIAL / "VIPSeg_720P" / VAL, predictions=tmp_path)
    assert set(metrics.values()) == {1.0}


def test_what_is_prepared_can_be_scored_with_raw_tracks(vipseg_tree, vipseg_home, tmp_path):
    samples = vipseg.read(vipseg_tree, split="val")
    assert list(vipseg.prepare(vipseg_tree, split="val"))
    write_truth(vipseg.read(vipseg_tree, split="val"), tmp_path / "pred")
    metrics = score("vipseg", ground_truth=vipseg_home / "VIPSeg_720P" / VAL, predictions=tmp_path / "pred")
    assert metrics["VPQ"] == metrics["SQ"] == 1 and len(samples) == 1
