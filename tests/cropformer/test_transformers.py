"""An independent judge: Mask2Former of the transformers library, with our loader's reading of its weights."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import cropformer
from cropformer import EntitySegmenter, load_with_report
from cropformer.layouts import translate

transformers = pytest.importorskip("transformers")
PHOTO = Path(__file__).parents[1] / "data" / "coco_tiny" / "images" / "000000000785.jpg"
FULL = {"backbone": {}, "rest": {}, "size_hw": (320, 480)}
SMALL = {
    "backbone": {"embed_dim": 16, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 4},
    "rest": {
        "feature_size": 64,
        "hidden_dim": 64,
        "mask_feature_size": 64,
        "encoder_layers": 2,
        "encoder_feedforward_dim": 48,
        "decoder_layers": 5,
        "dim_feedforward": 64,
        "num_queries": 12,
    },
    "size_hw": (96, 160),
}
# In-memory names of version 5 to those of the files on the hub, which versions 4 wrote.
HUB_NAMES = (
    (r"encoder\.swin\.", "encoder."),
    (r"attention\.q_proj\.", "attention.self.query."),
    (r"attention\.k_proj\.", "attention.self.key."),
    (r"attention\.v_proj\.", "attention.self.value."),
    (r"attention\.relative_position_bias\.", "attention.self."),
    (r"attention\.o_proj\.", "attention.output.dense."),
    (r"mlp\.fc1\.", "intermediate.dense."),
    (r"(blocks\.\d+)\.mlp\.fc2\.", r"\1.output.dense."),
)


def judge(sizes: dict, *, classes: int) -> nn.Module:
    """Their Mask2Former on Swin with random weights, spread so that every tensor matters to the result."""
    torch.manual_seed(0)
    stages = [f"stage{i}" for i in range(1, 5)]
    backbone = transformers.SwinConfig(image_size=224, drop_path_rate=0.0, out_features=stages, **sizes["backbone"])
    config = transformers.Mask2FormerConfig(backbone_config=backbone, num_labels=classes, **sizes["rest"])
    model = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if tensor.ndim == 1:  # norms and biases, which start as ones and zeros
                tensor.add_(torch.randn_like(tensor) / 10)
            if name.endswith(("relative_position_bias_table", "attention_weights.weight", "sampling_offsets.weight")):
                tensor.add_(torch.randn_like(tensor) / 10)
            if "pixel_level_module.encoder" in name and tensor.ndim == 2:
                tensor.mul_(2)
            if "mask_embedder" in name and tensor.ndim == 2:
                tensor.mul_(3)
    return model


def pixels_of(photo: Path, size_hw: tuple[int, int]) -> Tensor:
    """The photo at a size, normalised; float [1,3,H,W]."""
    resized = Image.open(photo).convert("RGB").resize(size_hw[::-1], Image.Resampling.BILINEAR)
    return (torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None].float() - 117) / 58  # [H,W,3] -> [1,3,H,W]


def differences(theirs: nn.Module, ours: EntitySegmenter, pixels: Tensor) -> tuple[float, float]:
    """Largest difference of class logits and of mask logits."""
    with torch.no_grad():
        expected = theirs(pixels)
        queries = ours.decode(ours.encode(pixels), views=1)
    masks = queries.mask_logits()[:, :, 0]  # [1,Q,1,h,w] -> [1,Q,h,w]
    assert queries.class_logits.std() > 0.1
    assert masks.std() > 0.1
    assert masks.shape == expected.masks_queries_logits.shape
    return (
        (queries.class_logits - expected.class_queries_logits).abs().max().item(),
        (masks - expected.masks_queries_logits).abs().max().item(),
    )


def hub_name(name: str) -> str:
    for pattern, replacement in HUB_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.mark.parametrize("sizes", [SMALL, pytest.param(FULL, marks=pytest.mark.slow)], ids=["small", "full"])
@pytest.mark.parametrize("naming", ["memory", "hub"])
def test_our_model_computes_what_theirs_does(sizes, naming, tmp_path, record_property):
    theirs = judge(sizes, classes=3)
    state = {name if naming == "memory" else hub_name(name): tensor for name, tensor in theirs.state_dict().items()}
    torch.save(state, tmp_path / "theirs.bin")
    loaded, report = load_with_report(tmp_path / "theirs.bin")
    assert report.layout == "Hugging Face Mask2Former"
    ours = tmp_path / "ours.safetensors"
    chosen = {"architecture": loaded.architecture, "settings": loaded.settings}
    cropformer.save_checkpoint(ours, loaded.state_dict(), **chosen)
    found = differences(theirs, cropformer.load(ours), pixels_of(PHOTO, sizes["size_hw"]))
    record_property("class and mask logits", found)
    assert found[0] <= 1e-4
    assert found[1] <= 1e-3


def test_a_full_size_model_has_the_tensors_of_ours():
    with torch.device("meta"):
        theirs = judge(FULL, classes=1)
        ours = cropformer.build_model("mask2former_swin_t")
    _, translation = translate(theirs.state_dict(), "theirs")
    shapes = {name: tensor.shape for name, tensor in ours.state_dict().items()}
    assert {name: tensor.shape for name, tensor in translation.state.items()} == shapes
