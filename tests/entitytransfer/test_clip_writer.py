"""The files of a clip, from frames and from the store: what is in them, and that they appear together or not at all."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from cropformer import InputError
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.clip_heads import ClipEntityHead, ClipHead, ClipPanopticHead
from entitytransfer.readers.panoptic_png import read_id_map
from entitytransfer.readers.video import VideoReader
from entitytransfer.streaming.segmented_clip import WindowTracks
from entitytransfer.streaming.track_store import TrackStore
from entitytransfer.writers.clip import ClipWriter

from .track_windows import SIZE_HW, STRIPE, frame_of, window_of

FORMATS = ("overlay", "ids", "ytvis")
SCENE = Classes(("cat", "sky"), (17, 40), (True, False))
WINDOWS = [
    window_of(frame_of(3, [5, 2]), frame_of(4, [5]), tracks={2: [0.5, 0.5], 5: [0.75, 0.25]}),
    window_of(frame_of(6, [2, 5]), tracks={2: [0.25, 0.75], 5: [0.625, 0.375]}),
]


def write(
    out: Path,
    windows: list[WindowTracks],
    *,
    formats: tuple[str, ...] = FORMATS,
    head: ClipHead | None = None,
) -> None:
    with opened(out, formats=formats, head=head or ClipEntityHead()) as (store, writer):
        for window in windows:
            store.append(window)
            for frame in window.frames:
                writer.write(frame)


@contextmanager
def opened(
    out: Path, *, formats: tuple[str, ...] = FORMATS, head: ClipHead | None = None
) -> Iterator[tuple[TrackStore, ClipWriter]]:
    """A store that starts empty, and a writer."""
    path = out.parent / "work" / "tracks.sqlite"
    path.unlink(missing_ok=True)
    numbers = {"fps": 10, "size_hw": SIZE_HW}
    with (
        TrackStore(path, {}) as store,
        ClipWriter(store, out, "walk", formats=formats, head=head or ClipEntityHead(), **numbers) as writer,
    ):
        yield store, writer


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def everything(out: Path) -> dict[Path, bytes]:
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_id_images_hold_the_track_ids(out):
    write(out, WINDOWS, formats=("ids",))
    shown = {}
    for path in sorted((out / "walk_ids").iterdir()):
        with Image.open(path) as image:
            assert image.mode == "I;16"
            shown[path.name] = np.asarray(image)[0, ::STRIPE].tolist()
    rest = [0] * (SIZE_HW[1] // STRIPE - 2)
    assert shown == {"000003.png": [5, 2, *rest], "000004.png": [5, 0, *rest], "000006.png": [2, 5, *rest]}


def test_the_overlay_keeps_time_and_the_colour_of_each_track(out):
    write(out, WINDOWS, formats=("overlay",))
    with VideoReader(out / "walk_overlay.mp4") as reader:
        overlay = list(reader)
    assert [frame.time_s for frame in overlay] == pytest.approx([0.0, 0.1, 0.3], abs=1e-4)
    frames = [frame for window in WINDOWS for frame in window.frames]
    for frame, result in zip(overlay, frames, strict=True):
        drawn = result.entities.draw(result.image, color_ids=result.track_ids)
        assert np.abs(frame.image.astype(int) - drawn).mean() < 8
    with av.open(out / "walk_overlay.mp4") as container:
        assert container.streams.video[0].start_time == 0


def test_ytvis_results_hold_whole_tracks_with_their_final_scores(out):
    write(out, WINDOWS, formats=("ytvis",))
    second, fifth = json.loads((out / "walk_ytvis.json").read_text())
    assert [(one["video_id"], one["category_id"], one["score"]) for one in (second, fifth)] == [
        (1, 1, 0.25),
        (1, 1, 0.625),
    ]
    assert second["segmentations"][1] is None
    for frame, place in ((0, 1), (2, 0)):
        expected = np.zeros(SIZE_HW, dtype=np.uint8)
        expected[:, STRIPE * place : STRIPE * (place + 1)] = 1
        np.testing.assert_array_equal(coco_mask.decode(second["segmentations"][frame]), expected)
    assert [mask is None for mask in fifth["segmentations"]] == [False] * 3


def test_vipseg_results_have_one_class_for_a_track_whatever_it_was_on_the_way(out):
    first = window_of(frame_of(0, [1, 7], labels=[0, 1]), tracks={1: [0.5, 0, 0.5], 7: [0, 0.5, 0.5]})
    later = window_of(frame_of(1, [7, 1], labels=[1, 1]), tracks={1: [0.125, 0.375, 0.5], 7: [0, 0.75, 0.25]})
    write(out, [first, later], formats=("vipseg",), head=ClipPanopticHead(SCENE))
    (video,) = json.loads((out / "walk_vipseg" / "pred.json").read_text())["annotations"]
    assert video["video_id"] == "walk"
    segments = [{one["id"]: one["category_id"] for one in frame["segments_info"]} for frame in video["annotations"]]
    assert segments == [{1: 40, 7: 40}, {1: 40, 7: 40}]
    folder = out / "walk_vipseg" / "pan_pred" / "walk"
    columns = [read_id_map(folder / frame["file_name"])[0, : 3 * STRIPE : STRIPE] for frame in video["annotations"]]
    assert [column.tolist() for column in columns] == [[1, 7, 0], [7, 1, 0]]


def test_a_clip_without_entities_still_has_its_files(out):
    formats = (*FORMATS, "vipseg")
    write(out, [window_of(frame_of(0, []), tracks={})], formats=formats, head=ClipPanopticHead(ENTITY))
    assert json.loads((out / "walk_ytvis.json").read_text()) == []
    assert not np.asarray(Image.open(out / "walk_ids" / "000000.png")).any()
    (video,) = json.loads((out / "walk_vipseg" / "pred.json").read_text())["annotations"]
    assert [frame["segments_info"] for frame in video["annotations"]] == [[]]
    assert (out / "walk_overlay.mp4").exists()


def test_a_failure_leaves_earlier_outputs_and_nothing_half_written(out):
    write(out, WINDOWS)
    before = everything(out)
    with pytest.raises(RuntimeError, match="stop"), opened(out) as (store, writer):
        store.append(WINDOWS[1])
        writer.write(WINDOWS[1].frames[0])
        raise RuntimeError("stop")
    assert everything(out) == before
    assert [path.name for path in (out.parent / "work").iterdir()] == ["tracks.sqlite"]


def test_a_second_run_replaces_the_files_of_the_first(out):
    write(out, WINDOWS)
    write(out, WINDOWS[1:])
    assert [path.name for path in (out / "walk_ids").iterdir()] == ["000006.png"]
    assert [len(one["segmentations"]) for one in json.loads((out / "walk_ytvis.json").read_text())] == [1, 1]
    assert sorted(path.name for path in out.iterdir()) == ["walk_ids", "walk_overlay.mp4", "walk_ytvis.json"]


def test_what_a_killed_run_left_half_written_is_cleared_away(out):
    left = out.parent / "work" / "tracks.outputs" / "walk_ids"
    left.mkdir(parents=True)
    (left / "000999.png").touch()
    write(out, WINDOWS[1:])
    assert [path.name for path in (out / "walk_ids").iterdir()] == ["000006.png"]
    assert [path.name for path in (out.parent / "work").iterdir()] == ["tracks.sqlite"]


def test_too_many_ids_are_refused(out):
    with pytest.raises(InputError, match="Frame 0 of walk_ids needs an id above 65535"):
        write(out, [window_of(frame_of(0, [65_536]), tracks={65_536: [0.5, 0.5]})])
    assert not list(out.iterdir())


def test_a_place_that_cannot_hold_a_folder_is_refused(out):
    out.touch()
    with pytest.raises(InputError, match="Cannot write to the folder"):
        write(out, WINDOWS)
