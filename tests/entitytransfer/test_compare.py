"""Comparing runs: the gain is the difference of their numbers, its interval that of paired images, like with like."""

import json
from pathlib import Path

import numpy as np
import pytest

from cropformer import InputError
from entitytransfer.cli import main
from entitytransfer.compare import Gain, compare
from entitytransfer.evaluate import evaluate
from entitytransfer.evaluation.bootstrap import percentile_intervals
from entitytransfer.evaluation.options import EvaluateOptions
from entitytransfer.evaluation.saved_results import open_run, saved_results
from entitytransfer.set_source import SetSource, open_set

from .fixture_sets import NAME, Oracle, adapter, make_photos


class Forgetful(Oracle):
    """Finds only the better half of what the official predictions have, and of a map only half of the grey."""

    def predict(self, image: np.ndarray) -> list:
        (result,) = super().predict(image)
        if isinstance(result, np.ndarray):
            return [result // 2]
        return [result.select(np.arange(len(result)) < len(result) // 2)]


def run(tmp_path: Path, name: str, oracle: Oracle, monkeypatch, *, weights: Path, **options: object) -> Path:
    """A finished run, whose model predicts like the oracle."""
    make_photos(tmp_path / "photos", options["task"])
    oracle.install(monkeypatch)
    source = SetSource(str(tmp_path / "photos"), NAME, options=options)
    evaluate(source, EvaluateOptions(out=tmp_path / name, weights=str(weights), device="cpu"))
    return tmp_path / name


def pair(tmp_path: Path, task: str, monkeypatch, *, weights: Path) -> tuple[Path, Path]:
    """A worse run and a better one."""
    common = {"weights": weights, "task": task}
    return (
        run(tmp_path, "control", Forgetful(task), monkeypatch, **common),
        run(tmp_path, "entityseg", Oracle(task), monkeypatch, **common),
    )


@pytest.mark.parametrize("task", ["entity", "recall", "dichotomous"])
def test_the_gain_is_the_difference_of_the_saved_numbers(task, tmp_path, tiny_weights, monkeypatch):
    before, after = pair(tmp_path, task, monkeypatch, weights=tiny_weights)
    comparison = compare(before, after, bootstrap=0)
    for gain in comparison.gains:
        assert gain.before == open_run(before).metrics[gain.name]
        assert gain.after == open_run(after).metrics[gain.name]
        assert gain.interval is None
    assert {"entity": "AP", "recall": "AR@100", "dichotomous": "maxF"}[task] in [one.name for one in comparison.gains]


@pytest.mark.parametrize("task", ["entity", "dichotomous"])
def test_intervals_are_of_the_same_images_for_both_runs(task, tmp_path, tiny_weights, monkeypatch):
    before, after = pair(tmp_path, task, monkeypatch, weights=tiny_weights)
    comparison = compare(before, after, bootstrap=12, seed=3)
    samples = open_set(open_run(before).source)

    def gain(images: np.ndarray) -> dict[str, float]:
        numbers = []
        for folder in (after, before):
            evaluator = adapter(task=task).build_evaluator(samples.classes)
            for sample, result in saved_results(folder, samples):
                evaluator.update(result, sample)
            numbers.append(evaluator.compute(images))
        return {name: numbers[0][name] - numbers[1][name] for name in numbers[0]}

    expected = percentile_intervals(gain, np.arange(len(samples)), draws=12, seed=3)
    assert {one.name: one.interval for one in comparison.gains} == {
        one.name: expected[one.name] for one in comparison.gains
    }


def test_a_run_gains_nothing_over_itself(tmp_path, tiny_weights, monkeypatch):
    folder = run(tmp_path, "out", Oracle("entity"), monkeypatch, weights=tiny_weights, task="entity")
    (gain,) = compare(folder, folder, metric="AP50", bootstrap=5).gains
    assert (gain.name, gain.after - gain.before, gain.interval) == ("AP50", 0, (0, 0))


def test_what_takes_long_is_drawn_less_often(tmp_path, tiny_weights, monkeypatch):
    monkeypatch.setattr("entitytransfer.compare.percentile_intervals", lambda *_, draws, seed: None)
    drawn = {}
    for task in ("entity", "dichotomous"):
        folder = run(tmp_path, task, Oracle(task), monkeypatch, weights=tiny_weights, task=task)
        drawn[task] = compare(folder, folder).draws
    assert drawn == {"entity": 200, "dichotomous": 1000}


@pytest.mark.parametrize(
    ("gain", "line"),
    [
        (Gain("PQ", 0.481, 0.49, (0.004, 0.0141)), "PQ            49.0 (+0.9)  [+0.4, +1.4]"),
        (Gain("MAE", 0.074, 0.035, None), "MAE          0.035 (-0.039)  lower is better"),
        (Gain("HCE", 1116, 969, (-200, -90.4)), "HCE            969 (-147)  [-200, -90]  lower is better"),
        (Gain("APs", float("nan"), float("nan"), None), "APs              - (-)"),
    ],
)
def test_lines_are_like_those_of_the_paper(gain, line):
    assert gain.row() == line


def test_the_table_says_in_what_the_runs_differ(tmp_path, tiny_weights, monkeypatch):
    Oracle("entity").install(monkeypatch)
    make_photos(tmp_path / "photos", "entity")
    source = SetSource(str(tmp_path / "photos"), NAME)
    for crops in (0, 4):
        evaluate(
            source, EvaluateOptions(out=tmp_path / f"{crops}", weights=str(tiny_weights), device="cpu", crops=crops)
        )
    lines = compare(tmp_path / "0", tmp_path / "4", bootstrap=0).table().splitlines()
    assert lines[0] == f"set     {NAME} task=entity (4 images)"
    assert lines[1].startswith(f"before  {tmp_path / '0'}: weights tiny.safetensors (")
    assert [line.rpartition(") ")[2] for line in lines[1:3]] == ["crops=0", "crops=4"]


# --- what cannot be compared


def test_runs_of_other_tasks_or_images_are_refused(tmp_path, tiny_weights, monkeypatch):
    common = {"monkeypatch": monkeypatch, "weights": tiny_weights}
    entity = run(tmp_path, "entity", Oracle("entity"), task="entity", **common)
    maps = run(tmp_path, "maps", Oracle("dichotomous"), task="dichotomous", **common)
    few = run(tmp_path, "few", Oracle("entity"), task="entity", images=3, **common)
    with pytest.raises(InputError, match=r"with task=entity, .*maps with dichotomous; compare runs of one set"):
        compare(entity, maps)
    with pytest.raises(InputError, match=r"with num_images=4, .*few with 3; compare runs of one set"):
        compare(entity, few)


def test_other_images_of_the_same_options_are_refused(tmp_path, tiny_weights, monkeypatch):
    before, after = pair(tmp_path, "entity", monkeypatch, weights=tiny_weights)
    content = json.loads((after / "metrics.json").read_text())
    content["protocol"]["images_sha256"] = "0" * 64
    (after / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="images_sha256="):
        compare(before, after)


def test_what_is_no_finished_run_is_one_sentence(tmp_path, tiny_weights, monkeypatch):
    folder = run(tmp_path, "out", Oracle("entity"), monkeypatch, weights=tiny_weights, task="entity")
    with pytest.raises(InputError, match=r"nowhere holds no finished run: there is no metrics.json"):
        compare(folder, tmp_path / "nowhere")
    with pytest.raises(InputError, match="The runs have no metric 'PQ'; choose one of AP, AP50"):
        compare(folder, folder, metric="PQ")
    (folder / "predictions" / "part-1-of-1.jsonl").unlink()
    with pytest.raises(InputError, match=r"predictions lacks samples of the set; run entitytransfer evaluate"):
        compare(folder, folder)
    (folder / "metrics.json").write_text('{"metrics": {}}')
    with pytest.raises(InputError, match="metrics.json was not written by evaluate"):
        compare(folder, folder)


# --- the command


def test_the_command_prints_and_saves(tmp_path, tiny_weights, monkeypatch, capsys):
    before, after = pair(tmp_path, "recall", monkeypatch, weights=tiny_weights)
    capsys.readouterr()
    path = tmp_path / "gain.json"
    assert main(["compare", str(before), str(after), "--bootstrap", "4", "--json", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "weights tiny.safetensors" in printed
    assert "95 % intervals from 4 resamplings of the images, seed 0" in printed
    content = json.loads(path.read_text())
    gain = content["metrics"]["AR@100"]
    assert gain["gain"] == gain["after"] - gain["before"] > 0
    assert f"AR@100        {100 * gain['after']:.1f} (+{100 * gain['gain']:.1f})  [" in printed
    assert content["protocol"]["after"]["task"] == "recall"
    assert gain["interval"][0] <= gain["interval"][1]


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["compare", str(tmp_path), str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds no finished run" in line
