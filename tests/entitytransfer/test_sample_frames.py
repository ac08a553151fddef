"""A clip of a dataset as a stream of frames."""

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError
from entitytransfer.clip_sample import ClipSample
from entitytransfer.streaming.sample_frames import SampleFrames
from entitytransfer.video import VideoSegmenter


@pytest.fixture
def sample(tmp_path) -> ClipSample:
    """Seven frames of 16x24 pixels, each of one grey, whose files are not in the order of their names."""
    paths = tuple(tmp_path / f"{(3 * index) % 7}.png" for index in range(7))
    for index, path in enumerate(paths):
        Image.fromarray(np.full((16, 24, 3), 10 * index, np.uint8)).save(path)
    return ClipSample("clip", paths, (16, 24), annotation=None, exhaustive=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6]),
        ({"stride": 3, "start_frame": 1}, [1, 4]),
        ({"end_frame": 3}, [0, 1, 2]),
        ({"end_frame": 99, "stride": 2}, [0, 2, 4, 6]),
    ],
)
def test_the_frames_of_a_range_come_in_the_order_of_the_clip(sample, options, expected):
    with SampleFrames(sample, **options) as frames:
        found = list(frames)
    assert [frame.index for frame in found] == expected
    assert [int(frame.image.mean()) for frame in found] == [10 * index for index in expected]
    assert [frame.time_s for frame in found] == pytest.approx([index / frames.fps for index in expected])
    assert (frames.expected_frames, frames.size_hw, frames.warning) == (len(expected), (16, 24), None)
    assert [frame.index for frame in frames.frames_from(3)] == [index for index in expected if index >= 3]


def test_a_range_without_a_frame_is_refused(sample):
    with pytest.raises(InputError, match="Clip clip has 7 frames and none in the range from 7 to None"):
        SampleFrames(sample, start_frame=7)
    for nonsense in ({"stride": 0}, {"start_frame": -1}, {"start_frame": 3, "end_frame": 2}):
        with pytest.raises(InputError, match="are no range"):
            SampleFrames(sample, **nonsense)


def test_a_missing_frame_is_named(sample):
    sample.frame_paths[2].unlink()
    with pytest.raises(InputError, match=sample.frame_paths[2].name):
        list(SampleFrames(sample))


def test_a_clip_of_a_dataset_can_be_segmented(sample, tiny_model):
    results = list(VideoSegmenter(tiny_model).segment(sample, stride=2))
    assert [result.index for result in results] == [0, 2, 4, 6]
    assert all(result.entities.size_hw == (16, 24) for result in results)
