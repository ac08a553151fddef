"""YouTube-VIS: its layouts, what counts in it, the held-out part, and what the doctor says about damage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError, rle
from entitytransfer.datasets import youtube_vis
from entitytransfer.doctor import Finding
from entitytransfer.readers.ytvis_json import annotated_tracks, mean_areas, read_ytvis_truth
from entitytransfer.score_task import score
from entitytransfer.writers.ytvis import YtvisWriter

from .clip_trees import NAMES, make_ytvis_tree
from .moving_clips import moving_clip

FIXTURE = Path(__file__).parents[1] / "data" / "metrics" / "ytvis"


@pytest.fixture
def tree(tmp_path) -> Path:
    return make_ytvis_tree(tmp_path)


@pytest.fixture
def official(tmp_path) -> Path:
    """The fixture of the metric, whose frames are not needed, but the folder is."""
    shutil.copytree(FIXTURE / "ytvis_2019", tmp_path / "ytvis_2019")
    (tmp_path / "ytvis_2019" / "valid" / "JPEGImages").mkdir(parents=True)
    return tmp_path


def edit(path: Path, change) -> None:
    """Change an annotation file."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_clip_is_what_was_written(tree):
    clip = youtube_vis.read(tree)[0]
    written = moving_clip(0, frames=6, size_hw=(96, 128))
    assert (clip.clip_id, clip.size_hw, clip.exhaustive, clip.annotated) == (1, (96, 128), True, None)
    assert [path.relative_to(tree).as_posix() for path in clip.frame_paths[:2]] == [
        f"ytvis_2019/train/JPEGImages/{NAMES[0]}/{number:05d}.jpg" for number in (0, 5)
    ]
    for frame in range(6):
        for one, mask in zip(clip.frame_rles(frame), written.tracks[frame], strict=True):
            assert (one is None) == (not mask.any())
            assert one is None or rle.decode(one).tolist() == mask.tolist()
        assert np.abs(clip.read_frame(frame).astype(int) - written.images[frame]).mean() < 8  # a JPEG
    assert clip.truth().areas.tolist() == written.tracks.sum(axis=(2, 3)).T.tolist()


def test_labels_go_by_category_unless_all_are_entities(tree):
    samples = youtube_vis.read(tree)
    names = [samples.classes.names[label] for label in samples[0].labels()]
    assert names == ["person", "person", "truck"] and len(samples.classes) == 40
    assert samples[0].truth().category_ids.tolist() == [1, 1, 29]
    entities = youtube_vis.read(tree, task="entity")
    assert entities[0].labels().tolist() == [0, 0, 0] and entities.classes.names == ("entity",)
    assert not entities[0].exhaustive  # things of other categories are not annotated


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("version", ["2019", "2021"])
def test_the_root_is_the_folder_of_the_version_or_the_one_around_it(tmp_path, version, inner):
    root = make_ytvis_tree(tmp_path, version=version)
    samples = youtube_vis.read(root / f"ytvis_{version}" if inner else root, version=version)
    assert [sample.clip_id for sample in samples] == [1, 2]
    assert samples[0].read_frame(0).shape == (96, 128, 3)


def test_train_is_split_by_the_names_of_videos(tmp_path):
    root = make_ytvis_tree(tmp_path, clips=4, frames=3)
    parts = {split: youtube_vis.read(root, split=split) for split in ("train", "train_rest", "holdout")}
    names = {split: [clip.frame_paths[0].parent.name for clip in clips] for split, clips in parts.items()}
    assert names == {"train": [*NAMES[:4]], "train_rest": [NAMES[0], NAMES[2]], "holdout": [NAMES[1], NAMES[3]]}
    assert parts["holdout"].entity_counts.tolist() == [3, 3]


def test_a_set_too_small_to_hold_anything_out_says_so(tmp_path):
    root = make_ytvis_tree(tmp_path, clips=1, frames=3)
    with pytest.raises(InputError, match="No video of .*train.json is in holdout, .*; take split=train"):
        youtube_vis.read(root, split="holdout")


def test_a_tenth_is_held_out_and_stays_so():
    held_out = [number for number in range(3000) if youtube_vis.is_held_out(f"{number:010x}")]
    assert 0.08 < len(held_out) / 3000 < 0.12
    assert held_out[:4] == [7, 11, 34, 47]


def test_clips_that_a_server_scores_have_no_annotation(tree):
    (clip,) = youtube_vis.read(tree, split="valid")
    assert clip.annotated == () and clip.labels().shape == (0,) and clip.frame_rles(0) == []
    assert clip.truth().areas.shape == (0, 6) and clip.read_frame(5).shape == (96, 128, 3)
    edit(tree / "ytvis_2019" / "valid.json", lambda content: content.update(annotations=None))
    assert youtube_vis.read(tree, split="valid")[0].annotated == ()


def test_the_truth_is_that_of_the_metric(official):
    samples = youtube_vis.read(official, split="valid")
    file = read_ytvis_truth(FIXTURE / "ytvis_2019" / "valid.json")
    assert [clip.clip_id for clip in samples] == list(file.videos)
    crowds = 0
    for clip, video in zip(samples, file.videos.values()):
        truth, expected = clip.truth(), annotated_tracks(video, file.category_numbers)
        order = np.argsort(expected.is_crowd, kind="stable")
        assert truth.rles == [expected.masks[index] for index in order]
        assert truth.is_crowd.tolist() == expected.is_crowd[order].tolist()
        assert truth.category_ids.tolist() == expected.category_ids[order].tolist()
        assert mean_areas(truth.areas).tolist() == expected.mean_areas[order].tolist()
        crowds += len(truth.rles) - len(clip.labels())
    assert crowds == 1


def test_its_own_tracks_score_one(official, tmp_path):
    with YtvisWriter(tmp_path / "results.zip") as writer:
        for clip in youtube_vis.read(official, split="valid"):
            truth = clip.truth()
            for index in np.flatnonzero(~truth.is_crowd):
                writer.write(
                    clip.clip_id,
                    category_id=int(truth.category_ids[index]),
                    score=0.5,
                    segmentations=truth.rles[index],
                )
    truth_path = FIXTURE / "ytvis_2019" / "valid.json"
    assert score("ytvis", ground_truth=truth_path, predictions=tmp_path / "results.zip")["AP"] == 1


# --- what is refused


def test_choices_that_do_not_exist(tree):
    for options in ({"version": "2020"}, {"split": "val"}, {"task": "panoptic"}):
        with pytest.raises(InputError, match=f"{next(iter(options.values()))}"):
            youtube_vis.read(tree, **options)
    with pytest.raises(InputError, match="panoptic"):
        youtube_vis.adapter(task="panoptic")


def break_length(content):
    content["annotations"][1]["segmentations"].pop()


def break_names(content):
    content["videos"][1]["file_names"].pop()


def break_category(content):
    content["annotations"][2]["category_id"] = 41


def break_mask(content):
    content["annotations"][0]["segmentations"][3]["counts"][1] += 1


def break_video(content):
    content["annotations"][0]["video_id"] = 9


def repeat_track(content):
    content["annotations"][4]["id"] = content["annotations"][1]["id"]


def repeat_video(content):
    content["videos"][1]["id"] = content["videos"][0]["id"]


def repeat_category(content):
    content["categories"][5]["id"] = content["categories"][2]["id"]


def change_size(content):
    content["videos"][1]["width"] += 1


DAMAGE = [
    (break_length, "annotation 1: 'segmentations' must have one entry for each of the 6 frames of its video, not 5"),
    (break_names, "video 1: 'length' is 6, but 'file_names' has 5 entries"),
    (break_category, "annotation 2: 'category_id' 41 is not in the ground truth"),
    (break_mask, "annotation 0: frame 3: the runs of its RLE do not add up to its size"),
    (break_video, "annotation 0: 'video_id' 9 is not in the ground truth"),
    (repeat_track, "annotation 4: the id 2 is already that of annotation 1"),
    (repeat_video, "video 1: the id 1 is already that of video 0"),
    (repeat_category, "category 5: the id 3 is already that of category 2"),
    (change_size, "annotation 3: frame 0: its RLE has the size [96, 128], but its image or video [96, 129]"),
]


@pytest.mark.parametrize("spoil, sentence", DAMAGE)
def test_damaged_annotations_are_refused_and_found(tree, spoil, sentence):
    edit(tree / "ytvis_2019" / "train.json", spoil)
    with pytest.raises(InputError) as raised:
        youtube_vis.read(tree)
    assert f"train.json, {sentence}" in str(raised.value)
    assert any(sentence in finding.what for finding in found(tree, "broken"))


def test_train_without_annotations_is_refused(tree):
    edit(tree / "ytvis_2019" / "train.json", lambda content: content.pop("annotations"))
    with pytest.raises(InputError, match="train.json has no annotations, but those of train are public"):
        youtube_vis.read(tree)
    assert found(tree, "broken")


# --- the doctor


def found(root: Path, level: str, **options) -> list[Finding]:
    return [finding for finding in youtube_vis.examine(root, **options) if finding.level == level]


def test_the_doctor_counts(tree):
    lines = [finding.what for finding in found(tree, "ok")]
    assert lines == [
        "YouTube-VIS 2019 train: 2 videos, 12 frames, 6 tracks (3.0 in a video, at most 3), 32 masks, categories: 2",
        "YouTube-VIS 2019 valid: 1 video, 6 frames, 0 tracks (0.0 in a video, at most 0), 0 masks, categories: 0",
    ]
    notes = [finding.what for finding in found(tree, "note")]
    assert "2 videos in train.json, where 2,238 are published" in notes and "valid.json has no annotations" in notes


def test_the_doctor_finds_an_archive_that_was_half_extracted(tree):
    folder = tree / "ytvis_2019" / "train" / "JPEGImages"
    (folder / NAMES[0] / "00010.jpg").unlink()
    shutil.rmtree(folder / NAMES[1])
    none, some = found(tree, "missing", split="train")
    assert none.what == f"1 video of 2 in train.json without frames: {NAMES[1]}"
    assert some.what == f"1 frame missing in 1 video of 2: {NAMES[0]}"
    assert none.fix.startswith("Download it") and some.fix.startswith("Unpack the archive once more")


def test_the_doctor_finds_frames_of_another_size_and_broken_ones(tree):
    folder = tree / "ytvis_2019" / "train" / "JPEGImages" / NAMES[0]
    Image.new("RGB", (100, 96)).save(folder / "00000.jpg")
    broken = folder / "00005.jpg"
    broken.write_bytes(broken.read_bytes()[:500])
    texts = " ".join(finding.what for finding in found(tree, "broken"))
    assert "1 image not of the annotated size: 00000.jpg; 00000.jpg is 100x96, annotated 128x96" in texts
    assert "1 image unreadable: 00005.jpg" in texts


def test_the_doctor_counts_tracks_that_are_never_seen(tree):
    def hide(content):
        for track in content["annotations"][:3]:
            track |= {name: [None] * 6 for name in ("segmentations", "bboxes", "areas")}

    edit(tree / "ytvis_2019" / "train.json", hide)
    assert "3 tracks without a pixel in any frame" in [finding.what for finding in found(tree, "note", split="train")]
    clips = youtube_vis.read(tree)
    assert clips.entity_counts.tolist() == [0, 3]  # nothing to learn from
    assert len(clips[0].truth().rles) == len(clips[0].labels()) == 3  # but they count as missed


def test_the_doctor_finds_a_missing_category_list(tree):
    edit(tree / "ytvis_2019" / "train.json", lambda content: content["categories"].pop())
    texts = [finding.what for finding in found(tree, "note", split="train")]
    assert "39 category ids listed, but the published file has 40" in texts
