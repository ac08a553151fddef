"""Backbones of others: files in exactly their layouts fill ours, which then compute what theirs do."""

import pickle
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import cropformer
from cropformer import InputError, LoadReport, load, load_backbone, read_checkpoint
from cropformer.architecture import HorNetNumbers, ResNetNumbers, SwinNumbers
from cropformer.assembly import build_backbone
from cropformer.backbones.swin import relative_position_index
from cropformer.backbones.timm import TimmBackbone

SWIN = SwinNumbers(16, depths=(2, 1, 2, 1), heads=(2, 4, 8, 8), window=4)
RESNET = ResNetNumbers((1, 2, 1, 1), stem=8, width=4, channels=16)
HORNET = HorNetNumbers(32, depths=(1, 1, 1, 1), spectra=(0, 0, 6, 4))
NORMS = {f"norms.{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}


def spread(module: nn.Module) -> nn.Module:
    """Give norms, statistics and biases values that no fresh module has."""
    torch.manual_seed(7)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point() and tensor.ndim == 1:
                tensor.copy_(0.5 + torch.rand_like(tensor) if "var" in name else tensor + torch.randn_like(tensor) / 5)
    return module.eval()


def saved(state: dict[str, Tensor], path: Path) -> Path:
    torch.save({"model": state}, path)
    return path


def assert_filled(backbone: nn.Module, source: nn.Module, *, fresh: set[str]) -> None:
    theirs = source.state_dict()
    for name, tensor in backbone.state_dict().items():
        assert name in fresh or torch.equal(tensor, theirs[name]), name


def fresh_names(report: LoadReport) -> set[str]:
    return {item.name for item in report.reinitialised}


# --- Swin


def microsoft_state(swin: nn.Module, *, window: int) -> dict[str, Tensor]:
    """An ImageNet checkpoint: no output norms, but a last one, a classifier, and constants of the windows."""
    state = {name: tensor for name, tensor in swin.state_dict().items() if not name.startswith("norms.")}
    blocks = [name.removesuffix(".norm1.weight") for name in state if name.endswith(".norm1.weight")]
    index = relative_position_index(window)
    return (
        state
        | {f"{block}.attn.relative_position_index": index for block in blocks}
        | {"layers.0.blocks.1.attn_mask": torch.zeros(9, window**2, window**2)}
        | {"norm.weight": torch.ones(128), "norm.bias": torch.ones(128)}
        | {"head.weight": torch.ones(1000, 128), "head.bias": torch.ones(1000)}
    )


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_swin_of_microsoft(suffix, tmp_path):
    theirs, ours = spread(build_backbone(SWIN)), build_backbone(SWIN)
    path, state = tmp_path / f"swin{suffix}", microsoft_state(theirs, window=4)
    if suffix == ".pkl":
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "someone", "matching_heuristics": True}))
    else:
        saved(state, path)
    report = load_backbone(ours, path)
    assert report.layout == "Microsoft Swin"
    assert fresh_names(report) == NORMS
    assert set(report.ignored) == state.keys() - theirs.state_dict().keys()
    assert not report.unexpected
    assert_filled(ours, theirs, fresh=NORMS)


def test_swin_with_another_window(tmp_path):
    path = saved(microsoft_state(build_backbone(SWIN), window=4), tmp_path / "swin.pth")
    report = load_backbone(build_backbone(replace(SWIN, window=7)), path)
    assert {item.to_shape[0] for item in report.resized} == {169}
    assert len(report.resized) == sum(SWIN.depths)


@pytest.mark.parametrize("features_only", [False, True], ids=["classifier", "pyramid"])
def test_swin_of_timm(features_only, tmp_path):
    numbers = {"embed_dim": 16, "depths": (2, 1, 2, 1), "num_heads": (2, 4, 8, 8), "window_size": 4, "img_size": 128}
    theirs = spread(timm.create_model("swin_tiny_patch4_window7_224", features_only=features_only, **numbers))
    ours = build_backbone(SWIN).eval()
    report = load_backbone(ours, saved(theirs.state_dict(), tmp_path / "swin.pth"))
    assert (report.layout, fresh_names(report), report.unexpected) == ("timm Swin", NORMS, ())
    pixels = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        maps = theirs(pixels) if features_only else theirs.forward_intermediates(pixels, intermediates_only=True)
        maps = [m if features_only else m.permute(0, 2, 3, 1) for m in maps]
        for found, expected in zip(ours(pixels).values(), maps):
            expected = F.layer_norm(expected, expected.shape[-1:]).permute(0, 3, 1, 2)  # [B,h,w,C] -> [B,C,h,w]
            assert (found - expected).abs().max() < 1e-4


# --- ResNet


@pytest.mark.parametrize("name", ["resnet50", "wide_resnet50_2"])
def test_resnet_of_timm(name, tmp_path):
    theirs = spread(timm.create_model(name, layers=(1, 2, 1, 1)))
    ours = build_backbone(ResNetNumbers((1, 2, 1, 1), width=64 if name == "resnet50" else 128))
    report = load_backbone(ours, saved(theirs.state_dict(), tmp_path / "resnet.pth"))
    assert report.layout == "torchvision ResNet"
    assert report.exact
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = theirs.forward_features(pixels)
        assert (ours(pixels)[32] - expected).abs().max() < 1e-4 * max(1.0, expected.abs().max().item())


def detectron2_name(name: str) -> str:
    """The name of our ResNet's tensor in detectron2's ImageNet files."""
    name = re.sub(r"^stages\.(\d)", lambda match: f"res{int(match[1]) + 2}", name)
    name = name.replace("stem.conv.", "stem.conv1.").replace("stem.norm.", "stem.conv1.norm.")
    return name if name.startswith("stem.") else name.replace(".conv.weight", ".weight")


def test_resnet_of_detectron2(tmp_path):
    theirs, ours = spread(build_backbone(RESNET)), build_backbone(RESNET)
    arrays = {detectron2_name(name): tensor.numpy() for name, tensor in theirs.state_dict().items()}
    assert {"stem.conv1.norm.bias", "res3.1.conv2.weight", "res2.0.shortcut.norm.weight"} < arrays.keys()
    arrays |= {"stem.fc.weight": arrays["res2.0.conv1.weight"], "stem.fc.bias": arrays["stem.conv1.norm.bias"]}
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision", "matching_heuristics": True}))
    report = load_backbone(ours, path)
    assert report.exact
    assert report.ignored == ("stem.fc.weight", "stem.fc.bias")
    assert_filled(ours, theirs, fresh=set())


# --- HorNet, other timm models, our own names


def test_hornet_of_its_authors(tmp_path):
    theirs, ours = spread(build_backbone(HORNET)), build_backbone(HORNET)
    state = {name: tensor for name, tensor in theirs.state_dict().items() if not name.startswith("norms.")}
    state |= {"norm.weight": torch.ones(256), "head.weight": torch.ones(1000, 256)}
    report = load_backbone(ours, saved(state, tmp_path / "hornet.pth"))
    assert (report.layout, fresh_names(report)) == ("HorNet", NORMS)
    assert report.ignored == ("norm.weight", "head.weight")
    assert_filled(ours, theirs, fresh=NORMS)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "efficientnet_b0"])
def test_other_models_of_timm(name, tmp_path):
    theirs, ours = spread(timm.create_model(name)), TimmBackbone(name).eval()
    report = load_backbone(ours, saved(theirs.state_dict(), tmp_path / f"{name}.pth"))
    assert (report.layout, report.reinitialised) == ("timm", ())
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.forward_intermediates(pixels, intermediates_only=True)[-4:]
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours(pixels).values(), expected))


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize("numbers", [SWIN, RESNET, HORNET], ids=["swin", "resnet", "hornet"])
def test_our_own_names(numbers, prefix, tmp_path):
    theirs, ours = spread(build_backbone(numbers)), build_backbone(numbers)
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    report = load_backbone(ours, saved(state, tmp_path / "backbone.pth"))
    assert report.exact
    assert_filled(ours, theirs, fresh=set())


def test_the_backbone_of_a_whole_model(tiny_model, tmp_path):
    path = tmp_path / "tiny.safetensors"
    model = tiny_model
    cropformer.save_checkpoint(path, model.state_dict(), architecture=model.architecture, settings=model.settings)
    ours = build_backbone(model.architecture.backbone_config())
    report = load_backbone(ours, path)
    assert report.exact
    assert set(report.ignored) == {name for name in model.state_dict() if not name.startswith("backbone.")}
    assert_filled(ours, model.backbone, fresh=set())


# --- what a lone backbone tells, and what is refused


@pytest.mark.parametrize("numbers", [SWIN, RESNET, HORNET], ids=["swin", "resnet", "hornet"])
def test_a_lone_backbone_tells_its_numbers_and_is_no_model(numbers, tmp_path):
    path = saved(build_backbone(numbers).state_dict(), tmp_path / "backbone.pth")
    architecture = read_checkpoint(path).architecture
    rates = {"drop_path": 0.0}  # leave no trace in a file
    assert asdict(architecture.backbone_config()) | rates == asdict(numbers) | rates
    assert (architecture.num_queries, architecture.association) == (100, "cross+self+feedforward")
    with pytest.raises(InputError, match=r"backbone.pth holds a backbone without a decoder .*init_backbone="):
        load(path)


def test_a_lone_backbone_of_timm_tells_nothing(tmp_path):
    path = saved(timm.create_model("convnext_atto").state_dict(), tmp_path / "convnext.pth")
    assert read_checkpoint(path).architecture is None
    with pytest.raises(InputError, match=r"convnext.pth holds a backbone without a decoder \(timm\)"):
        load(path)


def test_a_backbone_that_is_not_filled(tmp_path):
    state = build_backbone(SWIN).state_dict()
    del state["layers.2.blocks.1.norm1.weight"]
    with pytest.raises(InputError, match=r"swin.pth does not fill the backbone: layers.2.blocks.1.norm1.weight"):
        load_backbone(build_backbone(SWIN), saved(state, tmp_path / "swin.pth"))
    with pytest.raises(InputError, match=r"swin.pth holds another model: none of its tensors \(ours\) fits"):
        load_backbone(build_backbone(RESNET), tmp_path / "swin.pth")
