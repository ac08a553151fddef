"""Writing clips: timing, odd sizes, and whole files or none."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.readers.video import VideoReader
from entitytransfer.writers.video import VideoWriter

from .video_clips import cut_off


def grey(level: int, size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size_hw, 3), level, dtype=np.uint8)


def write(path, *, fps: float = 10, size_hw: tuple[int, int] = (48, 64), frames: int = 6) -> None:
    with VideoWriter(path, fps=fps, size_hw=size_hw) as video:
        for index in range(frames):
            video.write(grey(10 * index, size_hw))


@pytest.mark.parametrize("fps", [12.5, 24, 30000 / 1001, 25 / 7])
def test_rate_and_length_are_as_asked(tmp_path, fps):
    write(tmp_path / "clip.mp4", fps=fps, frames=20)
    reader = VideoReader(tmp_path / "clip.mp4")
    assert reader.fps == pytest.approx(fps, rel=1e-5)
    assert [frame.time_s for frame in reader] == pytest.approx([i / fps for i in range(20)], abs=1e-4)
    with av.open(tmp_path / "clip.mp4") as container:
        assert container.duration / av.time_base == pytest.approx(20 / fps, abs=2e-3)


def test_the_stream_is_what_browsers_play(tmp_path):
    write(tmp_path / "clip.mp4")
    with av.open(tmp_path / "clip.mp4") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
    content = (tmp_path / "clip.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # plays before it is loaded to the end


@pytest.mark.parametrize(("size_hw", "even_hw"), [((47, 63), (48, 64)), ((48, 63), (48, 64)), ((1, 1), (2, 2))])
def test_odd_sides_are_padded_with_their_own_edge(tmp_path, size_hw, even_hw):
    write(tmp_path / "clip.mp4", size_hw=size_hw)
    with VideoReader(tmp_path / "clip.mp4") as reader:
        assert reader.size_hw == even_hw
        for index, frame in enumerate(reader):
            assert np.ptp(frame.image.astype(int)) <= 4
            assert frame.image.mean() == pytest.approx(10 * index, abs=4)


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"earlier")
    with pytest.raises(RuntimeError, match="stop"), VideoWriter(path, fps=10, size_hw=(48, 64)) as video:
        video.write(grey(0))
        raise RuntimeError("stop")
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_only_at_the_end(tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, fps=10, size_hw=(48, 64)) as video:
        video.write(grey(0))
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_does_not_exist_is_refused_in_one_sentence(tmp_path):
    path = tmp_path / "nowhere" / "clip.mp4"
    with pytest.raises(InputError, match=r"Cannot write .*nowhere.clip\.mp4"):
        VideoWriter(path, fps=10, size_hw=(48, 64)).__enter__()


def test_a_full_disk_is_refused_in_one_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        av.error.err_check(-28)  # ENOSPC, as FFmpeg reports it

    video = VideoWriter(tmp_path / "clip.mp4", fps=10, size_hw=(48, 64))
    monkeypatch.setattr(VideoWriter, "_to_yuv", fail)
    with pytest.raises(InputError, match="No space left"), video:
        video.write(grey(0))
    assert not list(tmp_path.iterdir())


def test_frames_of_another_size_and_empty_videos_are_programming_errors(tmp_path):
    with (
        pytest.raises(ValueError, match="does not fit"),
        VideoWriter(tmp_path / "a.mp4", fps=10, size_hw=(48, 64)) as a,
    ):
        a.write(grey(0, (64, 48)))
    with (
        pytest.raises(ValueError, match="No frame"),
        VideoWriter(tmp_path / "b.mp4", fps=10, size_hw=(48, 64)),
    ):
        pass
    assert not list(tmp_path.iterdir())


# --- sound

BEEP_HZ, RATE = 440.0, 8000


def write_with_sound(path: Path, *, codec: str = "aac", seconds: float = 3.0, late_s: float = 0.0) -> Path:
    """Ten frames a second, and a tone that grows louder with time: its loudness tells when it is."""
    samples = int(seconds * RATE)
    time = np.arange(samples) / RATE
    tone = (np.sin(2 * np.pi * BEEP_HZ * time) * time / seconds).astype(np.float32)
    with av.open(path, "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        audio = container.add_stream(codec, rate=RATE, layout="mono")
        for index in range(int(seconds * 10)):
            frame = av.VideoFrame.from_ndarray(grey(2 * index), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index + round(late_s * 10), Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, round(late_s * RATE), Fraction(1, RATE)
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def loudness(path: Path) -> np.ndarray:
    """Peak of the sound in each tenth of a second."""
    with av.open(path) as container:
        chunks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    sound = np.concatenate(chunks)
    return np.abs(sound[: len(sound) // 800 * 800].reshape(-1, 800)).max(axis=1)  # [S] -> [tenths, 800]


def copy_range(source: Path, path: Path, **options) -> None:
    with (
        VideoReader(source, **options) as reader,
        VideoWriter(path, fps=10, size_hw=(48, 64), sound=source) as video,
    ):
        for frame in reader:
            video.write(frame.image, time_s=frame.time_s)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize(
    ("options", "first_s", "last_s"),
    [({}, 0.0, 3.0), ({"start_frame": 10, "end_frame": 20}, 1.0, 2.0), ({"stride": 3}, 0.0, 2.8)],
    ids=str,
)
def test_the_sound_of_the_range_is_kept_in_time(tmp_path, suffix, options, first_s, last_s):
    source = write_with_sound(tmp_path / f"source{suffix}")
    copy_range(source, tmp_path / "copy.mp4", **options)
    heard = loudness(tmp_path / "copy.mp4")
    assert len(heard) / 10 == pytest.approx(last_s - first_s, abs=0.3)
    inner = slice(2, int((last_s - first_s) * 10) - 2)
    expected = (first_s + np.arange(len(heard)) / 10 + 0.1) / 3.0
    np.testing.assert_allclose(heard[inner], expected[inner], atol=0.05)
    with av.open(tmp_path / "copy.mp4") as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        assert container.streams.video[0].start_time == 0


def test_sound_is_found_from_a_late_start_of_the_pictures(tmp_path):
    source = write_with_sound(tmp_path / "source.mkv", seconds=8.0, late_s=4.0)
    copy_range(source, tmp_path / "copy.mp4", start_s=6.0, end_s=7.0)
    heard = loudness(tmp_path / "copy.mp4")[2:8]
    np.testing.assert_allclose(heard, (6.0 + np.arange(2, 8) / 10 + 0.1) / 8.0, atol=0.05)


def test_damaged_sound_stops_and_the_pictures_go_on(tmp_path):
    source = cut_off(write_with_sound(tmp_path / "source.ts"), 0.6)
    copy_range(source, tmp_path / "copy.mp4")
    with VideoReader(tmp_path / "copy.mp4") as reader, VideoReader(source) as original:
        assert len(list(reader)) == len(list(original))


def test_what_has_no_sound_that_fits_is_silent(tmp_path):
    write(tmp_path / "silent.mp4")
    strange = write_with_sound(tmp_path / "strange.avi", codec="adpcm_ima_wav")
    for source in (tmp_path / "silent.mp4", strange, tmp_path, Path("-")):
        with VideoWriter(tmp_path / "copy.mp4", fps=10, size_hw=(48, 64), sound=source) as video:
            video.write(grey(0), time_s=0.0)
        with av.open(tmp_path / "copy.mp4") as container:
            assert [stream.type for stream in container.streams] == ["video"]


def test_times_are_kept_and_the_first_frame_comes_at_once(tmp_path):
    times_s = [5.0, 5.1, 5.15, 5.5]
    with VideoWriter(tmp_path / "clip.mp4", fps=10, size_hw=(48, 64)) as video:
        for time_s in times_s:
            video.write(grey(0), time_s=time_s)
    assert [frame.time_s + 5 for frame in VideoReader(tmp_path / "clip.mp4")] == pytest.approx(times_s, abs=1e-4)
