"""The contract of ``test_datasets`` for the files in datasets/ whose samples are clips."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from cropformer import Cut, InputError, cut_masks, rle
from entitytransfer.clip_sample import ClipSample
from entitytransfer.datasets import open_adapter, vipseg
from entitytransfer.doctor import as_lines, is_healthy

from .clip_evaluator_cases import no_tracks, perfect_tracks
from .clip_trees import make_uvo_tree, make_vipseg_tree, make_ytvis_tree
from .test_datasets import CASES as IMAGE_CASES
from .test_datasets import Case, examine

FOLDER = Path(__file__).parents[2] / "entitytransfer" / "datasets"


def make_ytvis_2021_tree(root: Path) -> Path:
    return make_ytvis_tree(root, version="2021")


def make_prepared_vipseg_tree(root: Path) -> Path:
    make_vipseg_tree(root, clips=1, size_hw=(48, 64))
    assert list(vipseg.prepare(root))
    return root


CASES = [
    Case("youtube_vis", make_ytvis_tree, "AP", {"task": "instance"}),
    Case("youtube_vis", make_ytvis_tree, "AP", {"task": "entity", "split": "holdout"}),
    Case("youtube_vis", make_ytvis_2021_tree, "AP", {"version": "2021", "split": "train_rest"}),
    Case("uvo", make_uvo_tree, "AP", {"task": "entity"}),
    Case("uvo", make_uvo_tree, "AP", {"task": "instance", "split": "val"}),
    Case("uvo", make_uvo_tree, "AP", {"kind": "sparse"}),
    Case("vipseg", make_vipseg_tree, "VPQ", {"task": "panoptic"}),
    Case("vipseg", make_vipseg_tree, "AP", {"task": "entity", "split": "val"}),
    Case("vipseg", make_prepared_vipseg_tree, "VPQ", {"split": "val"}),
]


def test_every_dataset_is_held_to_the_contract():
    assert {case.name for case in CASES + IMAGE_CASES} == {path.stem for path in FOLDER.glob("[!_]*.py")}


@pytest.fixture(params=CASES, ids=str)
def case(request) -> Case:
    return request.param


@pytest.fixture
def adapter(case):
    return open_adapter(case.name, case.options)


@pytest.fixture
def clips(case, adapter, trees):
    return adapter.read(trees(case), **case.options)


def masks_of(clip: ClipSample, frame: int) -> np.ndarray:
    """Decode what is annotated in a frame: bool [N,H,W]."""
    empty = np.zeros(clip.size_hw, dtype=bool)
    return np.array([empty if one is None else rle.decode(one) for one in clip.frame_rles(frame)])


def test_clips_are_what_their_annotations_say(clips):
    assert len(clips) > 0 and len({clip.clip_id for clip in clips}) == len(clips)
    if clips.sizes_hw is not None:  # raw files have no index
        assert clips.sizes_hw.tolist() == [list(clip.size_hw) for clip in clips]
        assert clips.entity_counts.tolist() == [len(clip.labels()) for clip in clips]
    for clip in clips:
        labels, frames = clip.labels(), range(len(clip.frame_paths))
        assert [read().shape for read in clip.frames] == [(*clip.size_hw, 3)] * len(frames)
        assert labels.dtype == np.int64 and labels.min() >= 0 and labels.max() < len(clips.classes)
        assert all(masks_of(clip, frame).shape == (len(labels), *clip.size_hw) for frame in frames)
        assert np.any([masks_of(clip, frame).any(axis=(1, 2)) for frame in frames], axis=0).all()
        assert any(one is None for frame in frames for one in clip.frame_rles(frame))


def test_cuts_show_what_the_masks_hold(clips):
    clip = clips[0]
    height, width = clip.size_hw
    whole = Cut((0, 0, width, height), (height, width))
    part = Cut((8, 4, width - 3, height - 9), (37, 41), (3, 2, 30, 31), flip=True)
    for frame in range(len(clip.frame_paths)):
        masks = masks_of(clip, frame)
        shown = clip.cut_masks(frame, [whole, part])
        np.testing.assert_array_equal(shown[0], masks)
        np.testing.assert_array_equal(shown[1], cut_masks(masks, part))
        assert [view.shape for view in clip.read_views(frame, [whole, part])] == [(height, width, 3), (29, 27, 3)]


def test_the_truth_holds_the_tracks(clips):
    for clip in clips:
        truth, frames = clip.truth(), range(len(clip.frame_paths))
        shape = (len(truth.rles), len(frames))
        assert truth.areas.shape == shape and [len(track) for track in truth.rles] == [shape[1]] * shape[0]
        assert len(truth.labels) == len(truth.category_ids) == len(set(truth.track_ids.tolist())) == shape[0]
        kept = np.flatnonzero(~truth.is_crowd)
        assert truth.labels[kept].tolist() == clip.labels().tolist()
        assert all([truth.rles[index][frame] for index in kept] == clip.frame_rles(frame) for frame in frames)


def test_clips_travel_to_workers(clips):
    sent = pickle.loads(pickle.dumps(clips))
    assert sent.classes == clips.classes
    for here, there in zip(clips, sent, strict=True):
        assert (here.clip_id, here.frame_paths, here.annotated) == (there.clip_id, there.frame_paths, there.annotated)
        assert [here.frame_rles(frame) for frame in range(3)] == [there.frame_rles(frame) for frame in range(3)]
    assert [clip.clip_id for clip in clips[1:]] == [clip.clip_id for clip in clips][1:]


def test_the_target_is_made_of_the_tracks(adapter, clips):
    clip = clips[0]
    height, width = clip.size_hw
    cuts = [Cut((0, 0, width, height), (48, 64)), Cut((0, 0, width // 2, height // 2), (48, 64))] * 2
    target = adapter.build_target(clip, cuts, (0, 0, 2, 2))
    np.testing.assert_array_equal(target.masks, [*clip.cut_masks(0, cuts[:2]), *clip.cut_masks(2, cuts[2:])])
    assert target.labels.tolist() == clip.labels().tolist()


def test_perfect_tracks_have_the_best_metric(case, adapter, clips):
    head, metric = adapter.build_head(clips.classes), adapter.build_evaluator(clips.classes)
    assert head.classes == clips.classes
    for clip in clips:
        metric.update(perfect_tracks(clip), clip)
    assert metric.compute()[case.metric] == pytest.approx(1.0, abs=1e-6)
    metric.reset()
    for clip in clips:
        metric.update(no_tracks(), clip)
    assert metric.compute()[case.metric] < 0.99


# --- the doctor, and what is refused


@pytest.mark.parametrize("full", [False, True])
def test_an_intact_tree_is_healthy(case, trees, full):
    findings = examine(case, trees(case), full=full)
    assert is_healthy(findings), as_lines(findings)
    assert any(finding.level == "ok" for finding in findings)


def test_an_empty_folder_says_what_is_missing(case, tmp_path):
    findings = examine(case, tmp_path)
    assert {finding.level for finding in findings} == {"missing"}
    assert all(finding.what and finding.fix.endswith(".") for finding in findings)


@pytest.mark.parametrize("place", ["empty", "nowhere"])
def test_a_wrong_root_is_refused_in_one_sentence(case, adapter, tmp_path, place):
    root = tmp_path / place
    if place == "empty":
        root.mkdir()
    with pytest.raises(InputError) as raised:
        adapter.read(root, **case.options)
    sentence = str(raised.value)
    assert str(root) in sentence and "\n" not in sentence and sentence.endswith(".")
