"""Clips as a Ray data set: rows of tracks, equal to those of the segment command."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from entitytransfer.ray_data import Batch, ClipTracks
from entitytransfer.segment import segment

ROOT = Path(__file__).parents[2]
COLUMNS = ["path", "track_id", "category_id", "category", "score", "frames", "masks", "problem"]


@pytest.fixture
def clips(tmp_path: Path, clip_file: Path) -> list[str]:
    """Two clips, and one between them that cannot be read."""
    paths = [clip_file.rename(tmp_path / "a.mp4"), tmp_path / "b.mp4", tmp_path / "c.mp4"]
    paths[1].write_bytes(b"no video")
    paths[2].write_bytes(paths[0].read_bytes())
    return [str(path) for path in paths]


def rows_of(batches: Iterator[Batch]) -> list[dict]:
    rows = []
    for batch in batches:
        assert list(batch) == COLUMNS
        rows.append({name: np.asarray(column).tolist()[0] for name, column in batch.items()})
    return rows


def check(rows: list[dict], clips: list[str], expected: list[dict]) -> None:
    """The tracks of the first and the last clip, and the problem of the one between them."""
    for path in (clips[0], clips[2]):
        tracks = [row for row in rows if row["path"] == path]
        assert [row["track_id"] for row in tracks] == list(range(1, len(expected) + 1))
        for row, track in zip(tracks, expected, strict=True):
            shown = [frame for frame, mask in enumerate(track["segmentations"]) if mask is not None]
            assert list(row["frames"]) == shown
            assert json.loads(row["masks"]) == [track["segmentations"][frame] for frame in shown]
            assert (row["score"], row["category_id"], row["category"]) == (track["score"], 1, "entity")
            assert row["problem"] == ""
    (bad,) = (row for row in rows if row["path"] == clips[1])
    assert (bad["track_id"], bad["masks"]) == (0, "[]")
    assert clips[1] in bad["problem"]
    assert len(rows) == 2 * len(expected) + 1


@pytest.fixture
def expected(clips, options) -> list[dict]:
    """What the segment command finds in the first clip."""
    segment(clips[:1], options)
    tracks = json.loads((options.out_dir / "a_ytvis.json").read_text())
    assert len(tracks) > 1
    return tracks


def test_a_batch_of_paths_becomes_rows_of_tracks(clips, options, expected):
    worker = ClipTracks(options.weights, device="cpu")
    check(rows_of(worker({"path": np.array(clips)})), clips, expected)


def test_options_reach_the_segmenter(clips, options):
    worker = ClipTracks(options.weights, device="cpu", stride=2, window=2, head="instance")
    rows = rows_of(worker({"path": np.array(clips[:1])}))
    assert len(rows) == 10  # the best of a clip
    assert {frame for row in rows for frame in row["frames"]} == {0, 2, 4}


@pytest.fixture
def local_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray on this machine, with two workers that know this source tree."""
    ray = pytest.importorskip("ray", reason="needs ray: pip install cropformer[ray]")
    pytest.importorskip("ray.data", reason="needs ray[data]: pip install cropformer[ray]")
    variables = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables})
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_three_clips_through_ray(clips, options, expected):
    import ray.data

    paths = ray.data.from_items([{"path": path} for path in clips])
    arguments = {"weights": options.weights, "device": "cpu"}
    tracks = paths.map_batches(ClipTracks, batch_size=1, concurrency=2, fn_constructor_kwargs=arguments)
    rows = sorted(tracks.take_all(), key=lambda row: (row["path"], row["track_id"]))
    check(rows, clips, expected)
