"""Sets of clips through ``evaluate``: a run has the numbers that ``score`` finds in what it wrote, to the last bit."""

import json
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import cropformer
from cropformer import InputError, rle
from entitytransfer.classes import Classes
from entitytransfer.cli import main
from entitytransfer.clip_heads import ClipInstanceHead
from entitytransfer.clip_result import ClipResult
from entitytransfer.compare import compare
from entitytransfer.datasets import open_adapter, vipseg
from entitytransfer.evaluate import evaluate
from entitytransfer.evaluation.clips import gather_clip
from entitytransfer.evaluation.options import ClipOptions, EvaluateOptions
from entitytransfer.evaluation.saved_results import open_run, saved_results
from entitytransfer.score_task import score
from entitytransfer.set_source import SetSource, open_set
from entitytransfer.video import VideoSegmenter
from entitytransfer.writers.clip_result_files import write_clip_files

from .clip_evaluator_cases import FILES, clip_of, truth_of_tracks
from .clip_fixture_sets import FIXTURES, NAME, ClipOracle, classes_of
from .clip_trees import make_uvo_tree, make_vipseg_tree, make_ytvis_tree

NUM_CLASSES = 40  # of YouTube-VIS


def save_tiny(
    path: Path, architecture: cropformer.Architecture, settings: cropformer.TestSettings, classes: int
) -> str:
    """Weights that know so many classes, spread so that queries differ."""
    torch.manual_seed(0)
    known = cropformer.Architecture(**{**vars(architecture), "num_classes": classes})
    model = cropformer.build(known, settings=settings)
    with torch.no_grad():
        model.query_decoder.class_head.weight.mul_(20)
        model.query_decoder.mask_head.layers[-1].weight.mul_(20)
        model.pixel_decoder.mask_projection.weight.mul_(3)
    cropformer.save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)
    return str(path)


def metrics_of(out: Path) -> dict[str, float | None]:
    return json.loads((out / "metrics.json").read_text())["metrics"]


def defined(metrics: dict[str, float]) -> dict[str, float | None]:
    """As files have it, None where undefined."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}


# --- the official predictions in the place of a network's


@pytest.fixture(params=FIXTURES)
def name(request) -> str:
    return request.param


@pytest.fixture
def source(tmp_path, name) -> SetSource:
    return SetSource(str(tmp_path), NAME, options={"name": name})


@pytest.fixture
def options(tmp_path, tiny_architecture, tiny_settings, name) -> dict:
    classes = 1 if name == "uvo" else len(classes_of(name))
    weights = save_tiny(tmp_path / "weights.safetensors", tiny_architecture, tiny_settings, classes)
    return {"out": tmp_path / "out", "weights": weights, "device": "cpu"}


def scored(name: str, predictions: Path) -> dict[str, float | None]:
    return score(name, ground_truth=FILES[name][0], predictions=predictions)


def written(name: str, out: Path) -> Path:
    return out / ("pred.json" if name == "vipseg" else "results.json")


def test_a_run_has_the_numbers_of_its_files(name, source, options, monkeypatch):
    ClipOracle(name).install(monkeypatch)
    metrics = evaluate(source, EvaluateOptions(**options))
    of_files = scored(name, written(name, options["out"]))
    assert of_files == metrics_of(options["out"])
    assert defined(metrics) == of_files
    assert of_files == pytest.approx(scored(name, FILES[name][1]), abs=1e-9, nan_ok=True)
    if name != "vipseg":
        assert scored(name, options["out"] / "results.zip") == of_files


def test_a_killed_run_goes_on_and_shards_end_alike(name, source, options, monkeypatch):
    ClipOracle(name).install(monkeypatch)
    whole = evaluate(source, EvaluateOptions(**options))
    files = written(name, options["out"]).read_bytes()
    options["out"] = options["out"].with_name("again")
    killed = ClipOracle(name, stop_after=1).install(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        evaluate(source, EvaluateOptions(**options, shard=(1, 2)))
    assert killed.seen == 1
    rest = ClipOracle(name).install(monkeypatch)
    parts = [evaluate(source, EvaluateOptions(**options, shard=(index, 2))) for index in (1, 2)]
    assert parts[0] is None
    assert defined(parts[1]) == defined(whole)
    assert written(name, options["out"]).read_bytes() == files
    assert rest.seen + killed.seen == len(open_set(source))


def test_results_of_a_finished_run_are_read_back(name, source, options, monkeypatch):
    ClipOracle(name).install(monkeypatch)
    metrics = evaluate(source, EvaluateOptions(**options))
    run = open_run(options["out"])
    samples = open_set(run.source)
    metric = open_adapter(NAME, source.options).build_evaluator(samples.classes)
    for sample, result in saved_results(options["out"], samples):
        metric.update(result, sample)
    assert defined(metric.compute()) == defined(metrics)


def test_runs_are_compared_on_the_same_clips(name, source, options, monkeypatch):
    ClipOracle(name).install(monkeypatch)
    outs = [options["out"].with_name(one) for one in ("before", "after")]
    found = [evaluate(source, EvaluateOptions(**{**options, "out": out})) for out in outs]
    comparison = compare(*outs, bootstrap=5)
    headline = "VPQ" if name == "vipseg" else "AP"
    assert comparison.gains[0].name == headline
    assert (comparison.gains[0].before, comparison.gains[0].after) == (found[0][headline], found[1][headline])
    assert {(gain.after - gain.before, gain.interval) for gain in comparison.gains[:2]} == {(0.0, (0.0, 0.0))}
    assert f"({len(open_set(source))} clips)" in comparison.table()


# --- a network


def tree_source(root: Path, **options) -> SetSource:
    return SetSource(str(make_ytvis_tree(root, frames=5, size_hw=(48, 64))), "youtube_vis", options=options)


@pytest.fixture
def tiny(tmp_path, tiny_weights) -> dict:
    return {"out": tmp_path / "out", "weights": str(tiny_weights), "device": "cpu", "crops": 0}


def test_entities_of_clips_and_their_protocol(tmp_path, tiny):
    source = tree_source(tmp_path, task="entity", split="train")
    metrics = evaluate(source, EvaluateOptions(**tiny))
    truth = tmp_path / "ytvis_2019" / "train.json"
    of_file = score("ytvis", ground_truth=truth, predictions=tiny["out"] / "results.json", class_agnostic=True)
    assert of_file == metrics_of(tiny["out"]) == defined(metrics)
    protocol = json.loads((tiny["out"] / "metrics.json").read_text())["protocol"]
    expected = {"dataset": "youtube_vis", "num_clips": 2, "overlap": False, "crops": 0}
    expected |= {"clip.window": 4, "clip.overlap": 1, "clip.memory": 10}
    assert {key: protocol[key] for key in expected} == expected
    tracks = json.loads((tiny["out"] / "results.json").read_text())
    assert {len(track["segmentations"]) for track in tracks} == {5}
    with pytest.raises(InputError, match="was made with clip.window=4, not 2; choose another out="):
        evaluate(source, EvaluateOptions(**tiny, clip=ClipOptions(window=2)))


def test_instances_of_clips_have_their_categories(tmp_path, tiny, tiny_architecture, tiny_settings):
    weights = save_tiny(tmp_path / "known.safetensors", tiny_architecture, tiny_settings, NUM_CLASSES)
    source = tree_source(tmp_path, split="train")
    given = EvaluateOptions(**{**tiny, "weights": weights}, head={"top_k": 60}, clip=ClipOptions(window=None))
    evaluate(source, given)
    truth = tmp_path / "ytvis_2019" / "train.json"
    assert score("ytvis", ground_truth=truth, predictions=tiny["out"] / "results.zip") == metrics_of(tiny["out"])
    tracks = json.loads((tiny["out"] / "results.json").read_text())
    assert [track["video_id"] for track in tracks] == [1] * 60 + [2] * 60
    assert 1 < len({track["category_id"] for track in tracks}) <= NUM_CLASSES


def test_a_set_that_a_server_scores_is_predicted_and_not_scored(tmp_path, tiny, capsys):
    source = tree_source(tmp_path, task="entity", split="valid")
    assert evaluate(source, EvaluateOptions(**tiny)) is None
    assert "No clip of the set is annotated, so nothing is scored" in capsys.readouterr().out
    assert not (tiny["out"] / "metrics.json").exists()
    with zipfile.ZipFile(tiny["out"] / "results.zip") as archive:
        assert archive.namelist() == ["results.json"]
        assert archive.read("results.json") == (tiny["out"] / "results.json").read_bytes()
    assert {track["video_id"] for track in json.loads((tiny["out"] / "results.json").read_text())} == {3}


def panoptic_weights(tmp_path: Path, architecture: cropformer.Architecture, settings: cropformer.TestSettings) -> str:
    return save_tiny(tmp_path / "panoptic.safetensors", architecture, settings, 124)


def test_segments_of_clips_and_what_vipseg_takes(tmp_path, tiny, tiny_architecture, tiny_settings):
    root = make_vipseg_tree(tmp_path, frames=4, size_hw=(48, 64))
    assert list(vipseg.prepare(root, split="val"))
    tiny["weights"] = panoptic_weights(tmp_path, tiny_architecture, tiny_settings)
    source = SetSource(str(root), "vipseg", options={"split": "val"})
    metrics = evaluate(source, EvaluateOptions(**tiny, head={"min_score": 0.0, "min_visible": 0.0}))
    truth = root / "VIPSeg" / "VIPSeg_720P" / "panoptic_gt_VIPSeg_val.json"
    assert score("vipseg", ground_truth=truth, predictions=tiny["out"]) == metrics_of(tiny["out"]) == defined(metrics)
    (video,) = json.loads((tiny["out"] / "pred.json").read_text())["annotations"]
    assert all(frame["segments_info"] for frame in video["annotations"])


def test_the_videos_of_vipseg_without_masks_are_only_predicted(
    tmp_path, tiny, tiny_architecture, tiny_settings, capsys
):
    root = make_vipseg_tree(tmp_path, frames=3, size_hw=(48, 64))
    tiny["weights"] = panoptic_weights(tmp_path, tiny_architecture, tiny_settings)
    assert evaluate(SetSource(str(root), "vipseg", options={"split": "test"}), EvaluateOptions(**tiny)) is None
    assert "nothing is scored" in capsys.readouterr().out
    (video,) = json.loads((tiny["out"] / "pred.json").read_text())["annotations"]
    pngs = tiny["out"] / "pan_pred" / video["video_id"]
    assert sorted(path.name for path in pngs.iterdir()) == [frame["file_name"] for frame in video["annotations"]]


def test_the_command_scores_as_uvo_does(tmp_path, tiny_weights, capsys):
    root = make_uvo_tree(tmp_path / "uvo", frames=5, size_hw=(48, 64))
    place = [f"data.root={root}", "data.dataset=uvo", "+data.options.split=val", f"out={tmp_path / 'out'}"]
    common = [*place, f"weights={tiny_weights}", "device=cpu", "test.crops=0", "clip.window=3", "clip.overlap=2"]
    assert main(["evaluate", *common, "--dry-run"]) == 0
    assert "h for 1 clips" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert main(["evaluate", *common]) == 0
    assert capsys.readouterr().out.splitlines()[-2].split()[:3] == ["AP", "AP50", "AP75"]
    truth = root / "VideoDenseSet" / "UVO_video_val_dense.json"
    found = score("uvo", ground_truth=truth, predictions=tmp_path / "out" / "results.json")
    assert found == metrics_of(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["starts"][0]["config"]["clip"]["window"] == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip": ClipOptions(window=2, overlap=2)}, "Windows of 2 frames cannot share 2"),
        ({"crop_ratio": 0.5}, "leave out test.crop_ratio"),
        ({"shard": (1, 3)}, "3 shards are too many for 2 clips; take one for each at most"),
        ({"head": {"top_k": 3}}, "The entity head has no option 'top_k'"),
        ({"peer": "mask2former"}, "peer=mask2former predicts images only; leave out peer= to predict clips"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, tiny, wrong, message):
    source = tree_source(tmp_path, task="entity", split="train")
    with pytest.raises(InputError, match=message):
        evaluate(source, EvaluateOptions(**tiny, **wrong))
    assert not tiny["out"].exists()


@pytest.mark.parametrize("numbers", [{}, {"clip": ClipOptions(window=1, overlap=0), "crops": 4}])
def test_a_mask2former_has_to_be_shown_frame_by_frame(tmp_path, tiny, tiny_architecture, tiny_settings, numbers):
    plain = cropformer.with_association(tiny_architecture, "none")
    weights = save_tiny(tmp_path / "plain.safetensors", plain, tiny_settings, 1)
    with pytest.raises(InputError, match="plain Mask2Former, .*; set clip.window=1 clip.overlap=0 test.crops=0"):
        evaluate(tree_source(tmp_path, task="entity"), EvaluateOptions(**{**tiny, "weights": weights, **numbers}))
    assert not tiny["out"].exists()


# --- tracks of a segmented clip, and their files


def test_tracks_are_judged_by_all_windows_together(tmp_path, tiny_architecture, tiny_settings):
    weights = save_tiny(tmp_path / "known.safetensors", tiny_architecture, tiny_settings, NUM_CLASSES)
    (clip, *_) = open_set(tree_source(tmp_path, split="train"))
    head = ClipInstanceHead(Classes(tuple("a" * NUM_CLASSES), tuple(range(NUM_CLASSES)), (True,) * NUM_CLASSES))
    segmenter = VideoSegmenter(cropformer.load(weights), head=head, window=2, overlap=1)
    result = gather_clip(segmenter.segment(clip))
    frames = list(segmenter.segment(clip))
    for track_id, track in zip(result.track_ids.tolist(), result.rles, strict=True):
        for frame, mask in zip(frames, track, strict=True):
            shown = dict(zip(frame.track_ids.tolist(), frame.entities.rles))
            assert mask == shown.get(track_id)
    assert len(result) == head.top_k and (np.diff(result.scores) <= 0).all()


def test_a_clip_without_tracks_has_an_empty_list(tmp_path, tiny_model):
    (clip, *_) = open_set(tree_source(tmp_path, split="train"))
    empty = gather_clip(VideoSegmenter(tiny_model, min_score=1.0).segment(clip))
    assert len(empty) == 0
    write_clip_files("entity", [(clip, empty)], classes=Classes(("a",), (1,), (True,)), out=tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == []


def test_panoptic_files_hold_the_pixels_of_the_first_track(tmp_path):
    masks = np.zeros((2, 2, 4, 6), dtype=bool)
    masks[0, 0, :, :3], masks[1, 0, :, 2:], masks[1, 1, :, 2:] = True, True, True
    rles = [[rle.encode(mask) if mask.any() else None for mask in track] for track in masks]
    result = ClipResult.of(rles, track_ids=[300, 7], labels=[1, 0], scores=[0.5, 0.5])
    clip = clip_of(truth_of_tracks(masks, [1, 0]), (4, 6), ("a.jpg", "b.jpg"), "clip")
    classes = Classes(("sky", "cat"), (3, 9), (False, True))
    write_clip_files("panoptic", [(clip, result)], classes=classes, out=tmp_path)
    (video,) = json.loads((tmp_path / "pred.json").read_text())["annotations"]
    listed = [
        [(one["id"], one["category_id"], one["area"]) for one in frame["segments_info"]]
        for frame in video["annotations"]
    ]
    assert listed == [[(7, 3, 12), (300, 9, 12)], [(7, 3, 16)]]
    assert [frame["file_name"] for frame in video["annotations"]] == ["a.png", "b.png"]
    assert result.id_map(1, (4, 6)).tolist() == [[0, 0, 7, 7, 7, 7]] * 4


def test_a_task_without_files_is_refused(tmp_path):
    with pytest.raises(InputError, match="no result files of clips for the task 'semantic'"):
        write_clip_files("semantic", [], classes=Classes((), (), ()), out=tmp_path)
