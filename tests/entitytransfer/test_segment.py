"""The segment command's work: every promised file, what is in it, and that jobs do not disturb each other."""

import json

import av
import numpy as np
import pytest
from PIL import Image

import cropformer
from entitytransfer import segment as segment_module
from entitytransfer.jobs.inputs import find_jobs
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.segment import SegmentError, segment
from entitytransfer.writers.clip import ClipWriter
from entitytransfer.writers.video import VideoWriter


def changed(options: SegmentOptions, **changes: object) -> SegmentOptions:
    return SegmentOptions(**{**vars(options), **changes})


def written(options: SegmentOptions) -> list[str]:
    """The outputs, the id images of a clip as their folder."""
    paths = (path.relative_to(options.out_dir) for path in options.out_dir.rglob("*") if path.is_file())
    return sorted({str(path.parent if path.parent.name.endswith("_ids") else path) for path in paths})


def test_every_promised_file_of_a_photo_and_a_clip(options, photo_file, clip_file):
    outcome = segment([photo_file, clip_file], options)
    assert (outcome.done, outcome.skipped, outcome.errors) == (2, 0, [])
    jobs, _ = find_jobs([photo_file, clip_file], out_dir=options.out_dir)
    promised = [name for job in jobs for name in job.output_names(options.formats)]
    assert written(options) == sorted(["manifest.json", *promised])


def test_photo_files_tell_the_same_as_the_model(options, photo_file, photo):
    segment([photo_file], options)
    expected = cropformer.load(options.weights).segment(photo)
    assert len(expected) > 1
    ids = np.asarray(Image.open(options.out_dir / "photo_ids.png"))
    assert ids.dtype == np.uint16
    assert np.array_equal(ids, expected.id_map())
    results = json.loads((options.out_dir / "photo.json").read_text())
    assert {result["image_id"] for result in results} == {"photo"}
    for i, result in enumerate(results):
        assert np.array_equal(cropformer.rle.decode(result["segmentation"]), ids == i + 1)
    overlay = np.asarray(Image.open(options.out_dir / "photo_overlay.png"))
    assert np.array_equal(overlay, expected.draw(photo))


def test_panoptic_files_belong_together(options, photo_file):
    segment([photo_file], options)
    panoptic = json.loads((options.out_dir / "photo_panoptic.json").read_text())
    (annotation,) = panoptic["annotations"]
    pixels = np.asarray(Image.open(options.out_dir / annotation["file_name"])).astype(int)
    ids = pixels @ [1, 256, 65536]
    assert panoptic["images"] == [{"id": "photo", "height": 90, "width": 131}]
    assert {segment["category_id"] for segment in annotation["segments_info"]} == {panoptic["categories"][0]["id"]}
    areas = {segment["id"]: segment["area"] for segment in annotation["segments_info"]}
    assert areas == {i: (ids == i).sum() for i in np.unique(ids) if i}


def test_clip_range_and_files(options, clip_file):
    segment([clip_file], changed(options, start_frame=1, end_frame=6, stride=2))
    with av.open(str(options.out_dir / "clip_overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3
    tracks = json.loads((options.out_dir / "clip_ytvis.json").read_text())
    assert {len(track["segmentations"]) for track in tracks} == {3}
    ids = [path.name for path in sorted((options.out_dir / "clip_ids").iterdir())]
    assert ids == ["000001.png", "000003.png", "000005.png"]


def test_options_reach_the_model(options, photo_file, photo):
    segment([photo_file], changed(options, crops=0, short_side=32, max_side=50, min_score=0.4))
    model = cropformer.load(options.weights)
    expected = model.segment(photo, crops=0, short_side=32, max_side=50, min_score=0.4)
    ids = np.asarray(Image.open(options.out_dir / "photo_ids.png"))
    assert np.array_equal(ids, expected.id_map())


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_one_bad_photo_stops_no_other(options, photo_file, tmp_path, batch_size):
    bad, last = tmp_path / "bad.png", tmp_path / "last.png"
    bad.write_text("no")
    last.write_bytes(photo_file.read_bytes())
    outcome = segment([photo_file, bad, last], changed(options, batch_size=batch_size))
    assert outcome.done == 2
    (error,) = outcome.errors
    assert isinstance(error, cropformer.InputError)
    assert str(error) == f"{bad} is not an image; give a JPEG, PNG, WebP, BMP or TIFF file."
    assert (options.out_dir / "last_overlay.png").exists()


def test_a_clip_that_cannot_be_written_leaves_its_tracks_and_stops_no_other(
    options, photo_file, clip_file, monkeypatch
):
    def refuse(writer: ClipWriter, frame: object) -> None:
        raise cropformer.InputError("No space left on the device while writing clip_overlay.mp4.")

    monkeypatch.setattr(ClipWriter, "write", refuse)
    outcome = segment([clip_file, photo_file], options)
    assert (outcome.done, [str(error) for error in outcome.errors]) == (
        1,
        ["No space left on the device while writing clip_overlay.mp4."],
    )
    left = {path.name for path in options.out_dir.iterdir() if not path.name.startswith("photo")}
    assert left == {".clip_unfinished", "manifest.json"}
    assert [path.name for path in (options.out_dir / ".clip_unfinished").iterdir()] == ["tracks.sqlite"]


def test_a_crash_is_a_failed_job_that_names_its_input(options, photo_file, clip_file, monkeypatch):
    def crash(*arguments: object, **named: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(cropformer.ClipPredictor, "predict", crash)
    outcome = segment([clip_file, photo_file], options)
    assert outcome.done == 1
    (error,) = outcome.errors
    assert isinstance(error, SegmentError)
    assert str(error) == f"Segmenting {clip_file} failed with RuntimeError: out of memory"
    assert "clip_overlay.mp4" not in written(options)


def test_an_error_that_names_no_file_gets_the_name(options, photo_file, monkeypatch):
    def refuse(*arguments: object, **named: object) -> None:
        raise cropformer.InputError("It is too small.")

    monkeypatch.setattr(cropformer.EntitySegmenter, "segment_batch", refuse)
    (error,) = segment([photo_file], options).errors
    assert str(error) == f"{photo_file}: It is too small."


def test_a_damaged_clip_gives_what_can_be_read_and_a_warning(options, clip_file, capsys):
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    with VideoWriter(clip_file, fps=10, size_hw=(48, 64)) as video:
        for image in noise:
            video.write(image)
    content = clip_file.read_bytes()
    clip_file.write_bytes(content[: int(0.7 * len(content))])
    outcome = segment([clip_file], options)
    assert (outcome.done, outcome.errors) == (1, [])
    assert "is damaged or cut off" in capsys.readouterr().err
    readable = len(list((options.out_dir / "clip_ids").iterdir()))
    assert 0 < readable < 20


def test_resume_does_what_is_missing(options, photo_file, clip_file, monkeypatch):
    segment([photo_file, clip_file], options)
    (options.out_dir / "photo_ids.png").unlink()
    overlay = (options.out_dir / "clip_overlay.mp4").stat().st_mtime_ns
    outcome = segment([photo_file, clip_file], changed(options, resume=True))
    assert (outcome.done, outcome.skipped) == (1, 1)
    assert (options.out_dir / "photo_ids.png").exists()
    assert (options.out_dir / "clip_overlay.mp4").stat().st_mtime_ns == overlay

    monkeypatch.setattr(segment_module, "load_model", lambda *_, **__: pytest.fail("nothing needs a model"))
    assert segment([photo_file, clip_file], changed(options, resume=True)).skipped == 2


@pytest.mark.parametrize("first", [0, 1])
def test_shards_share_the_work(options, photo_file, tmp_path, first):
    for index in range(5):
        (tmp_path / "in" / f"{index}.png").parent.mkdir(exist_ok=True)
        (tmp_path / "in" / f"{index}.png").write_bytes(photo_file.read_bytes())
    coco = changed(options, formats=frozenset({"coco"}))
    done = [segment([tmp_path / "in"], changed(coco, shard=(first + i, 2))).done for i in range(2)]
    assert sorted(done) == [2, 3]
    assert written(options) == [f"{index}.json" for index in range(5)]


def test_equal_names_from_two_folders_are_both_kept(options, photo_file, tmp_path, photo):
    for folder, image in (("one", photo), ("two", photo[:, ::-1])):
        (tmp_path / folder).mkdir()
        Image.fromarray(image).save(tmp_path / folder / "a.png")
    segment([tmp_path / "one" / "a.png", tmp_path / "two" / "a.png"], options)
    one, two = (np.asarray(Image.open(options.out_dir / f"{name}_overlay.png")) for name in ("a", "a-2"))
    assert not np.array_equal(one, two)


def test_formats_that_an_input_does_not_have(options, photo_file, clip_file):
    outcome = segment([photo_file, clip_file], changed(options, formats=frozenset({"coco"})))
    (error,) = outcome.errors
    assert str(error) == (f"{clip_file} is a video, which gives none of the chosen formats; add overlay, ids, ytvis.")
    assert written(options) == ["manifest.json", "photo.json"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"formats": frozenset({"jpeg"})}, "There is no format 'jpeg'; choose from overlay, ids, coco"),
        ({"shard": (3, 2)}, "There is no shard 3/2; give i/n with i from 1 to n."),
        ({"shard": (0, 0)}, "There is no shard 0/0"),
        ({"start_s": 5.0, "end_s": 4.0}, "5.0 s to 4.0 s is no range"),
    ],
)
def test_impossible_options(options, changes, sentence):
    with pytest.raises(cropformer.InputError, match=sentence):
        changed(options, **changes)
