"""Zero-shot recall through the command line: the numbers of ``score recall``, the table, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cropformer
from cropformer import Entities, rle
from entitytransfer.cli import main
from entitytransfer.datasets import coco, lvis
from entitytransfer.reports.zeroshot_table import COLUMNS, PUBLISHED, Row
from entitytransfer.score_task import score

from .zero_shot_trees import make_camo_tree, make_fss_tree, make_lvis_tree, make_ocid_tree

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
TREES: dict[str, Callable[[Path], Path]] = {
    "lvis": make_lvis_tree,
    "ocid": make_ocid_tree,
    "camo": lambda root: make_camo_tree(root, version="camo++"),
    "fss": lambda root: make_fss_tree(root, images=1),
}
TRUTHS = {"lvis": "annotations/lvis_v1_val.json", "ocid": ".", "camo": "CAMO_pp/test.json", "fss": "."}


@pytest.fixture
def run(tmp_path, tiny_weights) -> Callable[..., int]:
    """Run the command with the tiny model on a dataset's tree, which is made first."""

    def command(dataset: str, *more: str, weights: bool = True) -> int:
        root = tmp_path / "sets" / dataset
        if not root.exists():
            TREES[dataset](root)
        model = [f"weights={tiny_weights}", "device=cpu", "test.crops=0"] if weights else []
        return main(["zeroshot", f"dataset={dataset}", f"root={root}", f"out={tmp_path / 'out'}", *model, *more])

    return command


def saved(folder: Path) -> dict:
    return json.loads((folder / "zeroshot.json").read_text())


def scored(tmp_path: Path, dataset: str, predictions: Path, **options: str) -> dict[str, float]:
    truth = tmp_path / "sets" / dataset / TRUTHS[dataset]
    return score("recall", ground_truth=truth, predictions=predictions, format=dataset, **options)


def covered_twice(folder: Path) -> int:
    """Pixels in more than one prediction, over all images."""
    predictions = json.loads((folder / "predictions.json").read_text())
    image_ids = {one["image_id"] for one in predictions}
    masks = [[rle.decode(one["segmentation"]) for one in predictions if one["image_id"] == key] for key in image_ids]
    return sum(int((np.sum(group, axis=0) > 1).sum()) for group in masks)


@pytest.fixture
def truth_file(tmp_path) -> Path:
    """The annotations of LVIS as predictions, but for every third one; the second ones overlap their neighbours."""
    root = make_lvis_tree(tmp_path / "sets" / "lvis")
    records = []
    for sample in lvis.read(root):
        masks = sample.entity_masks()
        masks[1] |= masks[0]
        kept = [index for index in range(len(masks)) if index % 3 != 2]
        entities = Entities.from_masks(masks[kept], [(index * 7 % 10) / 10 for index in kept], [0] * len(kept))
        records += entities.to_coco(sample.image_id)
    path = tmp_path / "felzenszwalb.json"
    path.write_text(json.dumps(records))
    return path


@pytest.mark.parametrize("dataset", TREES)
def test_the_numbers_are_those_of_score_recall(dataset, run, tmp_path, capsys):
    assert run(dataset) == 0
    folder = tmp_path / "out" / dataset
    content = saved(folder)
    assert content["metrics"] == pytest.approx(scored(tmp_path, dataset, folder / "predictions.json"), abs=1e-12)
    assert content["fates"]["found"] / content["fates"]["entities"] == pytest.approx(content["metrics"]["AR@100"])
    expected = {"dataset": dataset, "classes": "one", "iou_threshold": 0.5, "overlap": False, "short_side": 64}
    assert {name: content["protocol"][name] for name in expected} == expected
    printed = capsys.readouterr().out
    assert "short side 64, long side at most 107; smaller photos are enlarged" in printed
    assert "masks           without overlap: every pixel belongs to the best prediction that claims it" in printed
    assert f"Open {folder / 'gallery' / 'index.html'} in a browser." in printed
    assert (folder / "gallery" / "index.html").is_file()
    assert (folder / "config.yaml").is_file() and (folder / "run.json").is_file()


def test_a_resumed_run_in_shards_gives_the_numbers_of_one(run, tmp_path, monkeypatch, capsys):
    assert run("fss", "name=whole") == 0
    capsys.readouterr()
    assert run("fss", "--shard", "2/2") == 0
    assert "Shard 2/2 is done; 1/2 still lack images" in capsys.readouterr().out
    assert not (tmp_path / "out" / "fss" / "zeroshot.json").exists()
    assert run("fss", "--shard", "1/2") == 0
    whole, parts = (saved(tmp_path / "out" / name) for name in ("fss-whole", "fss"))
    assert (parts["metrics"], parts["fates"]) == (whole["metrics"], whole["fates"])
    monkeypatch.setattr(cropformer.EntitySegmenter, "predict", None)
    assert run("fss", "--shard", "1/2") == 0
    assert saved(tmp_path / "out" / "fss") == parts


def test_both_kinds_of_masks_make_two_rows(run, tmp_path, capsys):
    assert run("lvis", "overlap=both", "name=model") == 0
    without, overlapping = (saved(tmp_path / "out" / name) for name in ("lvis-model", "lvis-model-overlap"))
    assert (without["row"], overlapping["row"]) == ("model", "model, overlapping")
    assert "may overlap" in overlapping["protocol"]["masks"]
    claimed = [covered_twice(tmp_path / "out" / name) for name in ("lvis-model", "lvis-model-overlap")]
    assert claimed[0] == 0 < claimed[1]
    rows = capsys.readouterr().out.split("| AR@100")[1]
    assert "| model " in rows and "| model, overlapping " in rows


def test_a_key_of_the_dataset_goes_to_the_dataset(run, tmp_path):
    assert run("ocid", "supports=drop") == 0
    assert run("ocid", "supports=keep", "name=kept") == 0
    dropped, kept = (saved(tmp_path / "out" / name) for name in ("ocid", "ocid-kept"))
    assert dropped["fates"]["entities"] < kept["fates"]["entities"]
    assert (dropped["protocol"]["supports"], kept["protocol"]["supports"]) == ("drop", "keep")
    assert "supports=keep" in kept["about"]
    predictions = tmp_path / "out" / "ocid-kept" / "predictions.json"
    expected = scored(tmp_path, "ocid", predictions, supports="keep")
    assert kept["metrics"] == pytest.approx(expected, abs=1e-12)


def test_any_set_is_scored_by_its_entities(tmp_path, tiny_weights):
    common = [f"weights={tiny_weights}", "device=cpu", "test.crops=0"]
    assert main(["zeroshot", "dataset=coco", f"root={TINY}", f"out={tmp_path / 'out'}", *common]) == 0
    assert main(["evaluate", f"data.root={TINY}", f"out={tmp_path / 'evaluate'}", *common]) == 0
    metrics = json.loads((tmp_path / "evaluate" / "metrics.json").read_text())["metrics"]
    content = saved(tmp_path / "out" / "coco")
    assert content["metrics"]["AR@100"] == pytest.approx(metrics["AR@100"], abs=1e-12)
    assert content["metrics"]["AR@100_50:95"] == pytest.approx(metrics["AR100"], abs=1e-12)
    assert content["fates"]["entities"] == sum(len(sample.entity_rles()) for sample in coco.read(TINY))


# --- the table


def test_the_average_is_there_when_all_four_sets_are(run, tmp_path, capsys):
    table = tmp_path / "out" / "table.json"
    for dataset in ("fss", "lvis", "ocid"):
        assert run(dataset) == 0
        (row,) = json.loads(table.read_text())["rows"]
        assert row["average"] is None
    capsys.readouterr()
    assert run("camo") == 0
    (row,) = json.loads(table.read_text())["rows"]
    assert row["name"] == "tiny"
    recalls = [saved(tmp_path / "out" / dataset)["metrics"]["AR@100"] for dataset in COLUMNS]
    assert list(row["recalls"].values()) == recalls
    assert row["average"] == pytest.approx(sum(recalls) / 4)
    text = (tmp_path / "out" / "table.md").read_text()
    assert capsys.readouterr().out.endswith(text)
    head, _, own, *published = [line.strip("| ").split("|") for line in text.splitlines()[:7]]
    assert [cell.strip() for cell in head] == ["AR@100", "LVIS", "OCID", "CAMO", "FSS", "Avg. AR"]
    assert [cell.strip() for cell in own] == ["tiny", *(f"{100 * one:.2f}" for one in (*recalls, row["average"]))]
    assert all("(paper" in line[0] for line in published)
    assert len(published) == len(json.loads(table.read_text())["paper"]) == 4


def test_other_sets_have_columns_after_the_average(run, tmp_path, tiny_weights):
    assert run("fss") == 0
    arguments = [f"root={TINY}", f"out={tmp_path / 'out'}", f"weights={tiny_weights}", "device=cpu", "test.crops=0"]
    assert main(["zeroshot", "dataset=coco", *arguments]) == 0
    cells = [[cell.strip() for cell in line.split("|")] for line in (tmp_path / "out" / "table.md").open()]
    assert cells[0][-3:-1] == ["Avg. AR", "coco"]
    assert cells[3][-3:-1] == ["43.27", "-"]


@pytest.mark.parametrize(("name", "average"), list(zip(PUBLISHED, (43.27, 52.23, 63.34, 67.41))))
def test_the_papers_averages_follow_from_its_rows(name, average):
    row = Row(name, dict(zip(COLUMNS, PUBLISHED[name])))
    assert round(row.average, 2) == pytest.approx(average, abs=0.011)


# --- result files of other methods


@pytest.mark.parametrize(("overlap", "how"), [("true", "keep"), ("false", "remove")])
def test_a_result_file_is_scored_like_score_recall(overlap, how, run, truth_file, tmp_path):
    assert run("lvis", f"predictions={truth_file}", f"overlap={overlap}", weights=False) == 0
    content = saved(tmp_path / "out" / f"lvis-felzenszwalb{'-overlap' if overlap == 'true' else ''}")
    expected = scored(tmp_path, "lvis", truth_file, overlap=how)
    assert content["metrics"] == pytest.approx(expected, abs=1e-12)
    assert content["protocol"]["predictions"] == "felzenszwalb.json"
    assert 0 < content["metrics"]["AR@100"] < 1


def test_a_result_file_is_a_row_beside_the_weights(run, truth_file, tmp_path):
    assert run("lvis") == 0
    assert run("lvis", f"predictions={truth_file}", "name=truth", weights=False) == 0
    rows = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert {row["name"] for row in rows} == {"tiny", "truth, overlapping"}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"image_id": 5, "score": 0.5}, "prediction 0: 'image_id' 5 is not in the ground truth"),
        ({"image_id": 785, "score": "high"}, "prediction 0: 'score' must be a finite number"),
        ({"image_id": 785, "score": 1, "segmentation": {"size": [2, 2], "counts": "04"}}, "has the size [2, 2]"),
    ],
)
def test_a_damaged_result_file_is_one_sentence(record, words, run, tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(json.dumps([record]))
    assert run("lvis", f"predictions={path}", weights=False) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line and str(path) in line


# --- what is refused


def test_a_dry_run_forecasts_and_writes_nothing(run, tmp_path, capsys):
    assert run("fss", "--dry-run") == 0
    assert "h for 2 images" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["dataset=atlantis"], "atlantis"),
        (["root=/nowhere"], "/nowhere"),
        (["weights=/nowhere.pth"], "/nowhere.pth"),
        (["split=sideways"], "'split' must be one of test, all, not 'sideways'"),
        (["colour=red"], "dataset fss has no option colour; its options are split"),
        (["overlap=perhaps"], "overlap=perhaps is none of true, false, both"),
        (["name=a/b"], "name=a/b is no name of a folder"),
        (["examples=-1"], "examples=-1 is no number of images"),
        (["predictions=/nowhere.json"], "/nowhere.json"),
        (["predictions=/nowhere.json", "--dry-run"], "leave predictions= out"),
        (["nonsense"], "the settings do not fit zeroshot"),
        (["test.nosuch=1"], "nosuch"),
        (["--shard", "1/9"], "9 shards are too many for 2 images"),
    ],
)
def test_bad_settings_are_one_sentence(more, words, run, capsys):
    assert run("fss", *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_set_without_images_is_refused(run, tmp_path, capsys):
    root = make_lvis_tree(tmp_path / "sets" / "lvis")
    path = root / "annotations" / "lvis_v1_val.json"
    path.write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    assert run("lvis") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no annotated image" in line


def test_what_must_be_said_is_asked_for(capsys):
    assert main(["zeroshot", "root=x"]) == 2
    assert "dataset" in capsys.readouterr().err
    assert main(["zeroshot", "dataset=lvis"]) == 2
    assert "root" in capsys.readouterr().err


def test_other_weights_do_not_mix_with_earlier_predictions(run, capsys):
    assert run("fss") == 0
    assert run("fss", "test.crops=4") == 2
    assert "was made with crops=0, not 4; choose another out=" in capsys.readouterr().err
    assert run("fss", "test.crops=4", "name=crops") == 0


def test_a_foreign_file_among_the_runs_is_refused(run, tmp_path, capsys):
    (tmp_path / "out" / "other").mkdir(parents=True)
    (tmp_path / "out" / "other" / "zeroshot.json").write_text("{}")
    assert run("fss") == 2
    assert "zeroshot.json was not written by zeroshot; delete it" in capsys.readouterr().err
