"""Many clips in one folder: shards whose manifests are joined, names that change hands, runs that meet."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from entitytransfer.cli import main
from entitytransfer.jobs.inputs import Job
from entitytransfer.jobs.manifest import Manifest
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.segment import segment
from entitytransfer.streaming.track_store import TrackStore, is_in_use


def states(options: SegmentOptions) -> list[tuple[str, str]]:
    clips = json.loads((options.out_dir / "manifest.json").read_text())["clips"]
    return [(clip["name"], clip["state"]) for clip in clips]


def job(path: str) -> Job:
    return Job(Path(path), Path(path).stem, is_clip=True)


def test_the_last_shard_joins_the_manifests(tmp_path):
    shares = [[job("a.mp4"), job("c.mp4")], [job("b.mp4")], []]
    shards = [Manifest(tmp_path, (i, 3), jobs, total=3) for i, jobs in enumerate(shares, start=1)]
    joined = tmp_path / "manifest.json"
    for shard, jobs in zip(shards[:2], shares):
        shard.join()
        assert not joined.exists()
        for one in jobs:
            shard.done(one, frames=5, tracks=2, warning=None)
    shards[2].join()  # a shard without clips may be the last
    clips = json.loads(joined.read_text())["clips"]
    assert [(clip["name"], clip["state"], clip["frames"]) for clip in clips] == [(name, "done", 5) for name in "abc"]


def test_shards_of_the_command_end_with_one_manifest(options, clip_file, tmp_path):
    paths = [clip_file.rename(tmp_path / "a.mp4"), tmp_path / "b.mp4"]
    paths[1].write_bytes(b"no video")
    segment(paths, replace(options, shard=(2, 2)))
    assert not (options.out_dir / "manifest.json").exists()
    segment(paths, replace(options, shard=(1, 2)))
    assert states(options) == [("a", "done"), ("b", "failed")]
    resumed = segment(paths[:1], replace(options, resume=True))
    assert resumed.skipped == 1
    assert json.loads((options.out_dir / "manifest.json").read_text())["clips"][0]["frames"] == 6


def test_a_clip_that_took_the_name_of_another_is_not_skipped(options, clip_file, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "clip.mp4").write_bytes(clip_file.read_bytes())
    first = replace(options, resume=True)
    assert segment([tmp_path / "one" / "clip.mp4"], first).done == 1
    assert segment([tmp_path / "two" / "clip.mp4"], first).done == 1
    assert segment([tmp_path / "two" / ".." / "two" / "clip.mp4"], first).skipped == 1


def test_a_share_by_hand_and_one_by_launch_exclude_each_other(options, clip_file, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["segment", str(clip_file), "--out", str(options.out_dir), "--shard", "1/2"]) == 2
    assert "Each of the 2 processes takes a share of its own; leave out --shard" in capsys.readouterr().err


def test_a_run_leaves_what_another_is_writing_alone(options, clip_file):
    path = options.out_dir / ".clip_unfinished" / "tracks.sqlite"
    with TrackStore(path, {}):
        (error,) = segment([clip_file], options).errors
        assert f"Another run is segmenting to {path.parent}; wait for its end" in str(error)
        assert path.exists()
    assert segment([clip_file], options).done == 1


@pytest.mark.parametrize("content", [None, b"", b"no database, but long enough to look like one" * 50])
def test_what_is_no_store_is_in_nobodys_use(tmp_path, content):
    path = tmp_path / "tracks.sqlite"
    if content is not None:
        path.write_bytes(content)
    assert not is_in_use(path)


def test_folders_of_frames_and_lists_reach_the_command(options, photo_file, tmp_path):
    (tmp_path / "walk").mkdir()
    for index in range(3):
        (tmp_path / "walk" / f"{index}.png").write_bytes(photo_file.read_bytes())
    (tmp_path / "clips.txt").write_text(f"{tmp_path}/walk\n")
    flags = ["--out", str(options.out_dir), "--weights", options.weights, "--device", "cpu", "--format", "ids"]
    assert main(["segment", f"@{tmp_path}/clips.txt", "--frames", *flags]) == 0
    assert len(list((options.out_dir / "walk_ids").iterdir())) == 3
