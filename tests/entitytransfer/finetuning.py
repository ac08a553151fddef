"""Fine-tuning by command on tiny trees in the official layouts, and what the runs say of themselves."""

import json
from collections.abc import Callable
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from entitytransfer.cli import main

from .ade20k_tree import make_ade20k_tree
from .coco_tree import make_coco_tree
from .zero_shot_trees import make_dis5k_tree

# Recipe → how its tree is made, and the metric of its paper's table.
RECIPES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "ade20k_semantic": (make_ade20k_tree, "mIoU"),
    "ade20k_instance": (make_ade20k_tree, "AP"),
    "ade20k_panoptic": (make_ade20k_tree, "PQ"),
    "ade20k_entity": (make_ade20k_tree, "AP"),
    "coco_instance": (make_coco_tree, "AP"),
    "coco_panoptic": (make_coco_tree, "PQ"),
    "coco_entity": (make_coco_tree, "AP"),
    "dis5k": (make_dis5k_tree, "maxF"),
}


LOCAL = ("trainer.accelerator=cpu", "trainer.precision=32-true", "data.workers=0")


def finetune(out: Path, *overrides: str) -> Path:
    """Fine-tune on this machine's CPU, and return the weights."""
    assert main(["finetune", *LOCAL, f"out={out}", *overrides]) == 0
    return out / "weights.safetensors"


def evaluate(out: Path, weights: Path, *overrides: str) -> dict[str, float]:
    """The metrics of saved predictions."""
    assert main(["evaluate", f"weights={weights}", f"out={out}", "device=cpu", "workers=1", *overrides]) == 0
    return json.loads((out / "metrics.json").read_text())["metrics"]


def logged(out: Path, name: str) -> list[float]:
    """What a run logged under a name."""
    events = EventAccumulator(str(out / "log"))
    events.Reload()
    return [event.value for event in events.Scalars(name)]
