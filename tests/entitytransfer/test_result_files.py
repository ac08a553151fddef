"""Official files of every task: a run has the numbers that ``score`` finds in what it wrote, to the last bit."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image

import cropformer
from cropformer import Entities, InputError
from entitytransfer.adapter import Sample
from entitytransfer.classes import Classes
from entitytransfer.cli import main
from entitytransfer.config import composed, evaluation_source
from entitytransfer.datasets import ade20k
from entitytransfer.evaluate import evaluate
from entitytransfer.evaluation import prediction_parts
from entitytransfer.evaluation.options import EvaluateOptions
from entitytransfer.score_task import score_task
from entitytransfer.set_source import SetSource, open_set
from entitytransfer.writers.result_files import check_task, write_result_files

from .ade20k_tree import make_ade20k_tree
from .coco_tree import make_coco_tree
from .evaluator_cases import sample_of, truth_of
from .fixture_sets import NAME, SCORED, TASKS, Oracle, classes, make_photos, pairs_of
from .zero_shot_trees import make_dis5k_tree

SIZE_HW = (4, 6)
CLASSES = Classes(("sky", "cat", "dog"), (3, 7, 21), (False, True, True))


@pytest.fixture(params=TASKS)
def task(request) -> str:
    return request.param


@pytest.fixture
def source(tmp_path, task) -> SetSource:
    make_photos(tmp_path / "photos", task)
    return SetSource(str(tmp_path / "photos"), NAME, options={"task": task})


@pytest.fixture
def weights(tmp_path, tiny_architecture, tiny_settings, task) -> Path:
    """A tiny model that knows the classes of the task."""
    path = tmp_path / f"{task}.safetensors"
    model = cropformer.build(with_classes(tiny_architecture, len(classes(task))), settings=tiny_settings)
    cropformer.save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)
    return path


def with_classes(architecture: cropformer.Architecture, count: int) -> cropformer.Architecture:
    return cropformer.Architecture(**{**vars(architecture), "num_classes": count})


def official_score(task: str, out: Path) -> dict[str, float | None]:
    name, ground_truth, options, predictions = SCORED[task]
    pngs = {"pred_dir": out / "predictions_png"} if task == "panoptic" else {}
    return score_task(name, ground_truth=ground_truth, predictions=out / predictions, **options, **pngs).values()


def official_files(out: Path) -> dict[str, bytes]:
    """What a run leaves for others, without its own records."""
    folders = ("predictions", "predictions_png", "labels", "maps")
    files = [out / "predictions.json", *(path for name in folders for path in (out / name).rglob("*.png"))]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.exists()}


def check_scored(task: str, out: Path, metrics: dict[str, float]) -> None:
    """The run's numbers are in ``metrics.json``, and the official files give the same."""
    saved = json.loads((out / "metrics.json").read_text())["metrics"]
    scored = official_score(task, out)
    assert saved == {name: None if math.isnan(value) else value for name, value in metrics.items()}
    assert len(saved.keys() & scored.keys()) >= 4
    for name in saved.keys() & scored.keys():
        assert saved[name] == (scored[name] and pytest.approx(scored[name], abs=1e-12)), name


def test_the_official_files_score_the_same(source, weights, task, tmp_path, monkeypatch):
    Oracle(task).install(monkeypatch)
    metrics = evaluate(source, EvaluateOptions(out=tmp_path / "out", weights=str(weights), device="cpu"))
    check_scored(task, tmp_path / "out", metrics)
    assert 0.05 < next(iter(metrics.values())) < 1


def test_a_model_goes_all_the_way(source, weights, task, tmp_path):
    options = EvaluateOptions(out=tmp_path / "out", weights=str(weights), device="cpu", crops=0)
    check_scored(task, tmp_path / "out", evaluate(source, options))


def test_interrupted_shards_give_the_numbers_and_the_files_of_one_run(source, weights, task, tmp_path, monkeypatch):
    options = {"weights": str(weights), "device": "cpu"}
    Oracle(task).install(monkeypatch)
    whole = evaluate(source, EvaluateOptions(out=tmp_path / "whole", **options))
    out = tmp_path / "shards"
    assert evaluate(source, EvaluateOptions(out=out, shard=(3, 3), **options)) is None
    Oracle(task, stop_after=1).install(monkeypatch)  # killed between images
    with pytest.raises(KeyboardInterrupt):
        evaluate(source, EvaluateOptions(out=out, shard=(1, 3), **options))
    kill_inside(out, task, monkeypatch, lambda: evaluate(source, EvaluateOptions(out=out, shard=(1, 3), **options)))
    oracle = Oracle(task).install(monkeypatch)
    assert evaluate(source, EvaluateOptions(out=out, shard=(2, 3), **options)) is None
    assert not (out / "metrics.json").exists()
    metrics = evaluate(source, EvaluateOptions(out=out, shard=(1, 3), **options))
    assert metrics == pytest.approx(whole, abs=0, rel=0, nan_ok=True)
    assert official_files(out) == official_files(tmp_path / "whole")
    images = len(pairs_of(task))
    assert oracle.seen == images - len(range(2, images, 3)) - 1  # of shard 1 the first image was whole on disk


def kill_inside(out: Path, task: str, monkeypatch: pytest.MonkeyPatch, run) -> None:
    """Kill a run while it writes an image: after the PNG of a map, in the middle of the line of anything else."""
    part = out / "predictions" / "part-1-of-3.jsonl"
    if task != "dichotomous":
        part.write_bytes(part.read_bytes() + b'{"image_id": 12')
        return

    def killed(*arguments: object) -> None:
        write_map(*arguments)
        raise KeyboardInterrupt

    write_map = prediction_parts.write_map
    Oracle(task).install(monkeypatch)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(prediction_parts, "write_map", killed)
        run()


# --- single files


def some_results() -> list[tuple[Sample, Entities]]:
    """The left third sky, the right one a dog, over both of them a cat; nothing in the middle of a second image."""
    left, right, across = np.zeros((3, *SIZE_HW), dtype=bool)
    left[:, :2], right[:, 4:], across[1:3] = True, True, True
    busy = Entities.from_masks(np.stack([left, right, across]), [0.9, 0.8, 0.7], [0, 2, 1])
    sparse = Entities.from_masks(np.stack([left, right]), [0.6, 0.5], [2, 0])
    return [(sample_of(truth_of([]), SIZE_HW, name), found) for name, found in (("a/1", busy), ("b#2", sparse))]


def test_coco_results_have_the_ids_of_the_dataset(tmp_path):
    write_result_files("instance", some_results(), classes=CLASSES, out=tmp_path)
    written = json.loads((tmp_path / "predictions.json").read_text())
    expected = [result for sample, entities in some_results() for result in entities.to_coco(sample.image_id)]
    for result, category_id in zip(expected, [3, 21, 7, 21, 3], strict=True):
        result["category_id"] = category_id
    assert written == expected


def test_no_results_are_an_empty_list(tmp_path):
    nothing = [(sample_of(truth_of([]), SIZE_HW), Entities.empty(SIZE_HW))]
    write_result_files("entity", nothing, classes=CLASSES, out=tmp_path)
    assert json.loads((tmp_path / "predictions.json").read_text()) == []


def test_panoptic_pngs_have_names_of_their_own(tmp_path):
    write_result_files("panoptic", some_results(), classes=CLASSES, out=tmp_path)
    first, second = json.loads((tmp_path / "predictions.json").read_text())["annotations"]
    assert [one["file_name"] for one in (first, second)] == ["a%2F1.png", "b#2.png"]
    assert [one["image_id"] for one in (first, second)] == ["a/1", "b#2"]
    found = {segment["category_id"]: segment["area"] for segment in first["segments_info"]}
    assert found == {3: 8, 21: 8, 7: 4}
    assert len(list((tmp_path / "predictions_png").iterdir())) == 2


def test_label_maps_hold_category_ids(tmp_path):
    write_result_files("semantic", some_results(), classes=CLASSES, out=tmp_path)
    busy, sparse = (np.asarray(Image.open(tmp_path / "labels" / name)) for name in ("a/1.png", "b#2.png"))
    assert busy.dtype == np.uint8
    assert_array_equal(busy[0], [3, 3, 255, 255, 21, 21])  # nothing there is no class
    assert_array_equal(busy[1], [3, 3, 7, 7, 21, 21])
    assert_array_equal(sparse[0], [21, 21, 255, 255, 3, 3])


def test_large_category_ids_take_sixteen_bits(tmp_path):
    classes_ = Classes(CLASSES.names, (3, 255, 3000), CLASSES.is_thing)
    write_result_files("semantic", some_results(), classes=classes_, out=tmp_path)
    labels = np.asarray(Image.open(tmp_path / "labels" / "a/1.png"))
    assert_array_equal(labels[1].astype(int), [3, 3, 255, 255, 3000, 3000])
    assert labels[0, 2] == 65535


@pytest.mark.parametrize(("task_", "folder"), [("semantic", "labels"), ("dichotomous", "maps")])
def test_pngs_of_another_set_are_refused(tmp_path, task_, folder):
    (tmp_path / folder).mkdir()
    Image.new("L", (1, 1)).save(tmp_path / folder / "stranger.png")
    with pytest.raises(InputError, match=rf"{folder}.stranger.png is of no image of the set; choose another out="):
        write_result_files(task_, some_results(), classes=CLASSES, out=tmp_path)


def test_a_head_of_an_unknown_task_is_refused():
    with pytest.raises(InputError, match="no result files for the task 'depth'; the head must be one of entity"):
        check_task("depth")


# --- the recipes of fine-tuning: a model that knows the truth, through the commands

ADE20K_FILES = {
    "ade20k_entity": ("entity", "ade20k_entity_val.json"),
    "ade20k_instance": ("instance", "ade20k_instance_val.json"),
    "ade20k_panoptic": ("panoptic", "ade20k_panoptic_val.json"),
    "ade20k_semantic": ("semantic", "annotations_detectron2/validation"),
}
COCO_FILES = {
    "coco_instance": ("instance", "annotations/instances_val2017.json"),
    "coco_panoptic": ("panoptic", "annotations/panoptic_val2017.json"),
}


@pytest.fixture(scope="module")
def ade20k_root(tmp_path_factory) -> Path:
    root = make_ade20k_tree(tmp_path_factory.mktemp("ade20k"), photos=1, val=2)
    assert len(list(ade20k.prepare(root))) == 2
    return root / "ADEChallengeData2016"


@pytest.fixture(scope="module")
def coco_root(tmp_path_factory) -> Path:
    return make_coco_tree(tmp_path_factory.mktemp("coco"), photos=1, val=2)


@pytest.mark.parametrize("recipe", ADE20K_FILES)
def test_the_truth_of_ade20k_scores_one_in_its_official_files(recipe, ade20k_root, run_of_truth):
    name, ground_truth = ADE20K_FILES[recipe]
    saved, scored = run_of_truth(recipe, ade20k_root, name, ade20k_root / ground_truth)
    check_perfect(saved, scored)


@pytest.mark.parametrize("recipe", COCO_FILES)
def test_the_truth_of_coco_scores_one_in_its_official_files(recipe, coco_root, run_of_truth):
    name, ground_truth = COCO_FILES[recipe]
    saved, scored = run_of_truth(recipe, coco_root, name, coco_root / ground_truth)
    check_perfect(saved, scored)


def test_the_truth_of_dis5k_scores_alike_in_its_official_files(tmp_path, run_of_truth):
    root = make_dis5k_tree(tmp_path / "sets", images={"DIS-VD": 2}) / "DIS5K"
    saved, scored = run_of_truth("dis5k", root, "dis5k", root / "DIS-VD" / "gt")
    assert saved["MAE"] == 0
    assert saved["maxF"] == pytest.approx(1)
    assert {name: scored[name] for name in saved} == pytest.approx(saved, abs=1e-12)


def check_perfect(saved: dict, scored: dict) -> None:
    assert saved[next(iter(HEADLINE & saved.keys()))] == pytest.approx(1)
    for metric in saved.keys() & scored.keys():
        assert saved[metric] == (scored[metric] and pytest.approx(scored[metric], abs=1e-12)), metric


HEADLINE = {"AP", "PQ", "mIoU"}


@pytest.fixture
def run_of_truth(tmp_path, tiny_architecture, tiny_settings, monkeypatch, capsys) -> Callable[..., tuple[dict, dict]]:
    """Evaluate a recipe with a model that knows the truth; its numbers, and those of ``score`` for its files."""

    def run(recipe: str, root: Path, task: str, ground_truth: Path) -> tuple[dict, dict]:
        samples = open_set(evaluation_source(composed("evaluate", [f"recipe={recipe}", f"data.root={root}"])["data"]))
        model = cropformer.build(with_classes(tiny_architecture, len(samples.classes)), settings=tiny_settings)
        numbers = {"architecture": model.architecture, "settings": model.settings}
        cropformer.save_checkpoint(tmp_path / "tiny.safetensors", model.state_dict(), **numbers)
        truth = {sample.read_frame().tobytes(): sample for sample in samples}
        monkeypatch.setattr(
            cropformer.EntitySegmenter,
            "predict",
            lambda _, images, *heads, **named: [known(truth[images[0].tobytes()], task)],
        )
        out = tmp_path / "out"
        common = [f"weights={tmp_path / 'tiny.safetensors'}", "device=cpu", f"out={out}"]
        assert main(["evaluate", f"recipe={recipe}", f"data.root={root}", *common]) == 0
        folder = {"semantic": "labels", "dis5k": "maps"}.get(task, "predictions.json")
        pngs = ["--pred-dir", str(out / "predictions_png")] if task == "panoptic" else []
        card = ["--gt", str(ground_truth), "--pred", str(out / folder), *pngs, "--json", str(tmp_path / "score.json")]
        assert main(["score", task, *card]) == 0
        paths = out / "metrics.json", tmp_path / "score.json"
        return tuple(json.loads(path.read_text())["metrics"] for path in paths)

    return run


def known(sample: Sample, task: str) -> Entities | np.ndarray:
    """The truth as a head would give it."""
    masks = sample.entity_masks()
    if task == "dis5k":
        return masks.any(axis=0).astype(np.uint8) * np.uint8(200)
    return Entities.from_masks(masks, np.linspace(0.9, 0.8, len(masks)), sample.labels())
