"""Fine-tuning with a fine level by command: it is switched on, kept, evaluated and converted."""

from pathlib import Path

import pytest
import torch

import cropformer
from cropformer import InputError
from entitytransfer.cli import main
from entitytransfer.config import run_finetune

from .finetuning import evaluate, finetune
from .zero_shot_trees import make_dis5k_tree

SMALL = [
    *("recipe=dis5k", "data.canvas=64", "test.short_side=64", "test.max_side=96"),
    *("batch.total=2", "batch.at_once=2", "loss.points=64", "optimisation.lr=1e-3", "optimisation.clip_norm=1"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A tiny DIS5K."""
    return make_dis5k_tree(tmp_path_factory.mktemp("dis5k"))


@pytest.fixture(scope="module")
def weights(root, tmp_path_factory) -> Path:
    """The bundled model after three steps with a fine level."""
    steps = ["init=nano", "model.fine_level=true", "trainer.max_steps=3"]
    return finetune(tmp_path_factory.mktemp("run"), *SMALL, f"data.root={root}", *steps)


def test_it_is_trained_and_evaluated(weights, root, tmp_path):
    trained = cropformer.load(weights)
    assert trained.architecture.fine_level
    assert trained.fine_level.output.weight.abs().max() > 0
    metrics = evaluate(tmp_path, weights, "recipe=dis5k", f"data.root={root}")
    assert 0 < metrics["maxF"] <= 1


@pytest.mark.parametrize(("choice", "kept"), [([], True), (["model.fine_level=false"], False)])
def test_it_stays_unless_it_is_switched_off(choice, kept, weights, root, tmp_path):
    steps = [f"init={weights}", "trainer.max_steps=1", "data.validation.root=null"]
    again = cropformer.load(finetune(tmp_path / "again", *SMALL, f"data.root={root}", *steps, *choice))
    assert (again.fine_level is not None) is kept


def test_conversion_keeps_it(weights, tmp_path):
    half = tmp_path / "half.safetensors"
    assert main(["convert", str(weights), str(half), "--strict", "--half"]) == 0
    converted, source = cropformer.load(half), cropformer.load(weights)
    assert torch.equal(converted.fine_level.output.weight, source.fine_level.output.weight.half().float())


def test_cached_features_have_no_pixels_for_it(tiny_weights, root, tmp_path):
    cache = ["data.augmentation=crops", "data.short_sides=[64]", "optimisation.backbone_lr_factor=0"]
    chosen = [*cache, f"data.feature_cache={tmp_path / 'cache'}", "model.fine_level=true", f"init={tiny_weights}"]
    with pytest.raises(InputError, match="features without their pixels, which the fine level reads; leave the cache"):
        run_finetune([*SMALL, f"data.root={root}", f"out={tmp_path / 'run'}", "trainer.accelerator=cpu", *chosen])
    assert not (tmp_path / "cache").exists()
