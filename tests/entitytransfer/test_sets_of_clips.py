"""Commands that are made for images say so when they meet a set of clips."""

from pathlib import Path

import pytest

from entitytransfer.cli import main

from .clip_trees import make_uvo_tree, make_vipseg_tree, make_ytvis_tree

TREES = {"youtube_vis": make_ytvis_tree, "uvo": make_uvo_tree, "vipseg": make_vipseg_tree}


@pytest.mark.parametrize("dataset", TREES)
@pytest.mark.parametrize("command", ["stats", "zeroshot"])
def test_a_set_of_clips_is_refused_in_one_sentence(tmp_path: Path, capsys, command, dataset):
    (tmp_path / "set").mkdir()
    root = TREES[dataset](tmp_path / "set")
    settings = [f"dataset={dataset}", f"root={root}"]
    more = {"stats": ["--workers", "1"], "zeroshot": ["weights=nano", f"out={tmp_path}/out"]}
    assert main([command, *settings, *more[command]]) == 2
    error = capsys.readouterr().err
    assert error.startswith("The set holds clips, and only images can be measured so; entitytransfer ")
    assert not list(tmp_path.rglob("predictions"))


def test_annotations_of_clips_are_no_pair_of_annotators(tmp_path: Path, capsys):
    make_ytvis_tree(tmp_path)
    annotation = str(tmp_path / "ytvis_2019" / "train.json")
    assert main(["consistency", "--first", annotation, "--second", annotation]) == 2
    assert "has no field 'images'; check that it is a COCO-format annotation file." in capsys.readouterr().err
