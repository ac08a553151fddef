"""Fine-tuning by command: what becomes of the class head, what stays frozen, and where a run starts and goes on."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import cropformer
from cropformer import HubFile, InputError
from entitytransfer.cli import main
from entitytransfer.config import run_finetune, run_pretrain
from entitytransfer.training.adaptation import Adaptation
from entitytransfer.training.engine import last_checkpoint, steps_behind
from entitytransfer.training.init_weights import named_weights

from .coco_tree import make_coco_tree
from .finetuning import LOCAL, RECIPES, SMALL, check_recipe, finetune, finetune_until


@pytest.fixture(scope="module")
def coco(tmp_path_factory) -> Path:
    """A tiny COCO."""
    return make_coco_tree(tmp_path_factory.mktemp("coco"))


def start(weights: Path, root: Path) -> list[str]:
    """Settings of a run on tiny views."""
    return [*SMALL, f"init={weights}", f"data.root={root}", "data.validation.root=null"]


def short(out: Path, weights: Path, root: Path, *overrides: str, steps: int = 1) -> Path:
    """The weights after a few steps."""
    return finetune(out, *start(weights, root), f"trainer.max_steps={steps}", *overrides)


def state(path: Path) -> dict[str, torch.Tensor]:
    return cropformer.read_checkpoint(path).state


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_learns_and_is_scored_as_it_was_validated(recipe, tiny_weights, tmp_path):
    make_tree, _ = RECIPES[recipe]
    check_recipe(recipe, root=make_tree(tmp_path / "data"), init=tiny_weights, out=tmp_path)


# --- the class head


def test_the_class_head_is_that_of_the_data(coco, tiny_weights, tmp_path, capsys):
    path = short(tmp_path, tiny_weights, coco, "recipe=coco_panoptic", "optimisation.lr=0")
    said = capsys.readouterr().out
    model, before, after = cropformer.load(path), state(tiny_weights), state(path)
    names = model.classes["names"]
    known = f"and the data has {len(names)} classes ({', '.join(names[:3])}, ...)"
    assert f"re-initialised the class head: it was made for 1 class (entity), {known}" in said
    assert len(names) == model.architecture.num_classes > 1
    assert model.query_decoder.class_head.weight.shape[0] == model.architecture.num_classes + 1
    others = [name for name in before if "class_head" not in name]
    assert all(torch.equal(after[name], before[name]) for name in others)


def test_a_class_head_for_the_same_classes_is_kept(coco, tiny_weights, tmp_path, capsys):
    first = short(tmp_path / "first", tiny_weights, coco, "recipe=coco_panoptic", "optimisation.lr=0")
    capsys.readouterr()
    second = short(tmp_path / "second", first, coco, "recipe=coco_panoptic", "optimisation.lr=0")
    assert "0 re-initialised" in capsys.readouterr().out
    assert all(torch.equal(tensor, state(first)[name]) for name, tensor in state(second).items())


def test_as_many_classes_are_not_the_same_classes(tiny_weights, tmp_path, capsys):
    make_tree, _ = RECIPES["dis5k"]
    short(tmp_path / "run", tiny_weights, make_tree(tmp_path / "data"), "recipe=dis5k")
    said = capsys.readouterr().out
    assert "it was made for 1 class (entity), and the data has 1 class (foreground)" in said
    assert "re-initialised query_decoder.class_head.bias [2]: made for other classes" in said


def test_classes_without_names_are_not_known(coco, tiny_architecture, tmp_path, capsys):
    model = cropformer.build(replace(tiny_architecture, num_classes=3))
    path = tmp_path / "three.safetensors"
    cropformer.save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)
    short(tmp_path / "run", path, coco, "recipe=coco_instance")
    assert "it was made for 3 classes (names unknown)" in capsys.readouterr().out


def test_pretraining_says_how_many_classes_it_needs(coco, tmp_path):
    overrides = ["recipe=coco_panoptic", "model=nano", "model.association=none", f"data.root={coco}", f"out={tmp_path}"]
    with pytest.raises(InputError, match=r"the model has 1 classes and the data \d+; set model.num_classes=\d+"):
        run_pretrain([*overrides, *SMALL, "trainer.accelerator=cpu"])


def test_sets_of_different_classes_are_one_sentence(coco, tiny_weights, tmp_path):
    differing = ["recipe=coco_instance", "data.validation.options.task=entity", "data.validation.root=."]
    with pytest.raises(InputError, match="has 1 classes that are not the .* of the first training set"):
        run_finetune([*start(tiny_weights, coco), *differing, f"out={tmp_path}"])


def test_sets_that_are_learnt_differently_are_one_sentence(coco, tiny_weights, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "sets.py").write_text(
        "from dataclasses import replace\n"
        "from entitytransfer.datasets import coco\n"
        "read, built = coco.read, lambda sample, cuts: coco.adapter().build_target(sample, cuts)\n"
        "def adapter(*, task='entity'):\n"
        "    return replace(coco.adapter(task=task), build_target=built)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = "options: {split: train, task: entity}"
    sets = f"data.sets=[{{root: ., dataset: coco, {options}}}, {{root: ., dataset: own.sets, {options}}}]"
    with pytest.raises(InputError, match="the datasets coco, own.sets build their targets each in its own way"):
        run_finetune([*start(tiny_weights, coco), "recipe=coco_entity", sets, f"out={tmp_path / 'run'}"])


# --- the model


def test_the_model_is_that_of_the_weights(coco, tiny_weights, tmp_path):
    kept = cropformer.load(short(tmp_path / "kept", tiny_weights, coco, "recipe=coco_entity")).architecture
    assert kept == cropformer.load(tiny_weights).architecture
    more = short(tmp_path / "more", tiny_weights, coco, "recipe=coco_entity", "model.num_queries=12")
    assert cropformer.load(more).architecture.num_queries == 12


def test_a_lone_backbone_becomes_part_of_the_model_that_is_named(coco, tmp_path, capsys):
    source = cropformer.load("nano").backbone.state_dict()
    torch.save(source, tmp_path / "backbone.pth")
    chosen = ["recipe=coco_entity", "model=nano", "optimisation.lr=0"]
    path = short(tmp_path / "run", tmp_path / "backbone.pth", coco, *chosen)
    after = state(path)
    assert all(torch.equal(after[f"backbone.{name}"], tensor) for name, tensor in source.items())
    assert cropformer.load(path).architecture.channels == 128


def test_it_starts_from_weights(tmp_path):
    with pytest.raises(InputError, match="fine-tuning starts from weights; give init= entityseg, coco_panoptic"):
        run_finetune(["init=null", "data.root=x", f"out={tmp_path}"])


def test_names_of_start_weights():
    assert named_weights("entityseg", model="mask2former_swin_l") == "mask2former_swin_large_w7_3x"
    assert named_weights("entityseg", model="hornet_l") == "cropformer_hornet_3x"
    large = HubFile.parse(named_weights("coco_panoptic", model="mask2former_swin_l"))
    assert large.repo == "facebook/mask2former-swin-large-coco-panoptic"
    for model in ("r50", "swin_l", "mask2former_swin_t"):
        assert HubFile.parse(named_weights("imagenet", model=model)).repo.startswith("timm/")
    for other in ("nano", "some/path.pth", "hf://owner/name"):
        assert named_weights(other, model="r50") == other


@pytest.mark.parametrize(
    ("init", "model", "message"),
    [
        (
            "entityseg",
            "r50",
            "init=entityseg for model=r50 is known; public are those for model=swin_t, swin_l",
        ),
        ("coco_panoptic", "r50", "give init=PATH of a Mask2Former trained on COCO panoptic"),
        ("coco_entity", "mask2former_swin_l", "is known; give init=PATH of weights trained on COCO's entities"),
        ("imagenet", "hornet_l", "give init=PATH of a classifier on this backbone"),
    ],
)
def test_start_weights_without_an_address_have_to_be_named(init, model, message):
    with pytest.raises(InputError, match=message):
        named_weights(init, model=model)


# --- low memory


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Names of what both have and is not the same."""
    return {name for name in before if before[name].shape == after[name].shape and not before[name].equal(after[name])}


def test_frozen_parts_stay_as_they_are(coco, tiny_weights, tmp_path):
    frozen = ["recipe=coco_entity", "adaptation.frozen=[backbone,pixel_decoder,query_decoder]", "optimisation.lr=1e-3"]
    path = short(tmp_path, tiny_weights, coco, *frozen, steps=2)
    moved = changed(state(tiny_weights), state(path))
    assert moved == {"query_decoder.class_head.weight", "query_decoder.class_head.bias"}


def test_low_rank_updates_become_ordinary_weights(coco, tiny_weights, tmp_path):
    updates = ["recipe=coco_entity", "adaptation.low_rank=1", "adaptation.frozen=[backbone]", "optimisation.lr=1e-3"]
    path = short(tmp_path, tiny_weights, coco, *updates, steps=2)
    before, after = state(tiny_weights), state(path)
    assert before.keys() == after.keys()
    moved = changed(before, after)
    assert not [name for name in moved if name.startswith("backbone")]
    name = "pixel_decoder.layers.0.feedforward.linear1.weight"
    assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) == 1
    assert "query_decoder.class_head.weight" in moved
    assert "pixel_decoder.mask_projection.weight" not in moved  # a convolution


def test_a_part_that_no_model_has():
    with pytest.raises(InputError, match="no part 'neck' to freeze; choose from backbone, pixel_decoder"):
        Adaptation(frozen=("neck",))


# --- the run


@pytest.mark.usefixtures("one_thread")
def test_a_run_with_updates_that_was_cut_off_ends_with_the_same_bits(coco, tiny_weights, tmp_path, capsys):
    chosen = ["recipe=coco_panoptic", "adaptation.low_rank=2", "optimisation.lr=1e-3", "trainer.checkpoint_every=2"]
    whole = state(short(tmp_path / "whole", tiny_weights, coco, *chosen, steps=4))
    finetune_until(4, tmp_path / "cut", *start(tiny_weights, coco), *chosen, "trainer.max_steps=4")
    assert steps_behind(last_checkpoint(tmp_path / "cut")) == 2
    resumed = state(short(tmp_path / "cut", tiny_weights, coco, *chosen, steps=4))
    assert "going on from" in capsys.readouterr().out
    assert resumed.keys() == whole.keys()
    assert not changed(whole, resumed)


def test_settings_are_saved_and_a_dry_run_writes_nothing(coco, tiny_weights, tmp_path, capsys):
    short(tmp_path / "run", tiny_weights, coco, "recipe=coco_entity")
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (saved["init"], saved["data"]["dataset"]) == (str(tiny_weights), "coco")
    capsys.readouterr()
    overrides = [*LOCAL, *start(tiny_weights, coco), "recipe=coco_entity", f"out={tmp_path / 'dry'}"]
    assert main(["finetune", "--dry-run", *overrides]) == 0
    assert "h for 5900000 steps of 2 images" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()


def test_what_is_wrong_is_one_sentence(capsys):
    assert main(["finetune", "recipe=nosuch", "data.root=x"]) == 2
    assert "nosuch" in capsys.readouterr().err
