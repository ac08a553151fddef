"""Each task of clips for real: what is fine-tuned from the bundled weights on two clips knows their tracks by heart.

All by command. The settings stand in for a GPU and days: views of 128 pixels, two frames of each clip in a step, a
frozen backbone, a learning rate of 1e-3, less than a hundred steps. A minute or two of CPU each.
"""

import pytest
import torch

from .finetuning import CLIP_RECIPES, evaluate, finetune, logged

SMALL = (
    *("batch.total=2", "batch.at_once=2", "loss.points=1024", "data.clip.frames=2", "data.clip.range=5"),
    *("data.augmentation=crops", "data.short_sides=[128]", "data.max_side=192"),
    *("test.short_side=128", "test.max_side=192", "adaptation.frozen=[backbone]", "init=nano"),
)
LEARNING = ("optimisation.lr=1e-3", "optimisation.clip_norm=1", "optimisation.warmup_steps=20")
HIGH = 0.75  # of what is to be had, with the training clips as the judge


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "steps"), [("ytvis2019", 60), ("ytvis2021", 60), ("vipseg", 80), ("uvo_dense", 60), ("uvo_frame", 60)]
)
def test_two_clips_are_learned_by_heart(recipe, steps, tmp_path):
    """The metric of the recipe, before a step and after the last one; and the same number from saved predictions."""
    torch.set_num_threads(1)
    make_tree, metric = CLIP_RECIPES[recipe]
    splits = ["data.options.split=train", "data.validation.options.split=train"]
    where = [f"recipe={recipe}", f"data.root={make_tree(tmp_path / 'data')}", *splits]

    untrained = finetune(tmp_path / "untrained", *where, *SMALL, "optimisation.lr=0", "trainer.max_steps=1")
    before = evaluate(tmp_path / "before", untrained, *where)[metric]
    run, length = tmp_path / "run", [f"trainer.max_steps={steps}", f"trainer.validate_every={steps}"]
    weights = finetune(run, *where, *SMALL, *LEARNING, *length)
    (after,) = logged(run, f"val/{metric}")
    assert before < HIGH < after
    assert evaluate(tmp_path / "after", weights, *where)[metric] == pytest.approx(after, abs=1e-6)
