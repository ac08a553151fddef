"""Predict, then score: the numbers depend neither on shards nor on interruptions, and every refusal says why."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import cropformer
from cropformer import Entities, InputError
from entitytransfer.adapter import Sample, SampleSet
from entitytransfer.classes import ENTITY
from entitytransfer.cli import main
from entitytransfer.config import composed
from entitytransfer.datasets import coco
from entitytransfer.evaluate import describe_set, evaluate, table
from entitytransfer.evaluation.options import EvaluateOptions
from entitytransfer.heads import EntityHead
from entitytransfer.processes import process_device
from entitytransfer.set_source import SetSource
from entitytransfer.tasks import task_adapter

from .entityseg_tree import make_entityseg_tree
from .fixture_sets import NAME as FIXTURES
from .fixture_sets import make_photos

RECIPES = Path(__file__).parents[2] / "configs" / "recipe"
TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
SET = SetSource(str(TINY))


@pytest.fixture
def options(tmp_path, tiny_weights) -> dict:
    return {"out": tmp_path / "out", "weights": str(tiny_weights), "device": "cpu"}


def written(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


def predictions(out: Path) -> list[dict]:
    return json.loads((out / "predictions.json").read_text())


def test_writes_predictions_and_metrics_with_their_protocol(options):
    metrics = evaluate(SET, EvaluateOptions(**options, crops=0))
    content = written(options["out"])
    assert content["metrics"] == metrics
    assert 0 < metrics["AR@100"] < 1
    protocol = content["protocol"]
    expected = {"dataset": "coco", "num_images": 4, "exhaustive": True, "weights": "tiny.safetensors", "crops": 0}
    expected |= {"short_side": 64, "max_side": 107, "min_score": 0.0, "source": "B-OC", "precision": "fp32"}
    assert {name: protocol[name] for name in expected} == expected
    assert len(protocol["weights_sha256"]) == 64


def test_the_results_file_scores_the_same_with_pycocotools(options):
    metrics = evaluate(SET, EvaluateOptions(**options))
    truth = COCO()
    truth.dataset = {"images": [], "annotations": [], "categories": [{"id": 1}]}
    for sample in sorted(coco.read(TINY), key=lambda sample: str(sample.image_id)):
        truth.dataset["images"].append({"id": sample.image_id, "height": sample.size_hw[0], "width": sample.size_hw[1]})
        for mask in sample.entity_masks():
            common = {"image_id": sample.image_id, "category_id": 1, "iscrowd": 0}
            identity = {"id": len(truth.dataset["annotations"]) + 1, "area": int(mask.sum())}
            truth.dataset["annotations"].append(common | identity | {"segmentation": cropformer.rle.encode(mask)})
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(str(options["out"] / "predictions.json")), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert metrics["AP"] == pytest.approx(evaluation.stats[0], abs=1e-12)
    assert metrics["AR100"] == pytest.approx(evaluation.stats[8], abs=1e-12)


def test_a_finished_run_is_scored_again_without_predicting(options, monkeypatch):
    first = evaluate(SET, EvaluateOptions(**options))
    monkeypatch.setattr(cropformer.EntitySegmenter, "predict", None)
    assert evaluate(SET, EvaluateOptions(**options)) == first


def test_the_truth_scores_one(options, monkeypatch):
    samples = coco.read(TINY)
    truth = {sample.read_frame().tobytes(): sample for sample in samples}

    def oracle(_: cropformer.EntitySegmenter, images: list[np.ndarray], *heads: object, **named: object) -> list:
        masks = truth[images[0].tobytes()].entity_masks()
        return [Entities.from_masks(masks, np.ones(len(masks)), np.zeros(len(masks)))]

    monkeypatch.setattr(cropformer.EntitySegmenter, "predict", oracle)
    assert evaluate(SET, EvaluateOptions(**options))["AP"] == pytest.approx(1.0)


def test_undefined_numbers_are_null_and_dashes(options, tmp_path, photo_file, capsys):
    content = {"images": [{"id": 1, "file_name": "photo.png", "height": 90, "width": 131}], "annotations": []}
    (tmp_path / "entities.json").write_text(json.dumps(content))
    metrics = evaluate(SetSource(str(tmp_path), options={"images": "."}), EvaluateOptions(**options))
    assert set(written(options["out"])["metrics"].values()) == {None}
    assert set(table(metrics).splitlines()[1].split()) == {"-"}
    assert "Not every region of this set is annotated" in capsys.readouterr().out


def test_the_table_is_as_papers_print_it():
    metrics = {"AP": 0.1234, "AP50": 1.0, "MAE": 0.0349, "HCE": 968.6, "PQ_st": float("nan")}
    assert [line.split() for line in table(metrics).splitlines()] == [
        ["AP", "AP50", "MAE", "HCE", "PQ_st"],
        ["12.3", "100.0", "0.035", "969", "-"],
    ]


def test_other_options_do_not_mix_with_earlier_predictions(options):
    evaluate(SET, EvaluateOptions(**options))
    with pytest.raises(InputError, match=r"was made with crops=4, not 0; choose another out="):
        evaluate(SET, EvaluateOptions(**options, crops=0))


def test_ids_that_are_not_unique_are_refused(options, monkeypatch):
    sample: Sample = coco.read(TINY)[0]
    twice = SampleSet([sample, sample], ENTITY)
    monkeypatch.setattr(coco, "read", lambda root, **_: twice)
    with pytest.raises(InputError, match="Several images of the set have the same id"):
        evaluate(SET, EvaluateOptions(**options))


def test_options_reach_the_head(options):
    evaluate(SET, EvaluateOptions(**options, head={"overlap": True, "source": None}))
    scores = sorted(one["score"] for one in predictions(options["out"]))
    options["out"] = options["out"].with_name("best")
    evaluate(SET, EvaluateOptions(**options, head={"overlap": True, "min_score": scores[3]}))
    assert sorted(one["score"] for one in predictions(options["out"])) == scores[3:]
    protocol = written(options["out"])["protocol"]
    expected = {"head": "entity", "min_score": scores[3], "overlap": True, "source": "B-OC"}
    assert {name: protocol[name] for name in expected} == expected


def test_bounded_memory_reaches_the_head_and_changes_nothing(options, monkeypatch):
    free = evaluate(SET, EvaluateOptions(**options))
    options["out"] = options["out"].with_name("bounded")
    bounds = []
    original = EntityHead.predict

    def predict(self: EntityHead, queries: cropformer.Queries, views: cropformer.Views) -> list[Entities]:
        bounds.append(self.max_memory)
        return original(self, queries, views)

    monkeypatch.setattr(EntityHead, "predict", predict)
    assert evaluate(SET, EvaluateOptions(**options, max_memory="1MB")) == free
    assert set(bounds) == {1_000_000}
    assert "max_memory" not in written(options["out"])["protocol"]


def test_an_option_that_the_head_has_not_is_refused(options):
    with pytest.raises(InputError, match="The entity head has no option 'top_k'; it has min_score, source, compat"):
        evaluate(SET, EvaluateOptions(**options, head={"top_k": 10}))


def test_weights_of_other_classes_are_refused(options, tmp_path):
    make_photos(tmp_path / "photos", "semantic")
    source = SetSource(str(tmp_path / "photos"), FIXTURES, options={"task": "semantic"})
    sentence = r"tiny.safetensors has the size 1, but the semantic task of .* needs 150; fine-tune them on it first"
    with pytest.raises(InputError, match=sentence):
        evaluate(source, EvaluateOptions(**options))


def test_another_adapter_judges_in_its_own_way(options):
    metrics = evaluate(SET, EvaluateOptions(**options), adapter=task_adapter("recall", coco.read))
    assert "AR@100_50:95" in metrics
    assert "AP" not in metrics


def test_a_set_is_described_with_the_defaults_of_its_reader_and_its_images():
    samples = coco.read(TINY)
    described = describe_set(SET, samples)
    others = [describe_set(SET, some)["images_sha256"] for some in (samples[:3], [*reversed(samples)])]
    assert len({described.pop("images_sha256"), *others}) == 3
    assert described == {"dataset": "coco", "task": "entity", "exhaustive": True, "num_images": 4}


def test_more_shards_than_images_are_refused(options):
    with pytest.raises(InputError, match="5 shards are too many for 4 images"):
        evaluate(SET, EvaluateOptions(**options, shard=(1, 5)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shard": (0, 3)}, "There is no shard 0/3"),
        ({"shard": (4, 3)}, "There is no shard 4/3"),
        ({"workers": 0}, "workers=0 leaves nobody"),
        ({"max_memory": "2 bananas"}, "bananas"),
    ],
)
def test_options_that_make_no_sense(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        EvaluateOptions(out=tmp_path, **wrong)


@pytest.mark.parametrize(("rank", "visible", "device"), [("3", 8, "cuda:3"), ("3", 1, "cuda:0"), (None, 2, "cuda:0")])
def test_processes_of_a_machine_take_a_gpu_each(monkeypatch, rank, visible, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    assert process_device("auto") == device
    assert process_device("cpu") == "cpu"


# --- the command


@pytest.fixture
def arguments(tmp_path, tiny_weights) -> list[str]:
    return [f"data.root={TINY}", f"weights={tiny_weights}", "device=cpu", f"out={tmp_path / 'out'}"]


def test_the_command_prints_the_table_and_saves_its_settings(arguments, tmp_path, capsys):
    assert main(["evaluate", *arguments, "test.crops=0", "head.compat=official"]) == 0
    assert capsys.readouterr().out.splitlines()[-2].split()[:3] == ["AP", "AP50", "AP75"]
    assert written(tmp_path / "out")["protocol"]["compat"] == "official"
    (start,) = json.loads((tmp_path / "out" / "run.json").read_text())["starts"]
    assert start["config"]["test"]["crops"] == 0
    saved = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())
    assert saved["data"] == {"root": str(TINY), "dataset": "coco", "options": {}}
    assert saved["head"]["compat"] == "official"


def test_the_command_in_shards(arguments, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["evaluate", *arguments]) == 0
    assert "Shard 2/2 is done; 1/2 still lack images" in capsys.readouterr().out
    assert main(["evaluate", *arguments, "--shard", "1/2"]) == 0
    assert "AR@100" in capsys.readouterr().out


def test_a_dry_run_forecasts_and_writes_nothing(arguments, tmp_path, capsys):
    assert main(["evaluate", *arguments, "--dry-run"]) == 0
    assert "h for 4 images" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_an_empty_split_is_one_sentence(arguments, tmp_path, capsys):
    (tmp_path / "entities.json").write_text(json.dumps({"images": [], "annotations": []}))
    empty = [f"data.root={tmp_path}", "+data.options.images=."]
    assert main(["evaluate", *arguments, *empty]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no annotated image" in line


@pytest.mark.parametrize("recipe", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_recipe_leaves_the_test_settings_to_the_weights(recipe):
    config = composed("evaluate", [f"recipe={recipe}", "data.root=x"])
    assert config["out"] == "outputs/evaluate"
    assert set({**config["test"], **config["head"]}.values()) == {None}


def test_a_recipe_names_the_validation_set(tmp_path, tiny_weights):
    root = make_entityseg_tree(tmp_path / "sets")
    common = [f"data.root={root}", f"weights={tiny_weights}", "device=cpu", f"out={tmp_path / 'out'}"]
    assert main(["evaluate", "recipe=entityseg_1x", *common, "data.validation.options.resolution=low"]) == 0
    protocol = written(tmp_path / "out")["protocol"]
    expected = {"dataset": "entityseg", "split": "val", "resolution": "low", "num_images": 2, "short_side": 64}
    assert {name: protocol[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("weights=/nowhere.pth", "/nowhere.pth"),
        ("device=quantum", "no device 'quantum'"),
        ("precision=fp8", "no precision 'fp8'"),
        ("data.root=/nowhere", "/nowhere"),
        ("nosuch=1", "nosuch"),
        ("recipe=nosuch", "nosuch"),
        ("data.dataset=nosuch", "There is no dataset 'nosuch'"),
        ("+data.options.task=nosuch", "nosuch"),
        ("head.top_k=5", "The entity head has no option 'top_k'"),
        ("head.source=X", "no prediction source 'X'"),
        ("test.min_score=0.5", "evaluate has no test.min_score; give head.min_score"),
    ],
)
def test_bad_settings_are_one_sentence(arguments, wrong, words, capsys):
    assert main(["evaluate", *arguments, wrong]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
