"""Every recipe for real: what is fine-tuned from the bundled weights on four photos knows these four photos by heart.

All by command. The settings stand in for a GPU and days: views of 160 pixels, a frozen backbone whose features are
kept, a learning rate of 1e-3, 120 steps. A minute or two of CPU each.
"""

import pytest
import torch

from .finetuning import RECIPES, evaluate, finetune, logged

SMALL = (
    *("batch.total=4", "batch.at_once=4", "loss.points=1024"),
    *("data.augmentation=crops", "data.short_sides=[160]", "data.max_side=256", "data.color_jitter=false"),
    *("test.short_side=160", "test.max_side=256"),
)
LEARNING = ("optimisation.lr=1e-3", "optimisation.warmup_steps=20", "trainer.max_steps=120")
HIGH = 0.8  # of what is to be had, with the training photos as the judge


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_four_photos_are_learned_by_heart(recipe, tmp_path):
    """The metric of the recipe, before a step and after the last one; and the same number from saved predictions."""
    torch.set_num_threads(1)
    make_tree, metric = RECIPES[recipe]
    split = "DIS-TR" if recipe == "dis5k" else "train"
    where = [f"recipe={recipe}", f"data.root={make_tree(tmp_path / 'data')}", f"data.validation.options.split={split}"]
    frozen = ["adaptation.frozen=[backbone]", f"data.feature_cache={tmp_path / 'features'}", "init=nano", *SMALL]

    untrained = finetune(tmp_path / "untrained", *where, *frozen, "optimisation.lr=0", "trainer.max_steps=1")
    before = evaluate(tmp_path / "before", untrained, *where)[metric]
    run = tmp_path / "run"
    weights = finetune(run, *where, *frozen, *LEARNING, "trainer.validate_every=120")
    after = logged(run, f"val/{metric}")[-1]
    assert before < HIGH < after
    assert evaluate(tmp_path / "after", weights, *where)[metric] == pytest.approx(after, abs=1e-6)
