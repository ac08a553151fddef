"""Reading clips: exact frames and times, ranges, rotation, folders, and every kind of damage."""

import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from cropformer import IMAGE_SUFFIXES, InputError
from entitytransfer.readers.video import VIDEO_SUFFIXES, VideoReader
from entitytransfer.writers.video import VideoWriter

from .video_clips import (
    UPRIGHT,
    cut_off,
    grey_frame,
    index_of,
    remux,
    set_display_matrix,
    write_clip,
    write_groups,
    zero_middle,
)


def read(path: Path, **options: int) -> tuple[list[int], VideoReader]:
    with VideoReader(path, **options) as reader:
        return [frame.index for frame in reader], reader


def test_reads_every_frame_with_its_index_time_and_picture(tmp_path):
    with VideoReader(write_clip(tmp_path / "clip.mp4", 30)) as reader:
        frames = list(reader)
    assert (reader.size_hw, reader.fps, reader.declared_frames) == ((48, 64), 10.0, 30)
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 10 for index in range(30)])
    assert [index_of(frame.image) for frame in frames] == list(range(30))
    assert frames[0].image.dtype == np.uint8 and frames[0].image.shape == (48, 64, 3)
    assert reader.decoded_frames == 30 and reader.warning is None


def test_colors_survive_writing_and_reading(tmp_path):
    colors = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 100, 50), (255, 255, 255), (0, 0, 0)], np.uint8)
    with VideoWriter(tmp_path / "clip.mp4", fps=10, size_hw=(48, 64)) as video:
        for color in colors:
            video.write(np.broadcast_to(color, (48, 64, 3)))
    for frame, color in zip(VideoReader(tmp_path / "clip.mp4"), colors):
        np.testing.assert_allclose(frame.image[24, 32], color, atol=6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"stride": 4}, [0, 4, 8]),
        ({"start_frame": 3}, [3, 4, 5, 6, 7, 8, 9]),
        ({"end_frame": 2}, [0, 1]),
        ({"stride": 3, "start_frame": 2, "end_frame": 9}, [2, 5, 8]),
        ({"end_frame": 10}, list(range(10))),
        ({"end_frame": 99}, list(range(10))),
    ],
)
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_range_and_stride_choose_frames_by_index(tmp_path, kind, options, expected):
    path = write_clip(tmp_path / "clip.mp4", 10) if kind == "file" else write_folder(tmp_path, range(10))
    with VideoReader(path, **options) as reader:
        frames = list(reader)
    assert [frame.index for frame in frames] == expected
    assert [index_of(frame.image) for frame in frames] == expected
    assert reader.expected_frames == len(expected)
    assert reader.warning is None


def test_iterating_again_starts_from_the_beginning(tmp_path):
    reader = VideoReader(write_clip(tmp_path / "clip.mp4", 8))
    next(iter(reader))
    assert [frame.index for frame in reader] == list(range(8))
    assert [frame.index for frame in reader] == list(range(8))
    assert reader.decoded_frames == 8


@pytest.mark.parametrize(
    "options", [{"stride": 0}, {"start_frame": -1}, {"start_frame": 5, "end_frame": 5}, {"end_frame": 0}], ids=str
)
def test_a_range_that_cannot_hold_a_frame_is_refused(tmp_path, options):
    with pytest.raises(InputError, match="no range"):
        VideoReader(tmp_path / "clip.mp4", **options)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_starting_after_the_last_frame_says_how_long_the_clip_is(tmp_path, kind):
    path = write_clip(tmp_path / "clip.mp4", 10) if kind == "file" else write_folder(tmp_path, range(10))
    with pytest.raises(InputError, match="only 10 readable frames; begin before frame 10"):
        read(path, start_frame=10)


@pytest.mark.parametrize(
    ("abcd", "turn"),
    [
        (UPRIGHT, lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # how a phone marks a portrait clip: clockwise
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((-1, 0, 0, 1), np.fliplr),
        ((1, 0, 0, -1), np.flipud),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
    ],
)
def test_the_display_matrix_turns_and_mirrors_the_picture(tmp_path, abcd, turn):
    corners = np.zeros((48, 64, 3), dtype=np.uint8)
    corners[:24, :32], corners[:24, 32:], corners[24:, :32] = 60, 120, 240
    with VideoWriter(tmp_path / "clip.mp4", fps=10, size_hw=(48, 64)) as video:
        for _ in range(3):
            video.write(corners)
    set_display_matrix(tmp_path / "clip.mp4", abcd)
    with VideoReader(tmp_path / "clip.mp4") as reader:
        frames = list(reader)
    expected = turn(corners)
    assert reader.size_hw == expected.shape[:2]
    for frame in frames:
        assert np.abs(frame.image.astype(int) - expected).mean() < 3


def test_a_variable_rate_clip_keeps_its_times(tmp_path):
    times_s = [0.0, 0.1, 0.15, 0.5, 0.52]
    with VideoWriter(tmp_path / "clip.mp4", fps=10, size_hw=(48, 64)) as video:
        for index, time_s in enumerate(times_s):
            video.write(grey_frame(index), time_s=time_s)
    assert [frame.time_s for frame in VideoReader(tmp_path / "clip.mp4")] == pytest.approx(times_s, abs=1e-4)


# --- damage


def test_a_truncated_file_yields_what_it_holds_and_names_the_time(tmp_path):
    path = write_clip(tmp_path / "cut.mp4", 60, noise=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    indices, reader = read(path)
    assert 20 <= len(indices) <= 30
    assert indices == list(range(len(indices)))
    assert reader.decoded_frames == len(indices)
    told = re.fullmatch(
        rf"{re.escape(str(path))} is damaged or cut off at (\d\.\d\d) s: {len(indices)} of 60 frames could be read"
        r"(, those after the break perhaps with flaws)?; copy it again to get the rest\.",
        reader.warning,
    )
    # With one decoder thread FFmpeg conceals a last damaged frame or two, with several it drops them.
    assert told and len(indices) / 10 - 0.3 <= float(told[1]) <= len(indices) / 10


def test_a_range_before_the_cut_has_nothing_to_warn_about(tmp_path):
    path = write_clip(tmp_path / "cut.mp4", 60, noise=True)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    indices, reader = read(path, end_frame=10)
    assert indices == list(range(10)) and reader.warning is None


@pytest.mark.parametrize("zeros", [2000, 20_000], ids=["one frame damaged", "many frames lost"])
def test_damage_in_the_middle_is_named_and_what_follows_is_read_on(tmp_path, zeros):
    path = write_clip(tmp_path / "zeroed.mp4", 60, noise=True)
    original = [frame.image for frame in VideoReader(path)]
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + zeros] = bytes(zeros)
    path.write_bytes(content)
    with VideoReader(path) as reader:
        frames = list(reader)
    assert len(frames) == reader.decoded_frames > 30
    assert frames[-1].time_s == pytest.approx(5.9)
    broken_at_s = float(re.search(r"cut off at ([\d.]+) s", reader.warning)[1])
    before = [frame for frame in frames if frame.time_s < broken_at_s - 0.01]
    assert len(before) > 20
    assert all((frame.image == original[frame.index]).all() for frame in before)
    assert f"{len(frames)} of 60 frames could be read, those after the break perhaps with flaws" in reader.warning


@pytest.mark.parametrize("suffix", [".mp4", ".ts", ".mkv"])
def test_times_count_from_the_start_of_the_clip(tmp_path, suffix):
    path = remux(write_clip(tmp_path / "clip.mp4", 10), tmp_path / f"late{suffix}", shift_s=5.0)
    assert [frame.time_s for frame in VideoReader(path)] == pytest.approx([i / 10 for i in range(10)], abs=2e-3)


def test_frames_that_the_file_itself_leaves_out_are_not_missing(tmp_path):
    """Frames before time 0 go into the edit list of the mp4: counted in it, but never to be shown."""
    path = remux(write_clip(tmp_path / "clip.mp4", 30), tmp_path / "edited.mp4", shift_s=-0.5)
    indices, reader = read(path)
    assert reader.declared_frames == 30 and indices == list(range(25))
    assert reader.warning is None


def test_a_matroska_file_cut_off_is_noticed_by_its_duration(tmp_path):
    path = remux(write_clip(tmp_path / "clip.mp4", 60, noise=True), tmp_path / "clip.mkv")
    whole, reader = read(path)
    assert len(whole) == 60 and reader.warning is None and reader.expected_frames is None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cut, reader = read(path)
    assert 20 <= len(cut) <= 30
    assert f"{len(cut)} frames could be read" in reader.warning


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"hello", "is not a video"),
        (b"a long line of plain text\n" * 2000, "is not a video"),
        (None, "There is no video"),
    ],
    ids=["zero bytes", "short text", "long text", "missing"],
)
def test_what_is_no_video_is_refused_in_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=sentence) as error:
        VideoReader(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_cut_off_before_its_index_is_refused(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", 5)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="clip.mp4"):
        VideoReader(path)


def test_a_file_whose_pictures_are_all_destroyed_is_refused(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", 5)
    content = path.read_bytes()
    pictures = content.index(b"mdat") + 4
    path.write_bytes(content[:pictures] + bytes(len(content) - pictures))
    with pytest.raises(InputError, match="No frame of .*clip.mp4 can be decoded"):
        VideoReader(path)


def test_a_sound_file_has_no_video_stream(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("aac", rate=8000)
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        samples.sample_rate = 8000
        container.mux(stream.encode(samples))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no video stream"):
        VideoReader(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_late_range_before_the_cut_has_nothing_to_warn_about(tmp_path, suffix):
    path = remux(write_groups(tmp_path / "clip.mkv", 44, noise=True), tmp_path / f"a{suffix}", movflags="frag_keyframe")
    cut_off(path, 0.7)
    indices, reader = read(path, start_frame=17, end_frame=20)
    assert indices == [17, 18, 19] and reader.warning is None


def test_a_file_that_declares_more_than_it_holds_is_short(tmp_path):
    path = write_groups(tmp_path / "clip.mkv", 20)
    content = path.read_bytes()
    duration = content.index(b"\x44\x89\x88") + 3  # element Duration of Matroska, a float of 8 bytes, milliseconds
    path.write_bytes(content[:duration] + struct.pack(">d", 60_000.0) + content[duration + 8 :])
    indices, reader = read(path)
    assert indices == list(range(20))
    assert "damaged or cut off at 2.00 s: 20 frames could be read; copy it again" in reader.warning


def test_a_fragmented_file_cut_off_gives_its_whole_fragments(tmp_path):
    path = remux(write_clip(tmp_path / "clip.mp4", 20), tmp_path / "pieces.mp4", movflags="frag_every_frame")
    indices, _ = read(cut_off(path, 0.6))
    assert indices == list(range(len(indices))) and 5 < len(indices) < 20


def test_a_lost_picture_keeps_its_number(tmp_path):
    path = zero_middle(write_groups(tmp_path / "clip.mp4", 44, noise=True), 4000)
    with VideoReader(path) as reader:
        frames = [(frame.index, frame.time_s, index_of(frame.image)) for frame in reader]
    assert len(frames) < 44 and frames[-1][0] == 43 and reader.warning is not None
    assert all(time_s == pytest.approx(index / 10) for index, time_s, _ in frames)


def test_a_single_frame_is_a_clip(tmp_path):
    indices, reader = read(write_clip(tmp_path / "clip.mp4", 1))
    assert indices == [0] and reader.warning is None


def test_odd_sides_are_read_as_they_are(tmp_path):
    with av.open(tmp_path / "clip.mkv", "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 47, 63, "bgr0"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey_frame(9, (47, 63)), format="rgb24")))
        container.mux(stream.encode(None))
    (frame,) = VideoReader(tmp_path / "clip.mkv")
    np.testing.assert_array_equal(frame.image, grey_frame(9, (47, 63)))


def test_of_several_video_streams_the_film_is_taken_and_not_the_cover(tmp_path):
    film = write_clip(tmp_path / "film.mp4", 12)
    with av.open(film) as source, av.open(tmp_path / "two.mkv", "w") as container:
        cover = container.add_stream("mjpeg", rate=10)
        cover.height, cover.width, cover.pix_fmt = 16, 16, "yuvj420p"
        copy = container.add_stream_from_template(source.streams.video[0])
        container.mux(cover.encode(av.VideoFrame.from_ndarray(grey_frame(0, (16, 16)), format="rgb24")))
        container.mux(cover.encode(None))
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                container.mux(packet)
    with VideoReader(tmp_path / "two.mkv") as reader:
        assert [index_of(frame.image) for frame in reader] == list(range(12))
    assert reader.size_hw == (48, 64)


# --- folders


def write_folder(parent: Path, indices: range, suffix: str = ".png") -> Path:
    """Images whose natural order differs from the alphabetical one: 0, 1, ... 10, 11."""
    folder = parent / "frames"
    folder.mkdir()
    for index in indices:
        Image.fromarray(grey_frame(index)).save(folder / f"frame{index}{suffix}")
    return folder


def test_a_folder_of_images_is_a_clip_in_natural_order(tmp_path):
    folder = write_folder(tmp_path, range(12))
    (folder / "notes.txt").write_text("not a frame")
    with VideoReader(folder) as reader:
        frames = list(reader)
    assert (reader.size_hw, reader.fps, reader.declared_frames) == ((48, 64), 24.0, 12)
    assert [index_of(frame.image) for frame in frames] == list(range(12))
    assert frames[6].time_s == pytest.approx(0.25)


def test_a_damaged_image_of_a_folder_is_left_out_and_reported(tmp_path):
    folder = write_folder(tmp_path, range(12))
    (folder / "frame6.png").write_bytes(b"no image")
    indices, reader = read(folder)
    assert indices == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert "at 0.25 s: 11 of 12 frames" in reader.warning
    assert read(folder, start_frame=11)[0] == [11]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no image"):
        VideoReader(tmp_path)


def test_images_of_two_sizes_are_no_clip(tmp_path):
    folder = write_folder(tmp_path, range(3))
    Image.new("RGB", (30, 20)).save(folder / "frame3.png")
    with pytest.raises(InputError, match="frame3.png is 30x20 where the clip began with 64x48"):
        read(folder)


def test_video_suffixes_are_lower_case_and_no_image(tmp_path):
    assert {".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"} <= VIDEO_SUFFIXES
    assert not VIDEO_SUFFIXES & IMAGE_SUFFIXES
