"""The result of scoring as a table and as JSON."""

import json

from entitytransfer.scorecard import Score


def test_json_has_null_for_what_is_undefined(tmp_path):
    Score({"AP": 0.25, "APs": float("nan"), "APl": None}, {"task": "entity", "top_k": None}).save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "metrics": {"AP": 0.25, "APs": None, "APl": None},
        "protocol": {"task": "entity", "top_k": None},
    }


def test_intervals_are_stored_beside_the_metrics(tmp_path):
    Score({"AP": 0.25, "APs": None}, {}, intervals={"AP": (0.2, 0.3), "APs": None}).save(tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text())["intervals"] == {"AP": [0.2, 0.3], "APs": None}


def test_the_table_shows_percent_and_the_protocol():
    shown = Score(
        {"AP": 0.25419, "APs": float("nan")},
        {"task": "entity", "max_dets": [1, 10], "top_k": None},
        intervals={"AP": (0.2, 0.3), "APs": None},
    ).table()
    assert shown.splitlines() == [
        "AP           25.42  [20.00, 30.00]",
        "APs              -",
        "",
        "protocol",
        "task      entity",
        "max_dets  1, 10",
        "top_k     -",
    ]


def test_the_table_shows_other_measures_as_they_are():
    assert Score({"HCE": 969.25, "MAE": 0.0354}, {}, in_percent=False).table().splitlines()[:2] == [
        "HCE   969.250",
        "MAE     0.035",
    ]
