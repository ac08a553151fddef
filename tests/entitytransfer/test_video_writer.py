"""Writing clips: timing, odd sizes, and whole files or none."""

import av
import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.readers.video import VideoReader
from entitytransfer.readers.video_writer import VideoWriter


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
