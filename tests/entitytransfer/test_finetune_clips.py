"""Fine-tuning on clips by command: every recipe learns, is scored as it was validated, and ends with the same bits."""

import json
import re
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import cropformer
from cropformer import InputError, with_association
from entitytransfer.cli import main
from entitytransfer.config import run_finetune
from entitytransfer.training.engine import last_checkpoint, steps_behind
from entitytransfer.training.init_weights import named_weights

from .clip_trees import make_uvo_tree
from .coco_tree import make_coco_tree
from .finetuning import CLIP_RECIPES, LOCAL, SMALL, check_recipe, evaluate, finetune, finetune_until, logged

RECIPE_BASES = Path(__file__).parents[2] / "configs" / "recipe" / "base"
JOINT = re.compile(r'"(data\.sets=[^"]*)"')  # as one types it


@pytest.fixture(scope="module")
def uvo(tmp_path_factory) -> Path:
    """A tiny UVO; a step takes two of its three clips, so that most steps end within an epoch."""
    return make_uvo_tree(tmp_path_factory.mktemp("uvo"), clips=3, frames=4, size_hw=(48, 64))


@pytest.fixture
def plain_weights(tmp_path, tiny_architecture) -> Path:
    """A Mask2Former as a weights file."""
    torch.manual_seed(0)
    model = cropformer.build(with_association(tiny_architecture, "none"))
    path = tmp_path / "plain.safetensors"
    cropformer.save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)
    return path


def start(weights: Path, root: Path, *overrides: str, steps: int = 1) -> list[str]:
    """Settings of a short run on tiny views."""
    run = [f"init={weights}", f"data.root={root}", "data.validation.root=null", f"trainer.max_steps={steps}"]
    return ["recipe=uvo_dense", *SMALL, *run, *overrides]


def state(path: Path) -> dict[str, torch.Tensor]:
    return cropformer.read_checkpoint(path).state


@pytest.mark.parametrize("recipe", CLIP_RECIPES)
def test_every_recipe_learns_and_is_scored_as_it_was_validated(recipe, tiny_weights, tmp_path):
    make_tree, _ = CLIP_RECIPES[recipe]
    check_recipe(recipe, root=make_tree(tmp_path / "data"), init=tiny_weights, out=tmp_path)


def test_validation_shows_frames_of_a_clip(tiny_weights, uvo, tmp_path):
    finetune(tmp_path, *start(tiny_weights, uvo, "data.validation.root=.", "trainer.validate_every=1"))
    events = EventAccumulator(str(tmp_path / "log"), size_guidance={"images": 0}).Reload()
    (picture,) = events.Images("validation/4")
    assert (picture.width, picture.height) == (3 * 64, 3 * 48)  # photo, result and truth of three frames


def test_a_dry_run_forecasts_and_writes_nothing(tiny_weights, uvo, tmp_path, capsys):
    overrides = [*LOCAL, *start(tiny_weights, uvo, "data.validation.root=."), f"out={tmp_path / 'dry'}"]
    assert main(["finetune", "--dry-run", *overrides]) == 0
    said = capsys.readouterr().out
    assert "h for 1 steps of 2 clips" in said and "validation: " in said
    assert not (tmp_path / "dry").exists()


def test_crops_join_each_frame(tiny_weights, uvo, tmp_path):
    crops = ["data.crops=1", "test.crops=4", "data.validation.root=.", "trainer.validate_every=1"]
    weights = finetune(tmp_path, *start(tiny_weights, uvo, *crops))
    assert cropformer.load(weights).settings.crops == 4
    assert logged(tmp_path, "val/AP")


def test_images_train_beside_clips(tiny_weights, uvo, tmp_path):
    """As the recipe says how; clips are validated on."""
    make_coco_tree(tmp_path / "both" / "COCO")
    (tmp_path / "both" / "UVO").symlink_to(uvo)
    (typed,) = JOINT.findall((RECIPE_BASES / "clips.yaml").read_text())
    both = typed.replace("\n#", "")
    validated = ["data.validation.root=UVO", "trainer.validate_every=1", "batch.total=8"]
    path = finetune(tmp_path / "run", *start(tiny_weights, tmp_path / "both", both, *validated))
    assert all(tensor.isfinite().all() for tensor in state(path).values() if tensor.is_floating_point())
    assert logged(tmp_path / "run", "val/AP")


def test_a_clip_whose_tracks_are_never_seen_is_left_out(tiny_weights, tmp_path, capsys):
    """Nothing is known about any of its frames where gaps are unknown."""
    root = make_uvo_tree(tmp_path / "uvo", frames=4, size_hw=(48, 64))
    path = root / "VideoSparseSet" / "UVO_sparse_train_video.json"
    content = json.loads(path.read_text())
    for track in content["annotations"][:3]:
        track |= {name: [None] * 2 for name in ("segmentations", "bboxes", "areas")}
    path.write_text(json.dumps(content))
    finetune(tmp_path / "run", *start(tiny_weights, root, "data.options.kind=sparse", steps=2))
    assert f"{root}: 1 of 2 clips have no entity; left out" in capsys.readouterr().out


# --- the model


def test_a_mask2former_gets_the_association_that_is_named(plain_weights, uvo, tmp_path, capsys):
    path = finetune(tmp_path / "run", *start(plain_weights, uvo, "optimisation.lr=0"))
    assert cropformer.load(path).architecture.association == "cross+self+feedforward"
    assert "re-initialised association (" in capsys.readouterr().out
    before, after = state(plain_weights), state(path)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    learned = finetune(tmp_path / "learned", *start(plain_weights, uvo, "model.association=learned"))
    assert cropformer.load(learned).architecture.association == "learned"


def test_a_mask2former_learns_from_single_frames_as_it_is(plain_weights, uvo, tmp_path):
    alone = ["data.clip.frames=1", "data.validation.root=.", "trainer.validate_every=1"]
    path = finetune(tmp_path / "run", *start(plain_weights, uvo, *alone))
    assert cropformer.load(path).architecture.association == "none"
    (validated,) = logged(tmp_path / "run", "val/AP")
    where = ["recipe=uvo_dense", f"data.root={uvo}", "clip.window=1", "clip.overlap=0"]
    assert evaluate(tmp_path / "scored", path, *where)["AP"] == pytest.approx(validated, abs=1e-6)


def test_weights_for_the_control_are_public_for_the_same_model():
    assert named_weights("entityseg", model="swin_l") == "cropformer_swin_large_w7_3x"
    for model in ("swin_l", "mask2former_swin_l"):
        assert "swin-large-coco-panoptic" in named_weights("coco_panoptic", model=model)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.association=none"], "set data.crops=0 and test.crops=0 and data.clip.frames=1"),
        (["data.feature_cache=features"], "data.feature_cache keeps the features of images, not of clips"),
        (["data.clip.frames=0"], "give data.clip.frames of 1 or more"),
        (["data.clip.stride=2"], "stride"),
    ],
)
def test_settings_that_make_no_sense_for_clips_are_one_sentence(overrides, message, plain_weights, uvo, tmp_path):
    with pytest.raises(InputError, match=message):
        run_finetune([*LOCAL, *start(plain_weights, uvo, *overrides), f"out={tmp_path}"])


# --- the run


@pytest.mark.usefixtures("one_thread")
def test_a_run_that_was_cut_off_ends_with_the_same_bits(tiny_weights, uvo, tmp_path):
    """With a validation on the way."""
    watched = ["data.validation.root=.", "trainer.validate_every=2", "trainer.checkpoint_every=2"]
    settings = start(tiny_weights, uvo, "batch.at_once=1", *watched, steps=4)
    whole = state(finetune(tmp_path / "whole", *settings))
    finetune_until(4, tmp_path / "cut", *settings)
    assert steps_behind(last_checkpoint(tmp_path / "cut")) == 2
    resumed = state(finetune(tmp_path / "cut", *settings))
    assert resumed.keys() == whole.keys()
    assert not [name for name in whole if not resumed[name].equal(whole[name])]
