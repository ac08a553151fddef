"""What a training starts from: parts of another model, a backbone of another project, and an account of both."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import cropformer
from cropformer import InputError, Optimisation, SetLoss, TestSettings, with_association
from cropformer.checkpoint import save_official
from entitytransfer.pretrain import pretrain
from entitytransfer.set_source import SetSource
from entitytransfer.training.engine import LoopOptions
from entitytransfer.training.loaders import DataOptions
from entitytransfer.training.run import TrainingRun
from entitytransfer.training.sampling import BatchSize

TINY = Path(__file__).parents[1] / "data" / "coco_tiny"


def start(architecture: cropformer.Architecture, out: Path, **weights: Path) -> dict[str, torch.Tensor]:
    """The weights after a step that changes nothing."""
    run = TrainingRun(
        settings=TestSettings(short_side=64, max_side=96, crops=0),
        data=DataOptions((SetSource(str(TINY)),), batch=BatchSize(1, 1), short_sides=(64,), max_side=96, workers=0),
        loss=SetLoss(points=16),
        optimisation=Optimisation(lr=0.0, max_steps=1),
        loop=LoopOptions(accelerator="cpu"),
        out=out,
    )
    return cropformer.read_checkpoint(pretrain(architecture, run, **weights)).state


def test_a_mask2former_with_other_classes_starts_a_cropformer(tiny_architecture, tmp_path, capsys):
    coco = replace(with_association(tiny_architecture, "none"), num_classes=80)
    source = cropformer.build(coco).state_dict()
    save_official(tmp_path / "coco.pth", source, architecture=coco)
    state = start(tiny_architecture, tmp_path / "run", init=tmp_path / "coco.pth")
    report = capsys.readouterr().out
    assert f"{tmp_path / 'coco.pth'}: official CropFormer or Mask2Former: " in report
    assert "re-initialised association (18 tensors, 10,752 values): not in the file" in report
    taken = [name for name in source if "class_head" not in name]
    assert all(torch.equal(state[name], source[name]) for name in taken)


def test_a_backbone_is_reported_too(tiny_architecture, tmp_path, capsys):
    source = cropformer.build(tiny_architecture).backbone.state_dict()
    theirs = {name: tensor for name, tensor in source.items() if not name.startswith("norms.")}
    torch.save({"model": theirs | {"head.weight": torch.ones(2)}}, tmp_path / "swin.pth")
    state = start(tiny_architecture, tmp_path / "run", init_backbone=tmp_path / "swin.pth")
    report = capsys.readouterr().out
    assert f"{tmp_path / 'swin.pth'}: Microsoft Swin: {len(theirs)} tensors loaded" in report
    assert "re-initialised norms (8 tensors, 480 values): not in the file" in report
    assert all(torch.equal(state[f"backbone.{name}"], tensor) for name, tensor in theirs.items())


def test_a_model_of_other_widths_is_refused(tiny_architecture, tiny_weights, tmp_path):
    with pytest.raises(InputError, match="tiny.safetensors holds another model"):
        start(replace(tiny_architecture, decoder_feedforward=48), tmp_path / "run", init=tiny_weights)
    assert not (tmp_path / "run").exists()
