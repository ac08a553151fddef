"""What a running command prints where no terminal is: one line per job, and now and then one for a long clip."""

import pytest

from entitytransfer import console
from entitytransfer.console import JobProgress


def test_one_plain_line_per_job(capsys: pytest.CaptureFixture[str]):
    with JobProgress(2) as progress:
        progress.finish("a.png: [bold] 3 entities")
        progress.finish("b.png: not segmented")
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("[1/2] a.png: [bold] 3 entities")
    assert last == "[2/2] b.png: not segmented"


def test_a_long_line_stays_one_line(capsys: pytest.CaptureFixture[str]):
    with JobProgress(1) as progress:
        progress.finish("x" * 500)
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(("total", "told"), [(3, "clip.mp4: 2 of 3 frames"), (None, "clip.mp4: 2 frames")])
def test_a_long_clip_tells_how_far_it_is(capsys, monkeypatch, total, told):
    monkeypatch.setattr(console, "_PLAIN_INTERVAL_S", 0.0)
    with JobProgress(1) as progress, progress.frames("clip.mp4", total) as advance:
        for _ in range(3):
            advance()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].startswith(told)


def test_a_short_clip_is_silent(capsys: pytest.CaptureFixture[str]):
    with JobProgress(1) as progress, progress.frames("clip.mp4", 3) as advance:
        advance()
    assert capsys.readouterr().out == ""


def test_warnings_go_to_the_error_stream(capsys: pytest.CaptureFixture[str]):
    with JobProgress(1) as progress:
        progress.warn("The clip is damaged.")
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "The clip is damaged.\n")
