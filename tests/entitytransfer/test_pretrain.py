"""Pretraining end to end on four photos: what it writes, what it refuses, and what it does when numbers break."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

import cropformer
from cropformer import Architecture, InputError, JobError, Optimisation, SetLoss, TestSettings
from cropformer.architecture import ResNetNumbers
from entitytransfer.commands.reporting import report
from entitytransfer.config import run_pretrain
from entitytransfer.pretrain import pretrain
from entitytransfer.set_source import SetSource, open_set
from entitytransfer.training.engine import LoopOptions, last_checkpoint, steps_behind
from entitytransfer.training.loaders import DataOptions, validation_loader
from entitytransfer.training.run import TrainingRun
from entitytransfer.training.sampling import BatchSize

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
    training = TrainingRun(
        settings=SETTINGS,
        data=DataOptions(
            (SetSource(str(TINY)),), batch=BatchSize(2, 2), short_sides=(64,), max_side=96, workers=0, **(data or {})
        ),
        loss=SetLoss(points=64),
        optimisation=Optimisation(lr=1e-3, max_steps=steps, backbone_lr_factor=lr_factor),
        loop=LoopOptions(accelerator="cpu", checkpoint_every=2, validate_every=4, **(loop or {})),
        out=out,
    )
    return pretrain(architecture, training)


def weights(path: Path) -> dict:
    return cropformer.read_checkpoint(path).state


def test_trains_validates_and_writes_weights(tmp_path):
    path = run(tmp_path, steps=4, data={"validation": SetSource(str(TINY))})
    model = cropformer.load(path)
    assert model.settings == SETTINGS
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert list((tmp_path / "log").glob("events*"))


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_trains_in_mixed_precision(tmp_path, precision, capsys):
    state = weights(run(tmp_path, steps=2, loop={"precision": precision}))
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())
    assert "0 steps skipped" in capsys.readouterr().out


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
    path = run(tmp_path, steps=2, data={"crops": 0, "validation": SetSource(str(TINY))}, architecture=PLAIN)
    assert cropformer.load(path).association is None


def test_a_plain_mask2former_takes_no_crops(tmp_path):
    with pytest.raises(InputError, match="plain Mask2Former takes one view .*; set data.crops=0 and test.crops=0"):
        run(tmp_path, steps=2, architecture=PLAIN)
    with pytest.raises(InputError, match="set data.crops=0 and test.crops=0"):
        run_pretrain(["model=mask2former_r50", f"data.root={TINY}", "data.crops=0", f"out={tmp_path}"])


def test_init_weights_are_taken_over(tmp_path):
    first = run(tmp_path / "first", steps=2)
    unchanged = TrainingRun(
        settings=replace(SETTINGS, min_score=0.2),
        data=DataOptions((SetSource(str(TINY)),), batch=BatchSize(1, 1), short_sides=(64,), max_side=96, workers=0),
        loss=SetLoss(points=64),
        optimisation=Optimisation(lr=0.0, max_steps=1),
        loop=LoopOptions(accelerator="cpu"),
        out=tmp_path / "second",
    )
    second = pretrain(ARCHITECTURE, unchanged, init=first)
    assert all(weights(second)[name].equal(tensor) for name, tensor in weights(first).items())


def test_init_weights_of_another_model_are_refused(tmp_path, tiny_weights):
    training = TrainingRun(
        settings=SETTINGS,
        data=DataOptions((SetSource(str(TINY)),)),
        loss=SetLoss(),
        optimisation=Optimisation(),
        loop=LoopOptions(accelerator="cpu"),
        out=tmp_path,
    )
    with pytest.raises(InputError, match="another model"):
        pretrain(ARCHITECTURE, training, init=tiny_weights)


# --- weights on the way


def test_the_averaged_weights_are_kept(tmp_path):
    """A decay of 1 never leaves the weights of the first step."""
    first = weights(run(tmp_path / "first", steps=1))
    average = weights(run(tmp_path / "average", steps=4, loop={"ema_decay": 1.0}))
    last = weights(run(tmp_path / "last", steps=4))
    assert all(torch.equal(tensor, first[name]) for name, tensor in average.items())
    assert any(not torch.equal(tensor, first[name]) for name, tensor in last.items())


def test_checkpointed_activations_end_with_the_same_weights(tmp_path):
    plain = weights(run(tmp_path / "plain", steps=2))
    recomputed = weights(run(tmp_path / "recomputed", steps=2, loop={"checkpoint_activations": True}))
    for name, tensor in plain.items():
        torch.testing.assert_close(recomputed[name], tensor, rtol=0, atol=1e-6)


def test_without_crops_the_association_stays_as_it_was(tmp_path):
    """Nothing reads it, so that no process may wait for its gradients."""
    before = weights(run(tmp_path / "before", steps=1, data={"crops": 0}))
    after = weights(run(tmp_path / "after", steps=3, data={"crops": 0}))
    same = {name for name, tensor in after.items() if torch.equal(tensor, before[name])}
    assert {name for name in after if name.startswith("association.")} <= same
    assert "query_decoder.class_head.weight" not in same


# --- steps without a finite loss


def break_losses(monkeypatch: pytest.MonkeyPatch, *, every: int) -> None:
    """Let the loss of every ``every``-th step be no number."""
    original, calls = SetLoss.__call__, []

    def broken(self, *arguments, **options):
        calls.append(arguments)
        step = (len(calls) - 1) // 2 + 1  # a step has two levels
        factor = math.nan if step % every == 0 else 1.0
        return {name: value * factor for name, value in original(self, *arguments, **options).items()}

    monkeypatch.setattr(SetLoss, "__call__", broken)


def test_a_run_stops_after_too_many_skipped_steps(tmp_path, monkeypatch):
    """It names the images, and keeps the checkpoint."""
    break_losses(monkeypatch, every=1)
    with pytest.raises(JobError, match=f"3 steps in a row had no finite loss .* listed in {tmp_path}/non_finite.jsonl"):
        run(tmp_path, steps=9, loop={"max_skipped_steps": 3})
    records = [json.loads(line) for line in (tmp_path / "non_finite.jsonl").read_text().splitlines()]
    assert [(record["step"], record["loss"]) for record in records] == [(0, None), (1, None), (2, None)]
    assert all(len(record["image_ids"]) == 2 for record in records)
    assert {name for record in records for name in record["image_ids"]} <= {785, 1268, 7574, 8762}
    assert steps_behind(last_checkpoint(tmp_path)) == 2


def test_skipped_steps_in_between_are_counted(tmp_path, monkeypatch, capsys):
    break_losses(monkeypatch, every=2)
    path = run(tmp_path, steps=6, loop={"max_skipped_steps": 2})
    assert all(tensor.isfinite().all() for tensor in weights(path).values() if tensor.is_floating_point())
    assert len((tmp_path / "non_finite.jsonl").read_text().splitlines()) == 3
    assert "3 steps skipped" in capsys.readouterr().out


def test_a_job_that_was_given_up_says_so_in_its_sentence(capsys):
    assert report([JobError("Ten steps had no finite loss.")]) == 1
    assert capsys.readouterr().err == "Ten steps had no finite loss.\n"


# --- configuration


def test_dry_run_forecasts_and_writes_nothing(tmp_path, capsys):
    overrides = [
        "model=nano",
        f"data.root={TINY}",
        f"out={tmp_path / 'run'}",
        "data.short_sides=[64]",
        "data.max_side=96",
        "batch.total=1",
        "batch.at_once=1",
        "data.workers=0",
        "loss.points=32",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
    ]
    run_pretrain(overrides, dry_run=True)
    said = capsys.readouterr().out
    assert "h for 550000 steps of 1 images" in said
    assert "0 entities lost" in said
    assert not (tmp_path / "run").exists()


def test_config_runs_and_is_saved_beside_the_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(TINY.parent)
    overrides = [
        "model=nano",
        f"data.root={TINY.name}",
        f"out={tmp_path}",
        "data.short_sides=[64]",
        "data.max_side=96",
        "batch.total=1",
        "batch.at_once=1",
        "data.workers=0",
        "loss.points=32",
        "trainer.max_steps=1",
        "trainer.precision=32-true",
        "trainer.accelerator=cpu",
    ]
    assert cropformer.load(run_pretrain(overrides)).settings.short_side == 800
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["batch"]["total"] == 1


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


def test_an_unknown_precision_is_refused():
    with pytest.raises(InputError, match="no precision '8-true'; use bf16-mixed or 32-true"):
        LoopOptions(precision="8-true")


def test_a_damaged_checkpoint_is_refused(tmp_path):
    last_checkpoint(tmp_path).parent.mkdir()
    last_checkpoint(tmp_path).write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="last.ckpt is no checkpoint of a run; remove it or set trainer.resume=false"):
        run(tmp_path, steps=2)


def test_every_process_needs_a_validation_image():
    with pytest.raises(InputError, match="there are 4 images to validate on for 5 processes"):
        validation_loader(open_set(SetSource(str(TINY))), SETTINGS, workers=0, rank=0, world_size=5)
