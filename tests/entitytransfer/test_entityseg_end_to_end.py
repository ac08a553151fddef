"""A small EntitySeg, laid out as published, goes through every command on the way from disk to a score."""

import json
from pathlib import Path

from entitytransfer.cli import main
from entitytransfer.training.engine import last_checkpoint, steps_behind

from .entityseg_tree import make_entityseg_tree


def test_from_disk_to_a_score(tmp_path: Path):
    """Trained by one process, gone on with by two, then evaluated on its validation photos."""
    root = make_entityseg_tree(tmp_path / "data")
    run, entities = tmp_path / "run", root / "entityseg" / "annotations" / "entity_segmentation"
    training = [
        *("recipe=entityseg_1x", "model=nano", "init=nano", f"data.root={root}", f"out={run}"),
        *("batch.total=2", "batch.at_once=1", "data.workers=0", "data.short_sides=[64]", "data.max_side=96"),
        *("loss.points=64", "test.short_side=64", "test.max_side=96", "trainer.validate_every=4"),
        *("trainer.accelerator=cpu", "trainer.precision=32-true", "trainer.checkpoint_every=1"),
    ]
    assert main(["doctor", "dataset=entityseg", f"root={root}"]) == 0
    assert main(["pretrain", *training, "trainer.max_steps=2"]) == 0
    assert steps_behind(last_checkpoint(run)) == 2
    assert main(["launch", "--processes", "2", "--", "pretrain", *training, "trainer.max_steps=4"]) == 0
    assert steps_behind(last_checkpoint(run)) == 4
    starts = json.loads((run / "run.json").read_text())["starts"]
    assert len(starts) == 2

    scored = tmp_path / "evaluation"
    assert (
        main(
            [
                "evaluate",
                "recipe=entityseg_1x",
                f"data.root={root}",
                f"weights={run / 'weights.safetensors'}",
                f"out={scored}",
                "device=cpu",
                "workers=1",
            ]
        )
        == 0
    )
    metrics = json.loads((scored / "metrics.json").read_text())["metrics"]
    assert 0 < metrics["AR@100"] <= 1

    statistics = tmp_path / "stats.json"
    assert main(["stats", "dataset=entityseg", f"root={root}", "split=train", "--json", str(statistics)]) == 0
    assert json.loads(statistics.read_text())["statistics"]["images"] == 4
    agreement = tmp_path / "consistency.json"
    both = [str(entities / "entityv2_010203_entity_val.json")] * 2
    assert main(["consistency", "--first", both[0], "--second", both[1], "--json", str(agreement)]) == 0
    found = json.loads(agreement.read_text())
    assert found["first_as_truth"]["AP"] == found["pairs"]["category_accuracy"] == 1
