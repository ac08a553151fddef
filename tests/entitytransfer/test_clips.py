"""The segment command on clips: heads and windows, many clips and their manifest, runs that are killed and go on."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import cropformer
from cropformer import InputError
from entitytransfer.classes import ENTITY, Classes
from entitytransfer.cli import main
from entitytransfer.clip_heads import ClipEntityHead, ClipInstanceHead, ClipPanopticHead
from entitytransfer.demo import CLIP
from entitytransfer.jobs.clips import clip_segmenter
from entitytransfer.jobs.options import SegmentOptions
from entitytransfer.readers.panoptic_png import read_id_map
from entitytransfer.readers.video import VideoReader
from entitytransfer.segment import segment
from entitytransfer.writers.video import VideoWriter

ROOT = Path(__file__).parents[2]
OUTPUTS = ("loop_overlay.mp4", "loop_ids", "loop_ytvis.json")
SCENE = Classes(("cat", "sky"), (17, 40), (True, False))


@pytest.fixture
def sure_weights(tmp_path, tiny_model) -> str:
    """The tiny model with queries that all claim to be entities, so that a panoptic head shows some."""
    with torch.no_grad():
        tiny_model.query_decoder.class_head.bias[-1] -= 100
    path = tmp_path / "sure.safetensors"
    numbers = {"architecture": tiny_model.architecture, "settings": tiny_model.settings}
    cropformer.save_checkpoint(path, tiny_model.state_dict(), **numbers)
    return str(path)


def looped_clip(path: Path, frames: int) -> Path:
    """The bundled clip again and again, 96 x 64 pixels."""
    images = [cv2.resize(frame.image, (96, 64), interpolation=cv2.INTER_AREA) for frame in VideoReader(CLIP.path)]
    with VideoWriter(path, fps=25, size_hw=(64, 96)) as video:
        for image in islice(cycle(images), frames):
            video.write(image)
    return path


def everything(out: Path) -> dict[Path, bytes]:
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}


def manifest(options: SegmentOptions, name: str = "manifest.json") -> dict[str, dict]:
    clips = json.loads((options.out_dir / name).read_text())["clips"]
    return {clip["name"]: {key: clip[key] for key in clip if key not in ("path", "name")} for clip in clips}


# --- heads and windows


def test_windows_reach_the_segmenter(tiny_model, options):
    chosen = replace(options, window=6, overlap=2, memory=3, crops=4, min_score=0.5, max_memory="1GB", precision="bf16")
    segmenter = clip_segmenter(tiny_model, chosen)
    assert (segmenter.window, segmenter.overlap, segmenter.memory, segmenter.crops) == (6, 2, 3, 4)
    assert (segmenter.max_memory, segmenter.precision) == (10**9, "bf16")
    assert segmenter.head == ClipEntityHead(min_score=0.5, max_memory=10**9)
    assert clip_segmenter(tiny_model, options).crops == 0


def test_heads_take_the_classes_of_the_weights(tiny_architecture, tiny_model, options):
    classes = {name: list(values) for name, values in vars(SCENE).items()}
    scene = cropformer.build(replace(tiny_architecture, num_classes=2), classes=classes)
    assert clip_segmenter(scene, replace(options, head="instance")).head == ClipInstanceHead(SCENE)
    panoptic = replace(options, head="panoptic", min_score=0.3)
    assert clip_segmenter(scene, panoptic).head == ClipPanopticHead(SCENE, min_score=0.3)
    assert clip_segmenter(tiny_model, replace(panoptic, min_score=None)).head == ClipPanopticHead(ENTITY)
    unknown = cropformer.build(replace(tiny_architecture, num_classes=2))
    with pytest.raises(InputError, match="do not say what their 2 classes are, which the panoptic head needs"):
        clip_segmenter(unknown, panoptic)
    with pytest.raises(InputError, match="leave out --min-score"):
        clip_segmenter(scene, replace(options, head="instance", min_score=0.3))


def test_the_command_takes_heads_and_windows(sure_weights, options, clip_file):
    flags = ["--out", str(options.out_dir), "--weights", sure_weights, "--device", "cpu"]
    chosen = ["--head", "panoptic", "--min-score", "0.1", "--offline"]
    assert main(["segment", str(clip_file), *flags, *chosen]) == 0
    (video,) = json.loads((options.out_dir / "clip_vipseg" / "pred.json").read_text())["annotations"]
    assert len(video["annotations"]) == 6
    assert any(frame["segments_info"] for frame in video["annotations"])
    for index, frame in enumerate(video["annotations"]):
        ids = cv2.imread(str(options.out_dir / "clip_ids" / f"{index:06d}.png"), cv2.IMREAD_UNCHANGED)
        shown = read_id_map(options.out_dir / "clip_vipseg" / "pan_pred" / "clip" / frame["file_name"])
        np.testing.assert_array_equal(shown, ids)
        assert {one["id"] for one in frame["segments_info"]} == set(np.unique(ids)) - {0}


def test_an_entity_head_gives_no_vipseg_files(options, clip_file, capsys):
    assert segment([clip_file], options).done == 1
    assert not (options.out_dir / "clip_vipseg").exists()
    flags = ["--out", str(options.out_dir), "--format", "ids,vipseg"]
    assert main(["segment", str(clip_file), *flags]) == 2
    assert "The format vipseg needs whole frames in regions; add --head panoptic." in capsys.readouterr().err


def test_windows_that_cannot_advance_are_refused(options, clip_file):
    with pytest.raises(InputError, match="Windows of 2 frames cannot share 2"):
        segment([clip_file], replace(options, window=2, overlap=2))


# --- many clips


@pytest.fixture
def clips(tmp_path: Path, clip_file: Path) -> Path:
    """A folder of three clips, of which the second is damaged beyond use."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.mp4", "c.mp4"):
        (folder / name).write_bytes(clip_file.read_bytes())
    (folder / "b.mp4").write_bytes(b"no video")
    return folder


def test_the_manifest_tells_what_became_of_each_clip(options, clips, photo_file):
    outcome = segment([clips, photo_file], replace(options, end_frame=5))
    found = manifest(options)
    assert list(found) == ["a", "b", "c"]
    tracks = len(json.loads((options.out_dir / "a_ytvis.json").read_text()))
    whole = {"state": "done", "frames": 5, "tracks": tracks, "problem": None}
    assert (found["a"], found["c"]) == (whole, whole)
    (error,) = outcome.errors
    assert found["b"] == {"state": "failed", "frames": None, "tracks": None, "problem": str(error)}


def test_the_manifest_is_right_at_every_moment(options, clips, monkeypatch):
    states = []
    predict = cropformer.ClipPredictor.predict

    def watched(*arguments, **named):
        states.append([(one["state"], one["frames"]) for one in manifest(options).values()])
        return predict(*arguments, **named)

    monkeypatch.setattr(cropformer.ClipPredictor, "predict", watched)
    monkeypatch.setattr("entitytransfer.jobs.manifest._INTERVAL_S", 0)
    segment([clips], replace(options, window=3))
    waiting = ("waiting", None)
    assert states[:3] == [[waiting] * 3, [("running", 3), waiting, waiting], [("running", 5), waiting, waiting]]
    assert states[3:] == [[("done", 6), ("failed", None), (state, frames)] for state, frames in (
        waiting, ("running", 3), ("running", 5)
    )]  # fmt: skip


def test_what_was_done_stays_in_the_manifest(options, clips, clip_file):
    segment([clips], options)
    before = manifest(options)
    (clips / "b.mp4").write_bytes(clip_file.read_bytes())
    outcome = segment([clips], replace(options, resume=True))
    assert (outcome.done, outcome.skipped) == (1, 2)
    assert manifest(options) == before | {"b": before["a"]}


def test_a_damaged_clip_is_done_with_a_problem(options, clip_file):
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    with VideoWriter(clip_file, fps=10, size_hw=(48, 64)) as video:
        for image in noise:
            video.write(image)
    content = clip_file.read_bytes()
    clip_file.write_bytes(content[: int(0.7 * len(content))])
    segment([clip_file], options)
    entry = manifest(options)["clip"]
    assert (entry["state"], entry["frames"]) == ("done", len(list((options.out_dir / "clip_ids").iterdir())))
    assert "is damaged or cut off" in entry["problem"]


def test_processes_of_a_launch_share_the_clips(options, clips, monkeypatch):
    """Each process of torchrun has its number in the environment."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    flags = ["--out", str(options.out_dir), "--weights", options.weights, "--device", "cpu"]
    codes = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        codes.append(main(["segment", str(clips), *flags]))
    assert codes == [0, 2]
    states = [
        {name: clip["state"] for name, clip in manifest(options, f"manifest-{index}-of-2.json").items()}
        for index in (1, 2)
    ]
    assert states == [{"a": "done", "c": "done"}, {"b": "failed"}]


@pytest.mark.slow
def test_launch_runs_a_process_for_each_share(options, clips):
    flags = ["--out", str(options.out_dir), "--weights", options.weights, "--device", "cpu"]
    (clips / "b.mp4").unlink()
    assert main(["launch", "--processes", "2", "--", "segment", str(clips), *flags]) == 0
    assert [list(manifest(options, f"manifest-{index}-of-2.json")) for index in (1, 2)] == [["a"], ["c"]]
    assert (options.out_dir / "a_ytvis.json").read_bytes() == (options.out_dir / "c_ytvis.json").read_bytes()


def test_a_photo_cannot_take_the_name_of_the_manifest(options, clip_file, photo_file):
    photo = photo_file.rename(photo_file.with_name("manifest.png"))
    segment([photo, clip_file], options)
    assert (options.out_dir / "manifest-2.json").exists()
    assert list(manifest(options)) == ["clip"]


# --- going on

_KILLED = """
import os, signal, sys
from entitytransfer.cli import main
from entitytransfer.streaming.track_store import TrackStore
append = TrackStore.append
def append_and_die(store, window):
    append(store, window)
    if store.num_frames > 20:
        os.kill(os.getpid(), signal.SIGKILL)
TrackStore.append = append_and_die
main(sys.argv[1:])
"""


def start(*command: str | Path, script: tuple[str, ...] = ("-m", "entitytransfer")) -> subprocess.Popen:
    # As many threads as here: sums of another number of parts are rounded in another way.
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen([sys.executable, *script, *map(str, command)], cwd=ROOT, env=variables)


def test_a_killed_run_ends_with_the_same_files(options, tmp_path):
    clip = looped_clip(tmp_path / "loop.mp4", 70)
    chosen = ["--weights", options.weights, "--device", "cpu", "--start-frame", "3", "--stride", "2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(["segment", str(clip), "--out", str(whole), *chosen]) == 0
    assert start("segment", clip, "--out", killed, *chosen, script=("-c", _KILLED)).wait() == -signal.SIGKILL
    assert {path.name for path in killed.iterdir()} == {"manifest.json", ".loop_unfinished"}
    ((state, frames),) = [(one["state"], one["frames"]) for one in manifest(replace(options, out_dir=killed)).values()]
    assert (state, frames) == ("running", 4)  # at the first window; later ones are noted now and then
    assert main(["segment", str(clip), "--out", str(killed), "--resume", *chosen]) == 0
    assert everything(killed) == everything(whole)
    assert len(json.loads((whole / "loop_ytvis.json").read_text())) > 1
    assert {path.name for path in whole.iterdir()} == {"manifest.json", *OUTPUTS}


def test_a_run_that_failed_goes_on_and_one_that_begins_anew_does_not(options, clip_file, monkeypatch):
    segmented = []
    predict = cropformer.ClipPredictor.predict

    def failing(predictor, frames, *arguments, **named):
        segmented.append(len(frames))
        if len(segmented) == 3:
            raise RuntimeError("out of memory")
        return predict(predictor, frames, *arguments, **named)

    monkeypatch.setattr(cropformer.ClipPredictor, "predict", failing)
    windows = replace(options, window=2)
    assert [str(error) for error in segment([clip_file], windows).errors] == [
        f"Segmenting {clip_file} failed with RuntimeError: out of memory"
    ]
    assert manifest(options)["clip"]["frames"] == 3
    assert segment([clip_file], replace(windows, resume=True)).done == 1
    assert len(segmented) == 3 + 3  # of five windows two were kept
    assert len(list((options.out_dir / "clip_ids").iterdir())) == 6
    assert not (options.out_dir / ".clip_unfinished").exists()


def test_a_run_that_was_stopped_goes_on_although_an_earlier_one_left_files(options, clip_file, monkeypatch):
    segment([clip_file], options)
    before = everything(options.out_dir)
    later = replace(options, start_frame=2)
    monkeypatch.setattr("entitytransfer.writers.clip.ClipWriter.write", lambda *_: 1 / 0)
    assert len(segment([clip_file], later).errors) == 1
    monkeypatch.undo()
    assert {path: everything(options.out_dir)[path] for path in before if path.name != "manifest.json"}.items() <= (
        before.items()
    )
    assert segment([clip_file], replace(later, resume=True)).done == 1
    assert len(list((options.out_dir / "clip_ids").iterdir())) == 4
    assert segment([clip_file], replace(later, resume=True)).skipped == 1


def test_going_on_with_other_options_is_refused(options, clip_file, monkeypatch):
    monkeypatch.setattr("entitytransfer.writers.clip.ClipWriter.write", lambda *_: 1 / 0)
    segment([clip_file], options)
    monkeypatch.undo()
    (error,) = segment([clip_file], replace(options, resume=True, overlap=2)).errors
    assert isinstance(error, InputError)
    assert "was made with overlap=1, not 2; go on with the same options, or begin anew." in str(error)
    assert segment([clip_file], replace(options, overlap=2)).done == 1


@pytest.mark.slow
def test_a_long_clip_is_killed_three_times_at_random(tmp_path):
    """With the bundled weights; half an hour on two cores."""
    clip = looped_clip(tmp_path / "loop.mp4", 5000)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    chosen = ("--short-side", "64", "--device", "cpu", "--resume")
    assert start("segment", clip, "--out", whole, *chosen).wait() == 0
    for frames in sorted(random.sample(range(100, 4900), 3)):
        run = start("segment", clip, "--out", killed, *chosen)
        while run.poll() is None and frames_done(killed) < frames:
            time.sleep(0.2)
        time.sleep(2 * random.random())
        run.kill()
        assert run.wait() == -signal.SIGKILL
    assert start("segment", clip, "--out", killed, *chosen).wait() == 0
    assert everything(killed) == everything(whole)


def frames_done(out: Path) -> int:
    path = out / "manifest.json"
    return json.loads(path.read_text())["clips"][0]["frames"] or 0 if path.exists() else 0
