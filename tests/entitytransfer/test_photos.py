"""Which photos share a batch: those of one canvas, in an order that is almost that of the inputs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cropformer
from entitytransfer.jobs import photos as photos_module
from entitytransfer.jobs.inputs import Job
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.jobs.photos import batches, canvas_of, segment_images


def names_in_batches(model, jobs: list[Job], *, size: int) -> list[str]:
    options = SegmentOptions(out_dir=Path("out"), batch_size=size)
    return ["".join(job.name for job in batch) for batch in batches(jobs, model, options)]


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Photos on the canvases a, b and c, named by number, and clip number 4 among them."""
    monkeypatch.setattr(photos_module, "canvas_of", lambda path, *_: path.suffix)
    canvases = ["a", "b", "a", "clip", "b", "a", "c", "a"]
    return [Job(Path(f"{i}.{canvas}"), str(i), canvas == "clip") for i, canvas in enumerate(canvases, start=1)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, ["1", "2", "3", "4", "5", "6", "7", "8"]),
        (2, ["13", "25", "4", "68", "7"]),
        (3, ["136", "25", "4", "7", "8"]),
        (9, ["1368", "25", "4", "7"]),
    ],
)
def test_photos_of_one_canvas_go_together_and_clips_alone(tiny_model, mixed, size, expected):
    assert names_in_batches(tiny_model, mixed, size=size) == expected


def test_the_look_ahead_is_bounded(tiny_model, mixed, monkeypatch):
    monkeypatch.setattr(photos_module, "_LOOK_AHEAD", 3)
    assert names_in_batches(tiny_model, mixed, size=2) == ["13", "25", "4", "68", "7"]
    assert names_in_batches(tiny_model, mixed[2:] + mixed[:2], size=3) == ["3", "4", "5", "68", "7", "1", "2"]


def test_single_photos_need_no_look_at_their_headers(tiny_model, mixed, monkeypatch):
    monkeypatch.setattr(photos_module, "canvas_of", lambda *_: pytest.fail("nothing is grouped"))
    assert len(names_in_batches(tiny_model, mixed, size=1)) == len(mixed)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_the_header_tells_the_canvas(tiny_model, options, tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (150, 70), "red").save(path, exif=exif)
    s = tiny_model.settings
    views = cropformer.make_views(path, crops=s.crops, short_side=s.short_side, max_side=s.max_side)
    assert canvas_of(path, tiny_model, options) == tuple(views.pixels.shape[-2:])


def test_the_options_change_the_canvas(tiny_model, tmp_path, photo_file):
    options = SegmentOptions(out_dir=tmp_path, crops=0, short_side=40, max_side=50)
    views = cropformer.make_views(photo_file, crops=0, short_side=40, max_side=50)
    assert canvas_of(photo_file, tiny_model, options) == tuple(views.pixels.shape[-2:])


@pytest.mark.parametrize("content", [b"", b"no", b"\xff\xd8\xff\xe0"])
def test_a_header_that_tells_nothing(tiny_model, options, tmp_path, content):
    (tmp_path / "bad.jpg").write_bytes(content)
    assert canvas_of(tmp_path / "bad.jpg", tiny_model, options) is None
    assert canvas_of(tmp_path / "missing.jpg", tiny_model, options) is None


def test_errors_keep_their_places_and_only_the_culprit_of_a_batch_is_lost(tiny_model, options, photo):
    unread = cropformer.InputError("unread")
    unfit = np.zeros((4, 5), dtype=np.uint8)
    first, second, third, last = segment_images(tiny_model, [photo, unread, unfit, photo], options)
    assert second is unread
    assert isinstance(third, cropformer.InputError) and "uint8 RGB" in str(third)
    assert len(first) == len(last) > 1
    assert np.array_equal(first.id_map(), last.id_map())
