"""Every way to decode gives the same frames; seeking gives those that counting would; pipes; missing packages."""

import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cropformer import InputError
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.readers.video import VideoReader
from entitytransfer.segment import segment

from .video_clips import cut_off, grey_frame, index_of, remux, set_display_matrix, write_clip, write_groups, zero_middle

VARIABLE_S = [0.05 * (i + (i * i) % 7 / 10) for i in range(44)]


CLIPS: dict[str, Callable[[Path], Path]] = {
    "one group": lambda folder: write_clip(folder / "clip.mp4", 44),
    "open groups": lambda folder: write_groups(folder / "clip.mp4", 44),
    "variable rate": lambda folder: write_groups(folder / "clip.mp4", 44, times_s=VARIABLE_S),
    "matroska": lambda folder: write_groups(folder / "clip.mkv", 44, times_s=VARIABLE_S),
    "late": lambda folder: remux(write_groups(folder / "a.mp4", 44), folder / "b.mp4", shift_s=5.0),
    "edit list": lambda folder: remux(write_groups(folder / "a.mp4", 44), folder / "b.mp4", shift_s=-1.5),
    "fragmented": lambda folder: remux(write_groups(folder / "a.mp4", 44), folder / "b.mp4", movflags="frag_keyframe"),
    "broadcast": lambda folder: write_groups(folder / "clip.ts", 44),
    "avi": lambda folder: write_groups(folder / "clip.avi", 44, clock_hz=10),
    "all key frames": lambda folder: write_groups(folder / "clip.mp4", 44, group=1),
    "zeroed": lambda folder: zero_middle(write_groups(folder / "clip.mp4", 44, noise=True), 2000),
}


def is_installed(backend: str, folder: Path) -> bool:
    """Whether a backend decodes a clip: some can be imported and still not be used."""
    try:
        with VideoReader(write_clip(folder / "probe.mp4", 2), backend=backend) as reader:
            return len(list(reader)) == 2
    except InputError:
        return False


@pytest.fixture(scope="module", params=["decord", "torchcodec", "opencv"])
def backend(request, tmp_path_factory) -> str:
    if not is_installed(request.param, tmp_path_factory.mktemp("probe")):
        pytest.skip(f"{request.param} is not installed")
    return request.param


def read(path: Path | str, **options) -> list[tuple[int, float, np.ndarray]]:
    with VideoReader(path, **options) as reader:
        return [(frame.index, frame.time_s, frame.image) for frame in reader]


def assert_same(one: list, other: list) -> None:
    assert [frame[0] for frame in one] == [frame[0] for frame in other]
    assert [frame[1] for frame in one] == pytest.approx([frame[1] for frame in other], abs=1e-6)
    assert all(np.abs(a[2].astype(int) - b[2]).max() <= 2 for a, b in zip(one, other))


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 5}, {"start_frame": 17, "end_frame": 40, "stride": 3}, {"start_s": 0.9, "end_s": 1.7, "stride": 2}],
    ids=str,
)
@pytest.mark.parametrize("kind", ["open groups", "variable rate", "matroska", "late", "fragmented"])
def test_all_backends_give_the_same_frames(tmp_path, backend, kind, options):
    path = CLIPS[kind](tmp_path)
    expected = read(path, **options)
    assert expected
    assert_same(read(path, backend=backend, **options), expected)


def test_a_run_of_any_backend_is_taken_up_again(tmp_path, backend):
    path = CLIPS["open groups"](tmp_path)
    reader = VideoReader(path, backend=backend, start_frame=2, stride=3)
    assert [frame.index for frame in reader.frames_from(30)] == [32, 35, 38, 41]
    assert list(reader.frames_from(42)) == list(reader.frames_from(1000)) == []
    with pytest.raises(InputError, match="only 44 readable frames"):
        read(path, backend=backend, start_frame=44)


@pytest.mark.parametrize("damage", ["truncated", "zeroed", "zeroed early"])
def test_what_a_backend_cannot_decode_pyav_does_and_names_the_break(tmp_path, backend, damage):
    path = write_clip(tmp_path / "clip.mp4", 60, noise=True)
    cut_off(path) if damage == "truncated" else zero_middle(path, 2000)
    if damage == "zeroed early":
        content = bytearray(path.read_bytes())
        start = content.index(b"mdat") + 4
        content[start + 4000 : start + 8000] = bytes(4000)  # of the second and third frame
        path.write_bytes(content)
    with VideoReader(path) as reader:
        expected = [frame.index for frame in reader]
        warning = reader.warning
    with VideoReader(path, backend=backend) as reader:
        assert [frame.index for frame in reader] == expected
        assert reader.warning is not None
        # With several decoder threads FFmpeg may conceal or drop the last frames before a break.
        assert reader.warning.split(" s: ")[1] == warning.split(" s: ")[1]


@pytest.mark.parametrize("abcd", [(0, 1, -1, 0), (-1, 0, 0, -1), (-1, 0, 0, 1), (0, 1, 1, 0)], ids=str)
def test_a_turned_picture_is_turned_or_refused(tmp_path, backend, abcd):
    path = set_display_matrix(write_groups(tmp_path / "clip.mp4", 5), abcd)
    try:
        frames = read(path, backend=backend)
    except InputError as error:
        assert backend != "opencv" and str(path) in str(error) and "pyav" in str(error)
    else:
        assert_same(frames, read(path))


@pytest.mark.parametrize("kind", ["broadcast", "edit list"])
def test_what_other_libraries_count_wrongly_is_read_by_pyav_alone(tmp_path, backend, kind):
    path = CLIPS[kind](tmp_path)
    with pytest.raises(InputError, match="only the backend pyav"):
        VideoReader(path, backend=backend)


@pytest.mark.parametrize("package", ["decord", "torchcodec"])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, package):
    path = write_clip(tmp_path / "clip.mp4", 2)
    for name in (package, f"{package}.decoders"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf'{package} is missing.*pip install "cropformer\[{package}\]"'):
        VideoReader(path, backend=package)


def test_an_unknown_backend_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="'ffmpeg'; choose pyav, decord, torchcodec or opencv"):
        VideoReader(write_clip(tmp_path / "clip.mp4", 2), backend="ffmpeg")


# --- seeking


@pytest.mark.parametrize("kind", CLIPS)
def test_seeking_gives_what_counting_gives(tmp_path, kind):
    path = CLIPS[kind](tmp_path)
    whole = read(path)
    assert len(whole) >= 25
    for start in (1, 6, 12, 13, 14, 21, 27):
        expected = [frame for frame in whole if frame[0] >= start]
        found = read(path, start_frame=start)
        if kind == "zeroed":  # after a seek the pictures around the damage are concealed from other neighbours
            assert {frame[0] for frame in found} <= set(range(start, 44)) and found[-1][0] == expected[-1][0]
        else:
            assert_same(found, expected)


@pytest.mark.parametrize("kind", ["variable rate", "late", "edit list", "broadcast"])
@pytest.mark.parametrize("stride", [1, 3])
def test_a_range_in_seconds_is_chosen_by_the_true_times(tmp_path, kind, stride):
    path = CLIPS[kind](tmp_path)
    whole = read(path)
    times_s = [frame[1] for frame in whole]
    for start_s, end_s in [(0.0, times_s[9]), (times_s[9], times_s[20]), (times_s[19] + 0.001, 99.0)]:
        inside = [frame for frame in whole if start_s - 1e-6 <= frame[1] < end_s - 1e-6]
        assert_same(read(path, start_s=start_s, end_s=end_s, stride=stride), inside[::stride])


def test_limits_in_frames_and_seconds_hold_together(tmp_path):
    path = write_groups(tmp_path / "clip.mp4", 30)
    assert [frame[0] for frame in read(path, start_s=0.5, start_frame=8, end_s=2.0, end_frame=15)] == list(range(8, 15))
    reader = VideoReader(path, start_s=0.5, end_s=2.0, stride=2)
    assert reader.expected_frames == len(list(reader)) == 8


@pytest.mark.parametrize("source", ["variable rate", "broadcast", "folder"])
@pytest.mark.parametrize("options", [{"stride": 3, "start_frame": 2}, {"stride": 4, "start_s": 0.33}], ids=str)
def test_a_run_is_taken_up_again_at_any_frame(tmp_path, source, options):
    path = write_frames(tmp_path / "frames", 30) if source == "folder" else CLIPS[source](tmp_path)
    reader = VideoReader(path, **options)
    whole = [(frame.index, frame.image) for frame in reader]
    for index in (0, whole[3][0], whole[3][0] + 1, whole[-1][0]):
        rest = [(frame.index, frame.image) for frame in reader.frames_from(index)]
        assert [number for number, _ in rest] == [number for number, _ in whole if number >= index]
        assert all((image == dict(whole)[number]).all() for number, image in rest)
    assert list(reader.frames_from(1000)) == [] and reader.warning is None


def test_a_late_start_does_not_decode_what_comes_before(tmp_path):
    path = write_groups(tmp_path / "clip.mp4", 44)
    content = bytearray(path.read_bytes())
    begin = content.index(b"mdat") + 4
    content[begin : begin + 600] = bytes(600)  # the first key frame and its followers
    path.write_bytes(content)
    with VideoReader(path, start_frame=30) as reader:
        assert [index_of(frame.image) for frame in reader] == list(range(30, 44))
    assert reader.warning is None and reader.decoded_frames == 44


def test_starting_behind_the_end_names_the_end_in_the_same_unit(tmp_path):
    path = write_groups(tmp_path / "clip.mp4", 20)
    with pytest.raises(InputError, match="only 20 readable frames; begin before frame 20"):
        read(path, start_frame=20)
    with pytest.raises(InputError, match=r"ends at 2\.00 s; begin before 2\.50 s"):
        read(path, start_s=2.5)


@pytest.mark.parametrize("times", [{"start_s": 2.0, "end_s": 2.0}, {"start_s": -1.0}], ids=str)
def test_a_range_of_no_time_is_refused(tmp_path, times):
    with pytest.raises(InputError, match="is no range"):
        VideoReader(tmp_path / "clip.mp4", **times)


# --- pipes and numbered frames


@pytest.fixture
def pipe() -> Callable[[bytes], None]:
    """A function that puts bytes on the standard input."""
    kept = os.dup(0)
    feeders: list[threading.Thread] = []

    def feed(content: bytes) -> None:
        end, beginning = os.pipe()
        os.dup2(end, 0)
        os.close(end)

        def write() -> None:
            try:
                with os.fdopen(beginning, "wb") as file:
                    file.write(content)
            except BrokenPipeError:
                pass  # what was refused is not read to the end

        feeders.append(threading.Thread(target=write))
        feeders[-1].start()

    yield feed
    os.dup2(kept, 0)
    os.close(kept)
    for feeder in feeders:
        feeder.join()


@pytest.mark.parametrize("kind", ["broadcast", "matroska", "fragmented", "one group"])
def test_a_pipe_gives_the_frames_of_the_file(tmp_path, pipe, kind):
    path = CLIPS[kind](tmp_path)
    pipe(path.read_bytes())
    options = {"start_frame": 3, "stride": 2, "end_s": 3.0}
    with VideoReader("-", **options) as reader:
        frames = [(frame.index, frame.time_s, frame.image) for frame in reader]
        assert reader.warning is None
        with pytest.raises(InputError, match="can be read only once"):
            list(reader)
    assert_same(frames, read(path, **options))


def test_a_pipe_that_breaks_gives_what_came_and_a_warning(tmp_path, pipe):
    path = remux(write_clip(tmp_path / "clip.mp4", 60, noise=True), tmp_path / "clip.mkv")
    pipe(cut_off(path).read_bytes())
    with VideoReader("-") as reader:
        count = len(list(reader))
    assert 20 <= count <= 30
    assert re.match(rf"the standard input \(-\) is damaged or cut off at 2\.\d\d s: {count} frames", reader.warning)


def test_an_mp4_with_its_index_at_the_end_cannot_be_streamed(tmp_path, pipe):
    path = remux(write_clip(tmp_path / "first.mp4", 60, noise=True), tmp_path / "last.mp4")
    assert path.read_bytes().index(b"mdat") < path.read_bytes().index(b"moov")
    pipe(path.read_bytes())
    with pytest.raises(InputError, match=r"standard input.*an mp4 with its index at the end cannot be streamed"):
        VideoReader("-")


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 100], ids=["nothing", "text"])
def test_a_pipe_without_a_video_is_refused(pipe, content):
    pipe(content)
    with pytest.raises(InputError, match="No video could be read from the standard input"):
        VideoReader("-")


def test_the_command_segments_a_range_of_a_pipe_and_of_numbered_frames(tmp_path, pipe, options):
    options = SegmentOptions(**{**vars(options), "start_s": 0.25, "end_s": 0.7, "stride": 2})
    pipe(CLIPS["matroska"](tmp_path).read_bytes())
    folder = write_frames(tmp_path / "walk", 20, name="{:03d}.png")
    outcome = segment(["-", folder / "%03d.png"], options)
    assert (outcome.done, outcome.errors) == (2, [])
    expected = read(tmp_path / "clip.mkv", start_s=0.25, end_s=0.7, stride=2)
    names = sorted(path.name for path in (options.out_dir / "stdin_ids").iterdir())
    assert names == [f"{index:06d}.png" for index, _, _ in expected]
    assert (options.out_dir / "stdin_overlay.mp4").exists()
    assert len(list((options.out_dir / "walk_ids").iterdir())) == len(range(6, 17, 2))


def write_frames(folder: Path, count: int, *, name: str = "frame_{:d}.png") -> Path:
    folder.mkdir()
    for index in range(count):
        Image.fromarray(grey_frame(index)).save(folder / name.format(index))
    return folder


def test_a_numbered_pattern_is_a_clip_of_the_frames_that_fit_it(tmp_path):
    folder = write_frames(tmp_path / "frames", 12)
    (folder / "frame_7.png").rename(folder / "cover_7.png")
    frames = read(folder / "frame_%05d.png")
    assert [index_of(image) for _, _, image in frames] == [*range(7), *range(8, 12)]
    with pytest.raises(InputError, match=r"pattern .*other_%d\.png holds no image"):
        VideoReader(folder / "other_%d.png")
    with pytest.raises(InputError, match="There is no video"):
        VideoReader(folder / "frame.png")
