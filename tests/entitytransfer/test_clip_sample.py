"""Clips as samples: frames are read when they are asked for, checked, and an image can stand in for a clip."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import Cut, InputError, rle
from entitytransfer.clip_sample import ClipSample, PseudoClip, labelled_tracks
from entitytransfer.datasets import coco
from entitytransfer.readers.annotation_index import Texts
from entitytransfer.readers.ytvis_clips import ClipTracks

from .zero_shot_trees import PHOTOS

SIZE_HW = (20, 30)
WHOLE = Cut((0, 0, 30, 20), SIZE_HW)


@pytest.fixture
def moving() -> np.ndarray:
    """Two things in three frames, bool [F,N,H,W]: the first moves, the second is not in the middle frame."""
    masks = np.zeros((3, 2, *SIZE_HW), dtype=bool)
    for frame in range(3):
        masks[frame, 0, 2:8, 5 * frame : 5 * frame + 6] = True
        masks[frame, 1, 12:18, 10:20] = frame != 1
    return masks


@pytest.fixture
def clip(tmp_path: Path, moving: np.ndarray) -> ClipSample:
    """Frames of three brightnesses; a third track is a crowd."""
    paths = tuple(tmp_path / f"{frame}.png" for frame in range(3))
    for frame, path in enumerate(paths):
        Image.fromarray(np.full((*SIZE_HW, 3), 50 * frame, dtype=np.uint8)).save(path)
    counts = [rle.encode(mask)["counts"] if mask.any() else "" for masks in moving for mask in (*masks, masks[0])]
    annotation = ClipTracks(SIZE_HW, (3, 1, 0), (7, 5, 4), Texts.pack(counts), (1.0, 2.0, 0.0) * 3, 3, crowds=1)
    return ClipSample("a", paths, SIZE_HW, annotation, exhaustive=True)


def test_frames_are_read_in_order(clip):
    assert [int(read().mean()) for read in clip.frames] == [0, 50, 100]
    assert int(clip.read_frame(2).mean()) == 100
    views = clip.read_views(1, [WHOLE, Cut((0, 0, 10, 10), (5, 5))])
    assert [view.shape for view in views] == [(20, 30, 3), (5, 5, 3)]
    with pytest.raises(IndexError):
        clip.read_frame(3)


def test_masks_and_labels_leave_the_crowd_out(clip, moving):
    assert clip.labels().tolist() == [3, 1]
    for frame in range(3):
        np.testing.assert_array_equal(clip.cut_masks(frame, [WHOLE])[0], moving[frame])
    assert [one is None for one in clip.frame_rles(1)] == [False, True]
    assert rle.decode(clip.frame_rles(-1)[1]).tolist() == moving[2, 1].tolist()


def test_the_truth_has_the_crowd_last(clip):
    truth = clip.truth()
    assert truth.is_crowd.tolist() == [False, False, True]
    assert (truth.labels.tolist(), truth.category_ids.tolist()) == ([3, 1, 0], [7, 5, 4])
    assert truth.areas.tolist() == [[1] * 3, [2] * 3, [0] * 3]
    assert [one is None for one in truth.rles[1]] == [False, True, False]


def test_the_target_has_views_of_several_frames(clip, moving):
    target = labelled_tracks(clip, [WHOLE, WHOLE], (0, 2))
    np.testing.assert_array_equal(target.masks, moving[[0, 2]])
    assert target.labels.tolist() == [3, 1]
    with pytest.raises(ValueError):
        labelled_tracks(clip, [WHOLE, WHOLE], (0,))


@pytest.mark.parametrize("read", [lambda clip: clip.read_frame(1), lambda clip: clip.read_views(1, [WHOLE])])
def test_a_frame_of_another_size_is_refused(clip, read):
    Image.new("RGB", (31, 20)).save(clip.frame_paths[1])
    with pytest.raises(InputError, match=r"1\.png has height and width \(20, 31\) but its annotation says \(20, 30\)"):
        read(clip)
    clip.frame_paths[1].unlink()
    with pytest.raises(InputError, match="1.png"):
        read(clip)
    assert clip.read_frame(0).shape == (20, 30, 3)


def test_a_clip_travels_with_its_own_annotation_only(clip):
    sent = pickle.loads(pickle.dumps(clip))
    assert sent.clip_id == "a" and sent.frame_rles(1) == clip.frame_rles(1)
    assert len(pickle.dumps(clip)) < 4000


def test_an_image_as_a_clip():
    image = coco.read(PHOTOS, task="instance")[0]
    clip = pickle.loads(pickle.dumps(PseudoClip(image, 3)))
    cut = Cut((0, 0, *image.size_hw[::-1]), (40, 60))
    assert (clip.clip_id, clip.size_hw, clip.exhaustive, clip.annotated) == (image.image_id, image.size_hw, True, None)
    assert len(clip.frames) == len(clip.frame_paths) == 3
    np.testing.assert_array_equal(clip.read_frame(2), image.read_frame())
    np.testing.assert_array_equal(clip.read_views(1, [cut])[0], image.read_views([cut])[0])
    np.testing.assert_array_equal(clip.cut_masks(2, [cut])[0], image.cut_masks([cut])[0])
    assert clip.frame_rles(1) == image.entity_rles() and clip.labels().tolist() == image.labels().tolist()
    still, truth = image.truth(), clip.truth()
    assert truth.rles == [[one] * 3 for one in still.rles]
    assert truth.areas.tolist() == [[area] * 3 for area in still.areas.tolist()]
    with pytest.raises(IndexError):
        clip.read_frame(3)
