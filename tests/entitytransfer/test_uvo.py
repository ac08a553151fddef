"""UVO: its three sets, the frames that are made of its videos, and what the doctor says about damage."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cropformer import InputError, rle
from entitytransfer.cli import main
from entitytransfer.datasets import uvo
from entitytransfer.preparation.uvo import listed_frames
from entitytransfer.score_task import score
from entitytransfer.writers.ytvis import YtvisWriter

from .clip_trees import YTIDS, make_uvo_tree
from .moving_clips import moving_clip

FIXTURE = Path(__file__).parents[1] / "data" / "metrics" / "uvo"
FRAMES, SIZE_HW = 6, (96, 128)


@pytest.fixture
def tree(tmp_path) -> Path:
    return make_uvo_tree(tmp_path)


@pytest.fixture
def videos(tmp_path) -> Path:
    """The tree as it is published: videos and no frames."""
    return make_uvo_tree(tmp_path, mp4=True)


def written(number: int) -> np.ndarray:
    """Masks of a clip of the tree, bool [F,N,H,W]."""
    return moving_clip(number, frames=FRAMES, size_hw=SIZE_HW).tracks


def test_dense_clips_are_what_was_written(tree):
    samples = uvo.read(tree)
    assert samples.classes.names == ("entity",) and [clip.clip_id for clip in samples] == [1, 2]
    clip = samples[1]
    assert clip.exhaustive and clip.annotated is None and clip.labels().tolist() == [0, 0, 0]
    assert clip.frame_paths[5] == tree / "uvo_videos_dense_frames" / YTIDS[1] / "5.png"
    expected = moving_clip(1, frames=FRAMES, size_hw=SIZE_HW)
    for frame in range(FRAMES):
        np.testing.assert_array_equal(clip.read_frame(frame), expected.images[frame])
        masks = [np.zeros(SIZE_HW, bool) if one is None else rle.decode(one) for one in clip.frame_rles(frame)]
        np.testing.assert_array_equal(masks, expected.tracks[frame])


def test_sparse_clips_have_every_second_frame(tree):
    clip = uvo.read(tree, kind="sparse", split="val")[0]
    assert [path.name for path in clip.frame_paths] == ["0.png", "2.png", "4.png"]
    assert clip.annotated is None
    assert clip.truth().areas.tolist() == written(2)[::2].sum(axis=(2, 3)).T.tolist()


def test_frames_of_sparse_clips_without_any_mask_are_unknown(tree):
    path = tree / "VideoSparseSet" / "UVO_sparse_train_video.json"
    content = json.loads(path.read_text())
    for track in content["annotations"][:3]:
        track["segmentations"][1] = None
    path.write_text(json.dumps(content))
    assert [clip.annotated for clip in uvo.read(tree, kind="sparse")] == [(0, 2), None]


def test_the_file_with_interpolated_tracks_is_taken_when_asked_for(tree):
    with pytest.raises(InputError, match="holds no sparse set of UVO"):
        uvo.read(tree, kind="sparse", interpolated=True)
    folder = tree / "VideoSparseSet"
    content = json.loads((folder / "UVO_sparse_train_video.json").read_text())
    content["videos"], content["annotations"] = content["videos"][:1], content["annotations"][:3]
    (folder / "UVO_sparse_train_video_with_interpolation.json").write_text(json.dumps(content))
    assert len(uvo.read(tree, kind="sparse", interpolated=True)) == 1
    assert len(uvo.read(tree, kind="sparse")) == 2


def test_the_frame_set_is_of_images(tree):
    samples = uvo.read(tree, kind="frame")
    assert [sample.image_path.name for sample in samples] == ["5.png", "5.png"]
    np.testing.assert_array_equal(samples[0].entity_masks(), written(0)[-1])
    assert samples[0].exhaustive and uvo.adapter(kind="frame", task="recall").build_head(samples.classes)


@pytest.mark.parametrize("place", ["uvo_videos_dense_frames/JPEGImages", "uvo_frames_dense"])
def test_frames_are_found_where_copies_have_them(tree, place):
    (tree / "uvo_videos_dense_frames").rename(tree / "frames")
    (tree / place).parent.mkdir(exist_ok=True)
    (tree / "frames").rename(tree / place)
    assert uvo.read(tree)[0].read_frame(0).shape == (96, 128, 3)


def test_its_own_tracks_score_one(tmp_path):
    shutil.copytree(FIXTURE / "VideoDenseSet", tmp_path / "VideoDenseSet")
    (tmp_path / "uvo_videos_dense_frames").mkdir()
    truth_path = tmp_path / "VideoDenseSet" / "UVO_video_val_dense.json"
    with YtvisWriter(tmp_path / "results.json") as writer:
        for clip in uvo.read(tmp_path, split="val"):
            for track in clip.truth().rles:
                writer.write(clip.clip_id, category_id=1, score=0.5, segmentations=track)
    assert score("uvo", ground_truth=truth_path, predictions=tmp_path / "results.json")["AP"] == 1


def test_the_test_split_may_lack_annotations(tree):
    content = json.loads((tree / "VideoDenseSet" / "UVO_video_val_dense.json").read_text())
    del content["annotations"]
    (tree / "VideoDenseSet" / "UVO_video_test_dense.json").write_text(json.dumps(content))
    assert uvo.read(tree, split="test")[0].annotated == ()
    assert [finding.level for finding in uvo.examine(tree, split="test")] == ["note", "note", "ok"]


@pytest.mark.parametrize(
    "options", [{"kind": "densest"}, {"split": "valid"}, {"task": "panoptic"}, {"kind": "dense", "task": "recall"}]
)
def test_choices_that_do_not_exist(tree, options):
    with pytest.raises(InputError, match=f"{list(options.values())[-1]}"):
        uvo.read(tree, **options)


# --- frames out of videos


def prepare(root: Path, *more: str, workers: int = 1) -> int:
    return main(["prepare", "dataset=uvo", f"root={root}", *more, "--workers", str(workers)])


def made(root: Path) -> dict[str, int]:
    """Every frame that was made, and when."""
    return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in root.glob("uvo_videos_*_frames/*/*")}


def test_frames_are_extracted_as_the_file_names_them(videos, capsys):
    assert prepare(videos, workers=2) == 0
    assert capsys.readouterr().out.splitlines() == [
        "UVO_video_train_dense: 2 videos, 2 of them extracted now",
        "UVO_video_val_dense: 1 videos, 1 of them extracted now",
    ]
    assert len(made(videos)) == 3 * FRAMES
    clip = uvo.read(videos)[0]
    expected = moving_clip(0, frames=FRAMES, size_hw=SIZE_HW).images
    for frame in range(FRAMES):
        own = np.abs(clip.read_frame(frame).astype(int) - expected[frame]).mean()
        others = [np.abs(clip.read_frame(frame).astype(int) - image).mean() for image in np.delete(expected, frame, 0)]
        assert own < 8 and own < min(others)  # the codec changes pixels a little, another frame many


def test_only_what_the_file_lists_is_extracted(videos):
    assert prepare(videos, "kind=sparse", "split=val") == 0
    assert sorted(made(videos)) == [f"uvo_videos_sparse_frames/{YTIDS[2]}/{place}.png" for place in (0, 2, 4)]
    assert prepare(videos, "kind=frame") == 0
    assert f"uvo_videos_sparse_frames/{YTIDS[0]}/5.png" in made(videos)


def test_an_interrupted_run_is_resumed(videos, capsys):
    assert prepare(videos, "split=train") == 0
    before = made(videos)
    lost = videos / "uvo_videos_dense_frames" / YTIDS[1] / "3.png"
    lost.unlink()
    capsys.readouterr()
    assert prepare(videos, "split=train") == 0
    assert capsys.readouterr().out == "UVO_video_train_dense: 2 videos, 1 of them extracted now\n"
    after = made(videos)
    assert before.keys() == after.keys()
    assert [name for name in before if before[name] != after[name]] == [str(lost.relative_to(videos))]


def test_missing_and_broken_videos_are_said_when_the_others_are_done(videos, capsys):
    broken = videos / "uvo_videos_dense" / f"{YTIDS[0]}.mp4"
    broken.write_bytes(b"no video")
    assert prepare(videos, "split=train") == 2
    error = capsys.readouterr().err
    assert f"1 of the 2 videos in UVO_video_train_dense.json could not be extracted: {broken}" in error
    assert len(made(videos)) == FRAMES
    broken.unlink()
    assert prepare(videos, "split=train") == 2
    assert f"{broken} is not there. Get these again" in capsys.readouterr().err


def test_a_video_that_is_too_short_is_said(videos, capsys):
    path = videos / "VideoDenseSet" / "UVO_video_val_dense.json"
    content = json.loads(path.read_text())
    content["videos"][0]["file_names"].append(f"{YTIDS[2]}/{FRAMES}.png")
    path.write_text(json.dumps(content))
    assert prepare(videos, "split=val") == 2
    assert f"{YTIDS[2]}.mp4 has no readable frame {FRAMES}" in capsys.readouterr().err
    assert len(made(videos)) == FRAMES


def test_nothing_to_prepare_is_bad_input(tmp_path, capsys):
    assert prepare(tmp_path) == 2
    assert "holds no dense set of UVO" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a/00000.jpg", "0.png", "a/b/0.png", "a/first.png", 7])
def test_frames_with_other_names_cannot_be_extracted(tmp_path, name):
    path = tmp_path / "file.json"
    path.write_text(json.dumps({"videos": [{"file_names": [name]}], "annotations": []}))
    with pytest.raises(InputError, match="does not call its frames VIDEO/PLACE.png"):
        listed_frames(path)


# --- the doctor


def test_the_doctor_says_how_to_get_frames(videos):
    (finding,) = [one for one in uvo.examine(videos, split="val") if one.level == "missing"]
    assert finding.what == f"1 video of 1 in UVO_video_val_dense.json without frames: {YTIDS[2]}"
    assert finding.fix == f"Extract them with 'entitytransfer prepare dataset=uvo kind=dense root={videos}'."
    shutil.rmtree(videos / "uvo_videos_dense")
    (finding,) = [one for one in uvo.examine(videos, split="val") if one.level == "missing"]
    assert finding.fix.startswith("Ask the authors of UVO")
    with pytest.raises(InputError, match="There is no folder .*uvo_videos_dense_frames. Extract them with"):
        uvo.read(videos)


def test_the_doctor_counts(tree):
    dense, frames = ([one.what for one in uvo.examine(tree, kind=kind, split="train")] for kind in ("dense", "frame"))
    counts = "2 videos, 12 frames, 6 tracks (3.0 in a video, at most 3), 32 masks, categories: 1"
    assert dense == ["2 videos in UVO_video_train_dense.json, where 503 are published", f"UVO dense train: {counts}"]
    assert frames == ["UVO frame train: 2 images, 6 entities (3.0 in an image, at most 3), categories: 1"]
