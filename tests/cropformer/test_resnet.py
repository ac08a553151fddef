"""ResNet: torchvision's weights give torchvision's features, statistics stay frozen, any size goes."""

import pytest
import torch
from torchvision.models.resnet import Bottleneck
from torchvision.models.resnet import ResNet as TorchvisionResNet

import cropformer
from cropformer import InputError
from cropformer.backbones.resnet import ResNet
from cropformer.checkpoint import load_backbone

DEPTHS = (2, 1, 2, 1)


def test_published_parameter_counts():
    with torch.device("meta"):
        model = cropformer.build_model("r50")
    counts = [sum(p.numel() for p in part.parameters()) for part in (model, model.backbone)]
    assert counts == [45_528_706, 23_454_912]  # batch norm is frozen: its tensors are no parameters


@pytest.fixture(scope="module")
def theirs() -> TorchvisionResNet:
    """torchvision's ResNet-50 layout with fewer blocks, random weights and random statistics."""
    torch.manual_seed(0)
    model = TorchvisionResNet(Bottleneck, list(DEPTHS)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory) -> ResNet:
    path = tmp_path_factory.mktemp("weights") / "resnet.pth"
    torch.save(theirs.state_dict(), path)
    backbone = ResNet(DEPTHS)
    load_backbone(backbone, path)
    return backbone


@pytest.mark.parametrize("size_hw", [(64, 96), (65, 97), (33, 31)])
def test_features_are_those_of_torchvision(ours, theirs, size_hw):
    pixels = torch.randn(2, 3, *size_hw, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = ours(pixels)
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(pixels))))
        for stride, stage in zip((4, 8, 16, 32), (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)):
            x = stage(x)
            assert features[stride].shape == x.shape
            assert (features[stride] - x).abs().max() < 1e-4 * max(1.0, x.abs().max().item())


def test_channels_are_announced(ours):
    with torch.no_grad():
        features = ours(torch.zeros(1, 3, 32, 32))
    assert {stride: feature.shape[1] for stride, feature in features.items()} == ours.channels
    assert ours.channels == {4: 256, 8: 512, 16: 1024, 32: 2048}


def test_training_leaves_the_statistics_alone():
    backbone = ResNet((1, 1, 1, 1), stem=8, width=4, channels=16).train()
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 32, 32))[32].sum().backward()
    assert before
    assert all(torch.equal(buffer, before[name]) for name, buffer in backbone.named_buffers())
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_weights_of_another_depth_are_refused(theirs, tmp_path):
    path = tmp_path / "shallow.pth"
    torch.save(theirs.state_dict(), path)
    with pytest.raises(InputError, match=r"shallow.pth does not fill the backbone: stages.1.1.* is missing"):
        load_backbone(ResNet((2, 2, 2, 1)), path)
