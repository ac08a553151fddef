"""Pretraining end to end on four photos: it learns, stops, resumes to the same weights, and says what is wrong."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

import cropformer
from cropformer import Architecture, InputError, Optimisation, SetLoss, TestSettings
from cropformer.architecture import ResNetNumbers
from entitytransfer.config import composed, run_pretrain
from entitytransfer.loaders import DataOptions, SetSource
from entitytransfer.pretrain import LoopOptions, pretrain

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"
SETTINGS = TestSettings(short_side=64, max_side=96, crops=0, min_score=0.1)
ARCHITECTURE = Architecture(
    "resnet",
    asdict(ResNetNumbers((1, 1, 1, 1), stem=8, width=4, channels=8)),
    channels=32,
    num_queries=8,
    encoder_layers=1,
    encoder_feedforward=32,
    decoder_layers=2,
    decoder_feedforward=32,
    association_feedforward=32,
    heads=4,
)


def run(
    out: Path,
    *,
    steps: int,
    data: dict | None = None,
    loop: dict | None = None,
    lr_factor: float = 0.1,
    architecture: Architecture = ARCHITECTURE,
) -> Path:
    return pretrain(
        architecture,
        settings=SETTINGS,
        data=DataOptions(
            (SetSource(str(TINY)),), short_sides=(64,), max_side=96, batch_size=2, workers=0, **(data or {})
        ),
        loss=SetLoss(points=64),
        optimisation=Optimisation(lr=1e-3, max_steps=steps, backbone_lr_factor=lr_factor),
        loop=LoopOptions(accelerator="cpu", checkpoint_every=2, validate_every=4, **(loop or {})),
        out=out,
    )


def weights(path: Path) -> dict:
    return cropformer.read_checkpoint(path).state


def test_trains_validates_and_writes_weights(tmp_path):
    path = run(tmp_path, steps=4, data={"validation": str(TINY)})
    model = cropformer.load(path)
    assert model.settings == SETTINGS
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert list((tmp_path / "log").glob("events*"))


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_trains_in_mixed_precision(tmp_path, precision):
    state = weights(run(tmp_path, steps=2, loop={"precision": precision}))
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())


def test_a_resumed_run_sees_the_batches_of_an_uninterrupted_one(tmp_path, monkeypatch):
    seen = []
    from entitytransfer import training_data

    original = training_data.TrainingSamples.__getitem__
    monkeypatch.setattr(
        training_data.TrainingSamples,
        "__getitem__",
        lambda self, draw: (seen.append(draw), original(self, draw))[1],
    )
    run(tmp_path / "whole", steps=6)
    whole, seen[:] = list(seen), []
    run(tmp_path / "parts", steps=2)
    run(tmp_path / "parts", steps=6)
    assert len(whole) == 12
    assert seen[:4] == whole[:4]
    assert seen[-8:] == whole[4:]
    checkpoint = torch.load(tmp_path / "parts" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6


def test_frozen_backbone_with_cache_leaves_the_backbone_alone(tmp_path):
    path = run(tmp_path, steps=3, data={"feature_cache": str(tmp_path / "features")}, lr_factor=0.0)
    torch.manual_seed(0)
    before, after = run_untrained_backbone(), weights(path)
    assert all(after[f"backbone.{name}"].equal(tensor) for name, tensor in before.items())
    assert list((tmp_path / "features").glob("*.bin"))


def run_untrained_backbone() -> dict:
    """The backbone that seed 0 initialises, as ``pretrain`` does."""
    import lightning

    lightning.seed_everything(0, verbose=False)
    return cropformer.build(ARCHITECTURE).backbone.state_dict()


def test_the_cache_needs_a_frozen_backbone(tmp_path):
    with pytest.raises(InputError, match="backbone_lr_factor=0"):
        run(tmp_path, steps=2, data={"feature_cache": str(tmp_path)})


def test_the_cache_needs_fixed_crops(tmp_path):
    with pytest.raises(InputError, match="data.crop_type to fixed4 or fixed8, or leave the cache out"):
        run(tmp_path, steps=2, data={"feature_cache": str(tmp_path), "crop_type": "random"}, lr_factor=0.0)


@pytest.mark.parametrize("crops", [{"crop_type": "random", "crop_ratio": 0.5}, {"crop_type": "fixed8", "crops": 2}])
def test_trains_with_other_crops(tmp_path, crops):
    state = weights(run(tmp_path, steps=1, data=crops))
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())


PLAIN = replace(ARCHITECTURE, association="none", association_feedforward=0)


def test_a_plain_mask2former_trains_on_full_views(tmp_path):
    path = run(tmp_path, steps=2, data={"crops": 0, "validation": str(TINY)}, architecture=PLAIN)
    assert cropformer.load(path).association is None


def test_a_plain_mask2former_takes_no_crops(tmp_path):
    with pytest.raises(InputError, match="plain Mask2Former takes one view .*; set data.crops=0 and test.crops=0"):
        run(tmp_path, steps=2, architecture=PLAIN)
    with pytest.raises(InputError, match="set data.crops=0 and test.crops=0"):
        run_pretrain(["model=mask2former_r50", "data.root=x", "data.crops=0", f"out={tmp_path}"])


def test_init_weights_are_taken_over(tmp_path):
    first = run(tmp_path / "first", steps=2)
    options = replace(SETTINGS, min_score=0.2)
    second = pretrain(
        ARCHITECTURE,
        settings=options,
        data=DataOptions((SetSource(str(TINY)),), short_sides=(64,), max_side=96, batch_size=1, workers=0),
        loss=SetLoss(points=64),
        optimisation=Optimisation(lr=0.0, max_steps=1),
        loop=LoopOptions(accelerator="cpu"),
        out=tmp_path / "second",
        init=first,
    )
    assert all(weights(second)[name].equal(tensor) for name, tensor in weights(first).items())


def test_init_weights_of_another_model_are_refused(tmp_path, tiny_weights):
    with pytest.raises(InputError, match="another model"):
        pretrain(
            ARCHITECTURE,
            settings=SETTINGS,
            data=DataOptions((SetSource(str(TINY)),)),
            loss=SetLoss(),
            optimisation=Optimisation(),
            loop=LoopOptions(accelerator="cpu"),
            out=tmp_path,
            init=tiny_weights,
        )


def test_dry_run_forecasts_and_writes_nothing(tmp_path, capsys):
    overrides = [
        "model=nano",
        f"data.root={TINY}",
        f"out={tmp_path / 'run'}",
        "data.short_sides=[64]",
        "data.max_side=96",
        "data.batch_size=1",
        "data.workers=0",
        "loss.points=32",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
    ]
    run_pretrain(overrides, dry_run=True)
    assert "h for 34375 steps" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_config_runs_and_is_saved_beside_the_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(TINY.parent)
    overrides = [
        "model=nano",
        f"data.root={TINY.name}",
        f"out={tmp_path}",
        "data.short_sides=[64]",
        "data.max_side=96",
        "data.batch_size=1",
        "data.workers=0",
        "loss.points=32",
        "trainer.max_steps=1",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
    ]
    assert cropformer.load(run_pretrain(overrides)).settings.short_side == 800
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["data"]["batch_size"] == 1


def test_every_model_and_recipe_composes():
    configs = Path(__file__).parents[2] / "configs"
    for model in (configs / "model").glob("*.yaml"):
        assert composed("pretrain", [f"model={model.stem}", "data.root=x"])["model"]["name"] == model.stem
    for recipe in (configs / "recipe").glob("*.yaml"):
        assert composed("pretrain", [f"recipe={recipe.stem}", "data.root=x"])["out"] == f"outputs/{recipe.stem}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "data.root"),
        (["data.root=x", "nosuch=1"], "nosuch"),
        (["data.root=x", "model=huge"], "huge"),
        (["data.root=/nowhere", "trainer.accelerator=cpu"], "/nowhere"),
    ],
)
def test_bad_settings_are_one_sentence(overrides, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run_pretrain([*overrides, f"out={tmp_path}"] if overrides else overrides)
