"""timm backbones: four strides for any pyramid, a dense last stage, and weights under timm's own names."""

import pytest
import timm
import torch
import torch.nn.functional as F

import cropformer
from cropformer.backbones.timm import TimmBackbone
from cropformer.checkpoint import load_backbone


@pytest.fixture(scope="module")
def tiny_vit() -> TimmBackbone:
    torch.manual_seed(0)
    return TimmBackbone("tiny_vit_5m_224", dense_last_stage=True).eval()


@pytest.mark.parametrize("size_hw", [(64, 96), (32, 32), (160, 32)])
def test_a_dense_last_stage_serves_two_levels(tiny_vit, size_hw):
    with torch.no_grad():
        features = tiny_vit(torch.randn(2, 3, *size_hw))
    shapes = {
        stride: (2, tiny_vit.channels[stride], *(side // stride for side in size_hw)) for stride in (4, 8, 16, 32)
    }
    assert {stride: tuple(feature.shape) for stride, feature in features.items()} == shapes
    assert torch.equal(features[32], F.avg_pool2d(features[16], 2))


def test_the_usual_pyramid():
    backbone = TimmBackbone("resnet18").eval()
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 64, 96))
    assert backbone.channels == {4: 64, 8: 128, 16: 256, 32: 512}
    assert {stride: tuple(f.shape[1:]) for stride, f in features.items()} == {
        4: (64, 16, 24),
        8: (128, 8, 12),
        16: (256, 4, 6),
        32: (512, 2, 3),
    }


@pytest.mark.parametrize("prepare", [TimmBackbone, lambda name: TimmBackbone(name).eval().train()])
def test_training_leaves_the_statistics_alone(prepare):
    backbone = prepare("resnet18")
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 32, 32))
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.named_buffers())
    assert backbone.training


def test_weights_of_a_classifier_fill_the_backbone(tiny_vit, tmp_path):
    torch.manual_seed(5)
    classifier = timm.create_model("tiny_vit_5m_224", pretrained=False)
    torch.save(classifier.state_dict(), tmp_path / "classifier.pth")
    load_backbone(tiny_vit, tmp_path / "classifier.pth")
    theirs = classifier.state_dict()
    assert torch.equal(tiny_vit.body.stages_2.blocks[1].mlp.fc1.weight, theirs["stages.2.blocks.1.mlp.fc1.weight"])
    loaded = {name.replace("body.stages_", "body.stages.") for name in tiny_vit.state_dict()}
    assert {f"body.{name}" for name in theirs if not name.startswith("head.")} == loaded


def test_nano_is_small():
    """At most 10 million parameters, so that its weights take at most 20 MB as fp16."""
    with torch.device("meta"):
        model = cropformer.build_model("nano")
    assert sum(parameter.numel() for parameter in model.parameters()) < 10_000_000
