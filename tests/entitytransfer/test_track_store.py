"""Tracks on disk: what is added is read back, whatever happened in between, and never half of a window."""

import gc
import shutil

import numpy as np
import pytest

from cropformer import InputError, rle
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.clip_heads import ClipEntityHead, ClipInstanceHead
from entitytransfer.streaming import track_store
from entitytransfer.streaming.segmented_clip import WindowTracks
from entitytransfer.streaming.track_store import StoredTrack, TrackStore
from entitytransfer.tracklets import FrameResult

from .track_windows import frame_of, window_of

HEADER = {"clip": "walk.mp4", "window": 2}
PETS = Classes(("cat", "dog"), (17, 18), (True, True))


def windows() -> list[WindowTracks]:
    """Two tracks, one of which is hidden in the middle; then a third one, and a frame without any."""
    return [
        window_of(frame_of(0, [5, 2], labels=[1, 0]), frame_of(1, [5]), tracks={2: [0.5, 0.5], 5: [0.75, 0.25]}),
        window_of(frame_of(3, [2, 5]), tracks={2: [0.6, 0.4], 5: [0.7, 0.3]}, qualities=[0.5, 0.25]),
        window_of(frame_of(4, [9]), frame_of(5, []), tracks={9: [0.1, 0.9]}),
    ]


def fill(store: TrackStore, some: list[WindowTracks]) -> TrackStore:
    for window in some:
        store.append(window)
    return store


def frames_of(some: list[WindowTracks]) -> list[FrameResult]:
    return [frame for window in some for frame in window.frames]


def assert_same(found: list[FrameResult], added: list[FrameResult]) -> None:
    assert [(one.index, one.time_s) for one in found] == [(one.index, one.time_s) for one in added]
    for one, other in zip(found, added):
        assert one.image is None
        assert one.entities.rles == other.entities.rles
        assert one.entities.size_hw == other.entities.size_hw
        for name in ("scores", "labels"):
            np.testing.assert_array_equal(getattr(one.entities, name), getattr(other.entities, name))
        np.testing.assert_array_equal(one.track_ids, other.track_ids)
        assert one.track_ids.dtype == np.int64


def unrolled(track: StoredTrack) -> tuple[int, int, float, list[rle.RLE | None]]:
    return track.track_id, track.label, round(track.score, 6), list(track.rles)


def test_frames_are_read_as_they_were_added(tmp_path):
    with fill(TrackStore(tmp_path / "new" / "tracks.sqlite", HEADER), windows()) as store:
        assert_same(list(store.frames()), frames_of(windows()))
        assert (store.num_frames, store.num_tracks) == (5, 3)
        assert list(store.frame_numbers()) == [0, 1, 3, 4, 5]


def test_tracks_have_the_latest_word_on_them_and_null_where_they_are_hidden(tmp_path):
    frames = frames_of(windows())
    with fill(TrackStore(tmp_path / "tracks.sqlite", HEADER), windows()) as store:
        tracks = list(store.tracks(ClipEntityHead()))
        masks = [[shown(frame, track_id) for frame in frames] for track_id in (2, 5, 9)]
        # mean class probability times mean quality, both of the last window of the track
        assert [unrolled(track) for track in tracks] == [
            (2, 0, 0.3, masks[0]),
            (5, 0, 0.175, masks[1]),
            (9, 0, 0.1, masks[2]),
        ]
    assert [mask is None for mask in masks[0]] == [False, True, False, True, True]


def shown(frame: FrameResult, track_id: int) -> rle.RLE | None:
    places = np.flatnonzero(frame.track_ids == track_id)
    return frame.entities.rles[places[0]] if places.size else None


def test_a_track_can_be_several_results(tmp_path):
    window = window_of(frame_of(0, [1, 2]), tracks={1: [0.5, 0.375, 0.125], 2: [0.0, 0.25, 0.75]})
    with fill(TrackStore(tmp_path / "tracks.sqlite", HEADER), [window]) as store:
        tracks = list(store.tracks(ClipInstanceHead(PETS, top_k=3)))  # all at once, to be read in any order
        found = [unrolled(track) for track in reversed(tracks)]
    first, second = window.frames[0].entities.rles
    assert found == [(2, 1, 0.25, [second]), (1, 1, 0.375, [first]), (1, 0, 0.5, [first])]


def test_a_clip_without_tracks(tmp_path):
    with TrackStore(tmp_path / "tracks.sqlite", HEADER) as store:
        assert (store.resume(), list(store.frames()), list(store.tracks(ClipEntityHead()))) == (None, [], [])
        store.append(window_of(frame_of(0, []), tracks={}))
        assert (store.num_frames, store.num_tracks, list(store.tracks(ClipInstanceHead(ENTITY)))) == (1, 0, [])
        assert_same(list(store.frames()), [frame_of(0, [])])


def test_a_track_that_no_frame_shows_is_none(tmp_path):
    """One that a window found only in frames which the window before had decided, even if it is the best of all."""
    window = window_of(frame_of(0, [1]), tracks={1: [0.5, 0.25, 0.25], 2: [0.75, 0.25, 0.0]})
    with fill(TrackStore(tmp_path / "tracks.sqlite", HEADER), [window]) as store:
        found = [unrolled(track)[:3] for track in store.tracks(ClipInstanceHead(PETS, top_k=2))]
        assert (found, store.num_tracks) == ([(1, 0, 0.5), (1, 1, 0.25)], 1)


def test_a_store_without_a_path_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    with fill(TrackStore(None, {}), windows()) as store, fill(TrackStore(None, {}), windows()[:1]) as other:
        assert (store.num_frames, other.num_frames) == (5, 2)
        assert_same(list(store.frames()), frames_of(windows()))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_a_store_goes_on_where_it_was_left(tmp_path, stop):
    path = tmp_path / "tracks.sqlite"
    with fill(TrackStore(path, HEADER), windows()[:stop]):
        pass
    with TrackStore(path, HEADER) as store:
        state = store.resume()
        assert (state is None) == (stop == 0)
        if state:
            np.testing.assert_equal(state, windows()[stop - 1].state)
            assert state["linker"]["embeddings"].dtype == np.float32
        fill(store, windows()[stop:])
        assert_same(list(store.frames()), frames_of(windows()))
        assert [list(one.rles) for one in store.tracks(ClipEntityHead())]


def test_a_window_that_fails_is_not_there_at_all(tmp_path):
    bad = window_of(frame_of(3, [1]), tracks={1: [0.5, 0.5]})
    bad.state["linker"] = object()  # nothing that JSON knows; it is the last thing to be written
    with fill(TrackStore(tmp_path / "tracks.sqlite", HEADER), windows()[:1]) as store:
        with pytest.raises(AttributeError):
            store.append(bad)
        assert (store.num_frames, store.num_tracks, store.resume()["frame"]) == (2, 2, 1)
        fill(store, windows()[1:])
        assert_same(list(store.frames()), frames_of(windows()))


def test_a_kill_within_a_window_leaves_those_before(tmp_path, monkeypatch):
    """The files as they are in the middle of a window, part of which has reached the disk, are what a kill leaves."""
    place, killed = tmp_path / "store", tmp_path / "killed"
    monkeypatch.setattr(track_store, "_SCHEMA", "PRAGMA cache_size = 1;" + track_store._SCHEMA)
    with fill(TrackStore(place / "tracks.sqlite", HEADER), windows()[:1]) as store:
        before = store.path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(TrackStore, "_update_tracks", lambda *_: shutil.copytree(place, killed))
            store.append(windows()[1])
    assert (killed / "tracks.sqlite").read_bytes() != before
    with TrackStore(killed / "tracks.sqlite", HEADER) as store:
        assert (store.num_frames, store.resume()["frame"]) == (2, 1)
        fill(store, windows()[1:])
        assert_same(list(store.frames()), frames_of(windows()))


def test_a_track_may_be_left_half_read(tmp_path, recwarn):
    with fill(TrackStore(tmp_path / "tracks.sqlite", HEADER), windows()) as store:
        tracks = list(store.tracks(ClipEntityHead()))
        next(tracks[0].rles)
    del tracks
    gc.collect()
    assert not list(recwarn)


# --- what is refused


def test_another_header_is_refused_with_what_differs(tmp_path):
    path = tmp_path / "tracks.sqlite"
    TrackStore(path, HEADER).close()
    with pytest.raises(InputError) as raised:
        TrackStore(path, HEADER | {"window": 4})
    assert str(raised.value) == (f"{path} was made with window=2, not 4; go on with the same options, or begin anew.")
    with pytest.raises(InputError, match="was made with stride=None, not 3"):
        TrackStore(path, HEADER | {"stride": 3})
    TrackStore(path, HEADER).close()


def test_two_runs_of_one_clip_at_once_are_refused(tmp_path):
    path = tmp_path / "tracks.sqlite"
    with TrackStore(path, HEADER), pytest.raises(InputError, match=r"Cannot work with .*\(database is locked\)"):
        TrackStore(path, HEADER)
    TrackStore(path, HEADER).close()


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "tracks.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match=f"{path} is damaged .*run it again from the start"):
        TrackStore(path, HEADER)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="Cannot write to the folder"):
        TrackStore(tmp_path / "file" / "tracks.sqlite", HEADER)
