"""Fine-tuning by command on tiny trees in the official layouts, and what the runs say of themselves."""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from cropformer import EntityTraining
from entitytransfer.cli import main
from entitytransfer.config import run_finetune

from .ade20k_tree import make_ade20k_tree
from .clip_trees import make_uvo_tree, make_vipseg_tree, make_ytvis_tree
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
CLIP_RECIPES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "ytvis2019": (partial(make_ytvis_tree, version="2019"), "AP"),
    "ytvis2021": (partial(make_ytvis_tree, version="2021"), "AP"),
    "vipseg": (make_vipseg_tree, "VPQ"),
    "uvo_dense": (make_uvo_tree, "AP"),
    "uvo_frame": (make_uvo_tree, "AP"),
}

SMALL = (  # views that a tiny model needs milliseconds for
    *("data.canvas=64", "data.short_sides=[64]", "data.max_side=96", "test.short_side=64", "test.max_side=96"),
    *("batch.total=2", "batch.at_once=2", "loss.points=64", "data.scales=[0.9,1.1]", "data.clip.frames=2"),
)
LOCAL = ("trainer.accelerator=cpu", "trainer.precision=32-true", "data.workers=0")


class _PowerCut(Exception):
    """Ends a run in the middle."""


def finetune(out: Path, *overrides: str) -> Path:
    """Fine-tune on this machine's CPU, and return the weights."""
    assert main(["finetune", *LOCAL, f"out={out}", *overrides]) == 0
    return out / "weights.safetensors"


def finetune_until(step: int, out: Path, *overrides: str) -> None:
    """Fine-tune as `finetune` does, but be cut off in the middle of a step, the first of which is 1."""
    original, calls = EntityTraining.on_before_optimizer_step, []

    def cut(module: EntityTraining, optimizer: torch.optim.Optimizer) -> None:
        calls.append(optimizer)
        if len(calls) == step:
            raise _PowerCut
        original(module, optimizer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr(EntityTraining, "on_before_optimizer_step", cut)
        run_finetune([*LOCAL, f"out={out}", *overrides])


def evaluate(out: Path, weights: Path, *overrides: str) -> dict[str, float]:
    """The metrics of saved predictions."""
    assert main(["evaluate", f"weights={weights}", f"out={out}", "device=cpu", "workers=1", *overrides]) == 0
    return json.loads((out / "metrics.json").read_text())["metrics"]


def logged(out: Path, name: str) -> list[float]:
    """What a run logged under a name."""
    events = EventAccumulator(str(out / "log"))
    events.Reload()
    return [event.value for event in events.Scalars(name)]


def check_recipe(recipe: str, *, root: Path, init: Path, out: Path) -> None:
    """The loss of a short run falls, and its weights score to the last metric what its validation logged."""
    where = [f"recipe={recipe}", f"data.root={root}"]
    learning = ["optimisation.lr=1e-3", "optimisation.clip_norm=1", "trainer.max_steps=30", "trainer.validate_every=30"]
    weights = finetune(out / "run", *where, *SMALL, *learning, f"init={init}")
    first, _, last = logged(out / "run", "loss")
    assert last < first
    for name, value in evaluate(out / "scored", weights, *where).items():
        (validated,) = logged(out / "run", f"val/{name}")
        assert validated == pytest.approx(math.nan if value is None else value, abs=1e-6, nan_ok=True)
