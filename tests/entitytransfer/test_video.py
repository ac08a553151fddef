"""Clips end to end with a small model that sees colours: identity, streaming, ranges."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cropformer
from cropformer import Entities, InputError
from entitytransfer import video as video_module
from entitytransfer.classes import ENTITY
from entitytransfer.clip_heads import ClipEntityHead, ClipInstanceHead, ClipPanopticHead
from entitytransfer.clip_sample import ClipSample
from entitytransfer.readers.video import VideoReader
from entitytransfer.streaming.segmented_clip import WindowTracks
from entitytransfer.streaming.track_store import TrackStore
from entitytransfer.tracking.window_result import WindowResult, gather_window
from entitytransfer.tracklets import FrameResult
from entitytransfer.video import VideoSegmenter
from entitytransfer.writers.video import VideoWriter

from .video_clips import write_groups

SIZE_HW = (48, 96)
RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (40, 40, 230)


class ColorModel:
    """Finds the red, green and blue squares of a window; its queries change their order with every window.

    With ``lookalike`` embeddings nothing but the masks tells the squares apart.
    """

    settings = cropformer.TestSettings(short_side=32, max_side=64, crops=4, min_score=0.25)

    def __init__(self, *, lookalike: bool = False) -> None:
        self.windows: list[tuple[int, int]] = []
        self.lookalike = lookalike

    def clip_predictor(self, **options) -> "ColorModel":
        self.options = options
        return self

    def network_bytes(self, size_hw: tuple[int, int], *, frames: int) -> int:
        assert size_hw == SIZE_HW
        return frames * 10**6

    def predict(self, frames, predict, *, known: int) -> WindowResult:
        self.windows.append((len(frames), known))
        order = np.random.default_rng(frames[0].sum()).permutation(3)
        colors = np.array([RED, GREEN, BLUE])[order]
        embeddings = np.ones((3, 3)) if self.lookalike else colors / np.linalg.norm(colors, axis=1, keepdims=True)
        found = [self._segment(image, colors, embeddings) for image in frames]
        return gather_window(found, class_probs=np.tile([0.75, 0.25], (3, 1)), embeddings=embeddings)

    def _segment(self, image: np.ndarray, colors: np.ndarray, embeddings: np.ndarray) -> Entities:
        distance = np.abs(image.astype(int)[None] - colors[:, None, None]).sum(axis=-1)  # [3,H,W]
        masks = distance < 120
        seen = masks.any(axis=(1, 2))
        return Entities.from_masks(
            masks[seen],
            scores=np.full(seen.sum(), 0.8),
            labels=np.zeros(seen.sum()),
            embeddings=embeddings[seen],
            query_ids=np.flatnonzero(seen),
        )


def paint(*squares: tuple[tuple[int, int, int], int]) -> np.ndarray:
    """Grey frame with a 16 x 16 square per (colour, x); the later ones in front."""
    image = np.full((*SIZE_HW, 3), 128, dtype=np.uint8)
    for color, x in squares:
        image[16:32, max(x, 0) : max(x + 16, 0)] = color
    return image


def crossing(frames: int = 21) -> list[np.ndarray]:
    """Red goes right in front of green, which goes left and is hidden for a moment; blue comes later."""
    painted = []
    for index in range(frames):
        squares = [(GREEN, 80 - 4 * index), (RED, 4 * index)]
        painted.append(paint(*squares, *([(BLUE, 0)] if index > frames // 2 else [])))
    return painted


def write_clip(path: Path, images: list[np.ndarray], *, fps: float = 10.0) -> Path:
    with VideoWriter(path, fps=fps, size_hw=SIZE_HW) as video:
        for image in images:
            video.write(image)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "crossing.mp4", crossing())


def color_of(result: FrameResult, entity: int) -> str:
    mean = result.image[result.entities.masks()[entity]].mean(axis=0)
    return "RGB"[int(np.argmax(mean))]


def ids_by_color(results: list[FrameResult]) -> dict[str, set[int]]:
    ids: dict[str, set[int]] = {}
    for result in results:
        for entity, track_id in enumerate(result.track_ids.tolist()):
            ids.setdefault(color_of(result, entity), set()).add(track_id)
    return ids


@pytest.mark.parametrize(("window", "overlap"), [(1, 0), (2, 1), (4, 1), (5, 0), (6, 3), (50, 1)])
def test_ids_last_through_a_crossing_and_a_newcomer_gets_a_fresh_one(clip, window, overlap):
    results = list(VideoSegmenter(ColorModel(), window=window, overlap=overlap).segment(clip))
    ids = ids_by_color(results)
    assert all(len(track_ids) == 1 for track_ids in ids.values())
    assert len(set.union(*ids.values())) == 3
    hidden = [result.index for result in results if len(result.entities) < 2]
    assert hidden  # green really went out of sight


def test_shared_frames_keep_lookalikes_apart(tmp_path):
    images = [paint((RED, 2 * index), (GREEN, 40), (BLUE, 80 - index)) for index in range(10)]
    clip = write_clip(tmp_path / "clip.mp4", images)
    results = list(VideoSegmenter(ColorModel(lookalike=True), window=3, overlap=1).segment(clip))
    assert sorted(map(tuple, ids_by_color(results).values())) == [(1,), (2,), (3,)]


@pytest.mark.parametrize(("window", "overlap"), [(1, 0), (3, 1), (4, 3), (21, 1), (22, 1)])
def test_every_frame_comes_once_with_its_time_and_picture(clip, window, overlap):
    results = list(VideoSegmenter(ColorModel(), window=window, overlap=overlap).segment(clip))
    assert [result.index for result in results] == list(range(21))
    assert [result.time_s for result in results] == pytest.approx([index / 10 for index in range(21)])
    for result, frame in zip(results, VideoReader(clip)):
        np.testing.assert_array_equal(result.image, frame.image)
        assert len(result.track_ids) == len(result.entities)


def test_windows_share_their_frames_and_the_last_may_be_short(clip):
    """And those that the predictor has seen are said to be known."""
    model = ColorModel()
    list(VideoSegmenter(model, window=4, overlap=1).segment(clip, end_frame=12))
    assert model.windows == [(4, 0), (4, 1), (4, 1), (3, 1)]  # frames 0-3, 3-6, 6-9, 9-11
    model = ColorModel()
    list(VideoSegmenter(model, window=4, overlap=1).segment(clip, end_frame=10))
    assert model.windows == [(4, 0), (4, 1), (4, 1)]


def test_range_and_stride_reach_the_clip(clip):
    segmented = VideoSegmenter(ColorModel()).segment(clip, stride=3, start_frame=2, end_frame=15)
    assert (segmented.fps, segmented.size_hw, segmented.expected_frames) == (
        pytest.approx(10 / 3),
        SIZE_HW,
        5,
    )
    assert [result.index for result in segmented] == [2, 5, 8, 11, 14]


def test_numbers_are_handed_to_the_model(clip):
    model = ColorModel()
    numbers = {"short_side": 32, "max_side": 64, "crops": 4, "precision": "bf16"}
    next(VideoSegmenter(model, overlap=2, max_memory="2MB", **numbers).segment(clip))
    assert model.options == {**numbers, "overlap": 2, "max_memory": 2 * 10**6}


def test_the_score_goes_to_the_head():
    assert VideoSegmenter(ColorModel()).head == ClipEntityHead(min_score=0.25)
    assert VideoSegmenter(ColorModel(), min_score=0.5).head == ClipEntityHead(min_score=0.5)
    head = ClipInstanceHead(ENTITY)
    assert VideoSegmenter(ColorModel(), head=head).head is head
    with pytest.raises(InputError, match="The head has its own min_score"):
        VideoSegmenter(ColorModel(), head=head, min_score=0.5)


# --- one window


def test_without_windows_the_whole_clip_is_seen_at_once(clip):
    model = ColorModel()
    results = list(VideoSegmenter(model, window=None).segment(clip))
    assert model.windows == [(21, 0)]
    assert [result.index for result in results] == list(range(21))
    assert all(len(track_ids) == 1 for track_ids in ids_by_color(results).values())


def test_a_clip_that_is_too_long_for_one_window_is_refused_at_once(clip, tmp_path):
    with pytest.raises(InputError, match="21 frames of the clip need about 21 MB .* max_memory is 20 MB; use windows"):
        VideoSegmenter(ColorModel(), window=None, max_memory="20MB").segment(clip)
    assert len(list(VideoSegmenter(ColorModel(), window=None, max_memory="21MB").segment(clip))) == 21
    longer = write_clip(tmp_path / "longer.mp4", [paint()] * 65)
    with pytest.raises(InputError, match="more than 64 frames, too many to be seen at once; use windows"):
        VideoSegmenter(ColorModel(), window=None).segment(longer)


def test_a_clip_of_unknown_length_is_refused_when_it_turns_out_too_long(clip, monkeypatch):
    class SilentReader(VideoReader):
        expected_frames = property(lambda self: None, lambda self, value: None)

    monkeypatch.setattr(video_module, "VideoReader", SilentReader)
    segmented = VideoSegmenter(ColorModel(), window=None, max_memory="5MB").segment(clip)
    with pytest.raises(InputError, match="The 6 frames of the clip need"):
        next(segmented)


# --- going on


def assert_same(ours: list[FrameResult], theirs: list[FrameResult]) -> None:
    assert [one.index for one in ours] == [one.index for one in theirs]
    assert [one.time_s for one in ours] == [one.time_s for one in theirs]
    for one, other in zip(ours, theirs):
        assert one.track_ids.tolist() == other.track_ids.tolist()
        assert one.entities.rles == other.entities.rles
        for name in ("scores", "labels", "embeddings"):
            np.testing.assert_array_equal(getattr(one.entities, name), getattr(other.entities, name))
        np.testing.assert_array_equal(one.image, other.image)


def assert_same_windows(ours: list[WindowTracks], theirs: list[WindowTracks]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs):
        assert_same(one.frames, other.frames)
        np.testing.assert_equal(one.links, other.links)


def check_going_on(segmenter: VideoSegmenter, clip: Path, **options) -> None:
    whole = segmenter.segment(clip, **options)
    expected, windows = whole.expected_frames, list(whole.windows)
    for stop in range(1, len(windows) + 1):
        again = segmenter.segment(clip, **options, state=windows[stop - 1].state)
        given = sum(len(window.frames) for window in windows[:stop])
        assert again.expected_frames == expected - given
        assert_same_windows(list(again.windows), windows[stop:])


@pytest.mark.parametrize(("window", "overlap"), [(7, 0), (8, 2), (30, 5), (None, 1)])
def test_a_run_that_goes_on_equals_one_that_did_not_stop(clip, window, overlap):
    check_going_on(VideoSegmenter(ColorModel(), window=window, overlap=overlap), clip)


class PaintedSample(ClipSample):
    """A clip of a dataset whose frames are painted when they are asked for."""

    def read_frame(self, frame: int) -> np.ndarray:
        return crossing(len(self.frame_paths))[frame]


@st.composite
def cuts(draw) -> tuple[dict, dict, int]:
    """Windows, a range with a frame at least, and the length of the clip."""
    window = draw(st.none() | st.integers(1, 6))
    overlap = draw(st.integers(0, min((window or 1) - 1, 3)))
    frames, stride = draw(st.integers(1, 16)), draw(st.sampled_from([1, 2, 3]))
    start = draw(st.integers(0, frames - 1))
    end = draw(st.none() | st.integers(start + 1, frames + 2))
    return (
        {"window": window, "overlap": overlap},
        {"stride": stride, "start_frame": start, "end_frame": end},
        frames,
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cut=cuts(), data=st.data())
def test_any_windows_give_every_frame_once_and_go_on_after_any_of_them(cut, data):
    """Also from the state that is kept on disk."""
    numbers, options, frames = cut
    paths = tuple(Path(str(index)) for index in range(frames))
    clip = PaintedSample("clip", paths, SIZE_HW, annotation=None, exhaustive=True)
    segmenter = VideoSegmenter(ColorModel(), **numbers)
    windows = list(segmenter.segment(clip, **options).windows)
    given_out = [frame.index for window in windows for frame in window.frames]
    assert given_out == list(range(frames)[options["start_frame"] : options["end_frame"] : options["stride"]])
    stop = data.draw(st.integers(1, len(windows)), label="stop")
    with TrackStore(None, {}) as store:
        for window in windows[:stop]:
            store.append(window)
        again = segmenter.segment(clip, **options, state=store.resume())
    assert_same_windows(list(again.windows), windows[stop:])


def test_one_window_as_long_as_the_clip_is_the_clip_at_once(clip):
    at_once, one_window = (VideoSegmenter(ColorModel(), window=window).segment(clip) for window in (None, 21))
    assert_same_windows(list(at_once.windows), list(one_window.windows))


def test_a_run_goes_on_in_its_range(clip):
    check_going_on(VideoSegmenter(ColorModel(), window=3), clip, stride=2, start_frame=3, end_frame=20)


@pytest.mark.parametrize("head", [None, ClipInstanceHead(ENTITY), ClipPanopticHead(ENTITY, min_score=0.3)])
def test_a_run_of_the_network_goes_on_bit_for_bit(tiny_model, clip, head):
    check_going_on(VideoSegmenter(tiny_model, head=head, window=3), clip, end_frame=8)


# --- the network


def test_a_window_of_one_frame_is_the_image(tiny_model, clip):
    results = VideoSegmenter(tiny_model, window=1, overlap=0).segment(clip, end_frame=3)
    for result in results:
        expected = tiny_model.segment(result.image, crops=0)
        assert result.entities.rles == expected.rles
        np.testing.assert_array_equal(result.entities.scores, expected.scores)


def test_without_windows_the_result_is_that_of_the_clip(tiny_model, clip):
    results = list(VideoSegmenter(tiny_model, window=None, crops=4).segment(clip, end_frame=3))
    expected = tiny_model.segment_clip([result.image for result in results], crops=4)
    assert [result.entities.rles for result in results] == [one.rles for one in expected]


# --- reading


@pytest.mark.parametrize("window", [1, 3, 4])
def test_the_segmenter_reads_at_most_one_window_ahead(clip, monkeypatch, window):
    read = []

    class CountingReader(VideoReader):
        def frames_from(self, index: int) -> Iterator:
            for frame in super().frames_from(index):
                read.append(frame.index)
                yield frame

    monkeypatch.setattr(video_module, "VideoReader", CountingReader)
    segmented = VideoSegmenter(ColorModel(), window=window, overlap=min(1, window - 1)).segment(clip)
    assert not read
    for result in segmented:
        assert read[-1] - result.index < window


def test_frames_that_were_given_out_are_let_go(clip, monkeypatch):
    """Whatever the length of the clip, two windows of pictures are alive at most."""
    pictures = []

    class WatchedReader(VideoReader):
        def frames_from(self, index: int) -> Iterator:
            for frame in super().frames_from(index):
                pictures.append(weakref.ref(frame))
                yield frame

    monkeypatch.setattr(video_module, "VideoReader", WatchedReader)
    for _ in VideoSegmenter(ColorModel(), window=3).segment(clip):
        assert sum(picture() is not None for picture in pictures) <= 6
    assert len(pictures) == 21


def test_the_readers_warning_reaches_the_caller(tmp_path):
    noise = np.random.default_rng(0).integers(0, 100, (40, *SIZE_HW, 3), np.uint8)
    path = write_clip(tmp_path / "cut.mp4", list(noise))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    segmented = VideoSegmenter(ColorModel()).segment(path)
    results = list(segmented)
    assert 10 < len(results) < 25
    assert f"{len(results)} of 40 frames could be read" in segmented.warning
    whole = VideoSegmenter(ColorModel()).segment(write_clip(tmp_path / "whole.mp4", list(noise)))
    assert len(list(whole)) == 40 and whole.warning is None


@pytest.mark.parametrize("stride", [1, 3])
def test_a_run_that_goes_on_warns_of_what_was_met_before(tmp_path, stride):
    """Although it begins at a key frame behind the damage, and reads the end once more."""
    clip = write_groups(tmp_path / "clip.mp4", 40, noise=True)
    content = bytearray(clip.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 500] = bytes(500)
    clip.write_bytes(content)
    segmenter = VideoSegmenter(ColorModel(), overlap=2)
    segmented = segmenter.segment(clip, stride=stride)
    windows = list(segmented.windows)
    assert "is damaged or cut off at" in segmented.warning
    for window in windows:
        again = segmenter.segment(clip, stride=stride, state=window.state)
        list(again.windows)
        assert again.warning == segmented.warning


def test_a_bad_clip_is_refused_before_any_result(tmp_path):
    with pytest.raises(InputError, match="There is no video"):
        VideoSegmenter(ColorModel()).segment(tmp_path / "missing.mp4")


@pytest.mark.parametrize(("window", "overlap"), [(4, 4), (0, 0), (2, -1)])
def test_windows_that_cannot_advance_are_refused(window, overlap):
    with pytest.raises(InputError, match="overlap"):
        VideoSegmenter(ColorModel(), window=window, overlap=overlap)


def test_a_memory_below_nothing_is_refused():
    with pytest.raises(InputError, match="cannot be remembered for -1 windows; give a memory of 0 or more"):
        VideoSegmenter(ColorModel(), memory=-1)
