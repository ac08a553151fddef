"""Damage that hides: what several decoder threads lose, breaks that no container announces, and false alarms."""

from contextlib import suppress
from pathlib import Path

import av
import pytest

from cropformer import InputError
from entitytransfer.readers.video import VideoReader

from .video_clips import cut_off, remux, write_clip, write_groups, zero_middle


def read(path: Path, **options: float) -> tuple[int, str | None]:
    """The number of frames, and the warning."""
    with VideoReader(path, **options) as reader:
        return len(list(reader)), reader.warning


def decodable(path: Path) -> int:
    """Frames that come out of a decoder with a single thread."""
    count = 0
    with av.open(path) as container:
        container.streams.video[0].thread_type = "NONE"
        for packet in container.demux(video=0):
            with suppress(av.FFmpegError):
                count += len(packet.decode())
    return count


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_cut_loses_no_frame_that_one_thread_would_decode(tmp_path, share):
    path = cut_off(
        remux(write_groups(tmp_path / "a.mp4", 44, noise=True), tmp_path / "b.mp4", movflags="faststart"), share
    )
    count, warning = read(path)
    assert count == decodable(path) > 4
    assert f"{count} of 44 frames could be read" in warning


def test_pictures_without_sound_are_held_to_their_duration(tmp_path):
    path = remux(write_clip(tmp_path / "clip.mp4", 60, noise=True), tmp_path / "clip.mkv")
    count, warning = read(cut_off(path, 0.95))
    assert 50 < count < 60
    assert f"{count} frames could be read" in warning


def test_damage_to_a_broadcast_is_noticed_by_its_counters(tmp_path):
    count, warning = read(zero_middle(write_groups(tmp_path / "clip.ts", 44, noise=True), 6000))
    assert count < 44
    assert "is damaged or cut off at" in warning


def test_a_recording_that_begins_late_is_not_short(tmp_path):
    path = remux(write_clip(tmp_path / "clip.mp4", 20), tmp_path / "late.mkv", shift_s=5.0)
    assert read(path) == (20, None)


def test_the_clock_of_a_container_is_no_frame_rate(tmp_path):
    path = remux(write_clip(tmp_path / "clip.mp4", 20), tmp_path / "clip.mkv")
    assert VideoReader(path).fps == 10


def test_a_damaged_title_is_no_reason_to_refuse_the_pictures(tmp_path):
    path = tmp_path / "clip.mkv"
    with av.open(write_clip(tmp_path / "clip.mp4", 5)) as source, av.open(path, "w") as copy:
        copy.metadata["title"] = "A summer day"
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    path.write_bytes(path.read_bytes().replace(b"A summer day", b"A s\x9b\xffmer day"))
    assert read(path) == (5, None)


@pytest.mark.parametrize("limits", [{"start_frame": 15, "end_s": 1.0}, {"start_s": 0.51, "end_s": 0.55}], ids=str)
def test_limits_that_leave_no_frame_are_refused(tmp_path, limits):
    path = write_clip(tmp_path / "clip.mp4", 20)
    with pytest.raises(InputError, match="clip.mp4 has no frame in the range that was chosen; widen it"):
        read(path, **limits)


def test_one_frame_is_told_as_one(tmp_path):
    path = cut_off(remux(write_clip(tmp_path / "clip.mp4", 60, noise=True), tmp_path / "clip.mkv"), 0.04)
    assert ": 1 frame could be read" in read(path)[1]
