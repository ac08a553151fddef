"""Recipes: their numbers are the published ones, every one fits every model it is for, and trains."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch

import cropformer
from cropformer import InputError
from entitytransfer.config import composed, data_options, model_architecture, run_pretrain, step_count
from entitytransfer.set_source import SetSource
from entitytransfer.training.sampling import BatchSize

from .entityseg_tree import make_entityseg_tree

FOLDER = Path(__file__).parents[2] / "configs" / "recipe"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SIZES = ("r50", "swin_t", "swin_l", "hornet_l")
CROPFORMER = [f"entityseg_{n}x" for n in (1, 2, 3, 4)]
MASK2FORMER = [f"mask2former_entityseg_{n}x" for n in (1, 2, 3, 4)]
CLASSES = {"entityseg_instance": 206, "entityseg_panoptic": 350, "entityseg_semantic": 150}
ADE20K = [f"ade20k_{task}" for task in ("semantic", "instance", "panoptic", "entity")]
COCO = [f"coco_{task}" for task in ("instance", "panoptic", "entity")]
CLIPS = ["ytvis2019", "ytvis2021", "vipseg", "uvo_dense"]
TRANSFER = [*ADE20K, *COCO, "dis5k", "uvo_frame", *CLIPS]
COMMAND = re.compile(r"^# entitytransfer (pretrain|finetune) (.*)$", re.MULTILINE)


@cache
def config(recipe: str, *overrides: str) -> dict:
    """The composed recipe, which no test may change."""
    return composed(command_of(recipe), [f"recipe={recipe}", "data.root=x", *overrides])


def command_of(recipe: str) -> str:
    return "finetune" if recipe in TRANSFER else "pretrain"


def steps(recipe: str, *overrides: str) -> int:
    composition = config(recipe, *overrides)
    return step_count(composition["trainer"], composition["batch"])


def test_these_are_the_recipes():
    assert sorted(["nano", *CROPFORMER, *MASK2FORMER, *CLASSES, *TRANSFER]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_begins_with_its_commands(name):
    """Each is a command that composes, with every model that it names."""
    commands = COMMAND.findall((FOLDER / f"{name}.yaml").read_text())
    assert commands
    for command, typed in commands:
        assert command == command_of(name)
        fixed, _, models = typed.replace("[", "").replace("]", "").partition(" model=")
        for model in models.split("|") if models else []:
            assert composed(command, [*fixed.split(), f"model={model}"])["model"]["name"] == model
        assert composed(command, fixed.split())["out"] == f"outputs/{name}"


@pytest.mark.parametrize(
    ("recipe", "size"),
    [
        *((CROPFORMER[0], size) for size in SIZES),
        *((recipe, f"mask2former_{size}") for recipe in (MASK2FORMER[0], *CLASSES) for size in SIZES),
    ],
)
def test_every_recipe_fits_every_model(recipe, size):
    composition = config(recipe, f"model={size}")
    architecture = model_architecture(composition["model"])
    with torch.device("meta"):
        model = cropformer.build(architecture)
    plain = size.startswith("mask2former")
    assert architecture.num_queries == (200 if "hornet" in size else 100)
    assert model.query_decoder.class_head.weight.shape[0] == CLASSES.get(recipe, 1) + 1
    assert (composition["data"]["crops"], composition["test"]["crops"]) == ((0, 0) if plain else (1, 4))
    assert data_options(composition["data"], composition["batch"]).batch == BatchSize(16, 2)


def test_steps_are_the_published_ones():
    assert [steps(f"entityseg_{n}x") for n in (1, 2, 3, 4)] == [34_375, 68_750, 103_125, 137_500]
    assert [steps(recipe) for recipe in MASK2FORMER] == [steps(recipe) for recipe in CROPFORMER]
    assert steps("entityseg_3x", "model=swin_l", "batch.total=8") == 206_250
    assert steps("entityseg_3x", "trainer.max_steps=5") == 5
    assert steps("entityseg_1x", "trainer.images=17") == 2


@pytest.mark.parametrize("name", [name for name in NAMES if name != "nano"])
def test_hyper_parameters_are_the_published_ones(name):
    composition = config(name)
    assert composition["optimisation"] == {
        "lr": 5e-4 if name == "entityseg_panoptic" else 1e-4,
        "backbone_lr_factor": 0.1,
        "weight_decay": 0.05,
        "warmup_steps": 0,
        "clip_norm": 0.01,
    }
    assert composition["loss"] == {"points": 12544}
    assert composition["trainer"]["checkpoint_every"] == (1000 if name in CLIPS else 5000)
    assert composition["trainer"]["precision"] == "bf16-mixed"


def test_crops_and_windows_are_the_published_ones():
    crops, jitter, semantic = (config(name)["data"] for name in ("entityseg_3x", MASK2FORMER[2], "entityseg_semantic"))
    assert (crops["augmentation"], crops["crop_type"], crops["crop_ratio"]) == ("crops", "fixed4", 0.7)
    assert (crops["short_sides"], crops["max_side"]) == ([640, 672, 704, 736, 768, 800], 1333)
    assert (jitter["augmentation"], jitter["canvas"], jitter["scales"]) == ("scale_jitter", 1024, [0.1, 2.0])
    assert (semantic["augmentation"], semantic["canvas"], semantic["color_jitter"]) == ("semantic_crop", 512, True)
    assert (semantic["short_sides"], semantic["max_side"]) == ([int(0.1 * n * 512) for n in range(5, 21)], 2048)


@pytest.mark.parametrize(
    ("recipe", "expected", "batch"),
    [
        ("ade20k_panoptic", 160_000, 16),
        ("coco_instance", 737_500, 16),
        ("dis5k", 20_000, 16),
        ("ytvis2019", 6_000, 16),
        ("ytvis2021", 8_000, 16),
        ("vipseg", 20_000, 8),
        ("uvo_dense", 8_000, 16),
        ("uvo_frame", 8_000, 16),
    ],
)
def test_transfers_take_as_many_steps_as_they_say(recipe, expected, batch):
    assert steps(recipe) == expected
    assert config(recipe)["batch"]["total"] == batch


@pytest.mark.parametrize("recipe", ["ytvis2019", "ytvis2021", "uvo_dense"])
def test_clips_are_cut_and_tested_as_published(recipe):
    composition = config(recipe)
    data, test = composition["data"], composition["test"]
    assert (data["clip"], data["augmentation"], data["crops"]) == ({"frames": 2, "range": 20}, "crops", 0)
    assert (data["short_sides"], data["color_jitter"]) == ([360, 480], False)
    assert (test["short_side"], test["crops"]) == (480, 0)


def test_vipseg_is_cut_and_tested_as_published():
    composition = config("vipseg")
    data = composition["data"]
    assert (data["clip"], data["canvas"], data["crops"]) == ({"frames": 5, "range": 2}, 608, 0)
    assert data["short_sides"] == list(range(480, 801, 32))
    assert composition["test"]["short_side"] == 720


@pytest.mark.parametrize("recipe", CLIPS)
def test_clips_are_validated_on_what_they_do_not_train_on(recipe):
    data = config(recipe)["data"]
    training, validation = dict(data["options"]), dict(data["validation"]["options"])
    assert training.pop("split") != validation.pop("split")
    assert training == validation


@pytest.mark.parametrize("recipe", ADE20K)
def test_ade20k_is_cut_and_tested_as_published(recipe):
    composition = config(recipe)
    data, test = composition["data"], composition["test"]
    assert (data["augmentation"], data["canvas"], data["color_jitter"]) == ("semantic_crop", 640, True)
    assert (data["short_sides"], data["max_side"]) == ([int(0.1 * n * 640) for n in range(5, 21)], 2560)
    assert (test["short_side"], test["max_side"], test["crops"]) == (640, 2560, 0)


@pytest.mark.parametrize("recipe", [*COCO, "dis5k", "uvo_frame"])
def test_coco_and_dis5k_are_cut_and_tested_as_published(recipe):
    composition = config(recipe)
    data, test = composition["data"], composition["test"]
    assert (data["augmentation"], data["canvas"], data["scales"]) == ("scale_jitter", 1024, [0.1, 2.0])
    assert (test["short_side"], test["max_side"], test["crops"]) == (800, 1333, 0)


@pytest.mark.parametrize("recipe", TRANSFER)
def test_a_transfer_starts_from_entityseg_and_keeps_its_queries(recipe):
    composition = config(recipe)
    assert composition["init"] == "entityseg"
    assert composition["model"]["name"] == ("swin_l" if recipe in CLIPS else "mask2former_swin_l")
    assert composition["model"]["num_queries"] is None
    assert composition["data"]["validation"]["options"].get("task") == composition["data"]["options"].get("task")
    differences = {key for key, value in config(recipe, "init=coco_panoptic").items() if value != composition[key]}
    assert differences == {"init"}  # the control of the paper's Table 4 is one override


@pytest.mark.parametrize("family", [CROPFORMER, MASK2FORMER], ids=["cropformer", "mask2former"])
def test_longer_recipes_differ_in_length_alone(family):
    first, *others = (config(name) for name in family)
    for other in others:
        trainer = {**other["trainer"], "images": first["trainer"]["images"]}
        assert {**other, "trainer": trainer, "out": first["out"]} == first


@pytest.mark.parametrize(("name", "task"), [("entityseg_1x", "entity"), ("entityseg_panoptic", "panoptic")])
def test_training_and_validation_sets_can_be_chosen(name, task):
    composition = config(name, "data.validation.options.resolution=low", "data.options.split=train_01")
    data = data_options(composition["data"], composition["batch"])
    expected = {"task": task, "resolution": "high", "split": "train_01"}
    assert data.sets == (SetSource("x", dataset="entityseg", options=expected),)
    assert data.validation.options == {"task": task, "resolution": "low", "split": "val"}


@pytest.mark.parametrize("name", ["entityseg_1x", "mask2former_entityseg_1x", *CLASSES])
def test_a_recipe_trains_on_a_tiny_set(name, tmp_path):
    plain = [] if name in CROPFORMER else ["model.association=none"]
    overrides = [
        f"recipe={name}",
        f"data.root={make_entityseg_tree(tmp_path / 'data')}",
        f"out={tmp_path / 'run'}",
        "model=nano",
        "batch.total=2",
        "batch.at_once=1",
        "data.short_sides=[64]",
        "data.max_side=96",
        "data.canvas=64",
        "data.workers=0",
        "loss.points=32",
        "trainer.max_steps=2",
        "trainer.validate_every=2",
        "trainer.accelerator=cpu",
        "trainer.precision=32-true",
        "test.short_side=64",
        "test.max_side=96",
        *plain,
    ]
    state = cropformer.read_checkpoint(run_pretrain(overrides)).state
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())
    assert state["query_decoder.class_head.weight"].shape[0] == CLASSES.get(name, 1) + 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.validation=val"], "val describes no set; give root and, if needed, any of dataset, weight, options"),
        (["data.sets=[{root: a, folder: b}]"], "describes no set; give root"),
        (["data.sets=[{dataset: coco}]"], "describes no set; give root"),
        (["batch.at_once=3"], "batch.total=16 does not divide into groups of batch.at_once=3"),
        (["data.augmentation=mosaic"], "no augmentation 'mosaic'"),
    ],
)
def test_settings_that_make_no_sense_are_one_sentence(overrides, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_pretrain(["data.root=x", f"out={tmp_path}", *overrides])
