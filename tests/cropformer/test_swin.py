"""Swin: the same features as torchvision's, windows and their separation, and any input size."""

import re

import pytest
import torch
from torchvision.models.swin_transformer import SwinTransformer

import cropformer
from cropformer.backbones.swin import (
    Swin,
    from_windows,
    relative_position_index,
    separated_pairs,
    to_windows,
)

# The published models: all parameters, and those of the backbone.
COUNTS = {"swin_t": (48_980_092, 27_520_698), "swin_l": (216_826_198, 194_998_164)}
TORCHVISION_NAMES = (
    (r"features\.0\.0\.", "patch_embed.proj."),
    (r"features\.0\.2\.", "patch_embed.norm."),
    (r"features\.1\.(\d)\.", r"layers.0.blocks.\1."),
    (r"features\.2\.", "layers.0.downsample."),
    (r"features\.3\.(\d)\.", r"layers.1.blocks.\1."),
    (r"mlp\.0\.", "mlp.fc1."),
    (r"mlp\.3\.", "mlp.fc2."),
    (r"^norm\.", "norms.1."),
)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_published_parameter_counts(name):
    with torch.device("meta"):
        model = cropformer.build_model(name)
    assert (count(model), count(model.backbone)) == COUNTS[name]


@pytest.fixture
def pair() -> tuple[Swin, SwinTransformer]:
    """Two stages of random weights, ours and torchvision's."""
    torch.manual_seed(0)
    theirs = SwinTransformer([4, 4], 16, [2, 2], [2, 4], [4, 4]).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = Swin(16, depths=(2, 2), heads=(2, 4), window=4).eval()
    state = {}
    for name, tensor in theirs.state_dict().items():
        for pattern, replacement in TORCHVISION_NAMES:
            name = re.sub(pattern, replacement, name)
        if not name.startswith("head.") and "index" not in name:
            state[name] = tensor
    missing, unexpected = ours.load_state_dict(state, strict=False)
    assert missing == ["norms.0.weight", "norms.0.bias"]  # torchvision normalises the last stage only
    assert not unexpected
    return ours, theirs


@pytest.mark.parametrize("tokens", [(16, 16), (12, 20), (9, 13), (11, 10)])
def test_features_are_those_of_torchvision(pair, tokens):
    """Also where the grid is odd, or no multiple of the window.

    Grids of one window are left out: torchvision does not shift them, the published model does.
    """
    ours, theirs = pair
    pixels = torch.randn(2, 3, 4 * tokens[0], 4 * tokens[1], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = ours(pixels)
        expected = theirs.norm(theirs.features(pixels)).permute(0, 3, 1, 2)  # [B,h,w,C] -> [B,C,h,w]
    assert torch.allclose(features[8], expected, atol=1e-4)
    assert features[4].shape == (2, 16, *tokens)


@pytest.mark.parametrize("size_hw", [(32, 32), (33, 50), (61, 35), (1, 1), (3, 130)])
def test_any_size(tiny_model, size_hw):
    with torch.no_grad():
        features = tiny_model.backbone(torch.randn(1, 3, *size_hw))
    for level, (stride, feature) in enumerate(features.items()):
        grid = tuple(-(-side // stride) for side in size_hw)
        assert feature.shape == (1, 16 * 2**level, *grid)
        assert feature.isfinite().all()


def test_every_level_has_its_norm(tiny_model):
    """Fresh norms: each output token has mean 0 and variance 1 over its channels."""
    with torch.no_grad():
        features = tiny_model.backbone(torch.randn(1, 3, 64, 64))
    for feature in features.values():
        assert feature.mean(1).abs().max() < 1e-4
        assert (feature.var(1, unbiased=False) - 1).abs().max() < 0.05


def test_windows_round_trip():
    plane = torch.arange(2 * 6 * 9 * 2.0).view(2, 6, 9, 2)
    windows = to_windows(plane, 3)
    assert windows.shape == (2, 6, 9, 2)
    assert torch.equal(windows[1, 4], plane[1, 3:6, 3:6].flatten(0, 1))
    assert torch.equal(from_windows(windows, 3, (6, 9)), plane)


def test_shifted_windows_do_not_join_opposite_borders():
    """After a roll by 1, tokens of a window that were not neighbours before must not meet."""
    size_hw, window, shift = (8, 12), 4, 1
    separate = separated_pairs(size_hw, window, shift, torch.device("cpu"))
    y, x = torch.meshgrid(torch.arange(size_hw[0]), torch.arange(size_hw[1]), indexing="ij")
    before = torch.stack((y, x), dim=-1).roll((-shift, -shift), dims=(0, 1))[None]
    places = to_windows(before, window)[0]  # [n,ww,2], where each token came from
    far = (places[:, :, None] - places[:, None]).abs().amax(-1) >= window
    assert torch.equal(separate, far)
    assert separate[-1].any()
    assert not separate[0].any()


def test_bias_table_rows_name_relative_positions():
    index = relative_position_index(3)
    assert index.shape == (9, 9)
    assert index[0, 0] == index[5, 5] == 12  # no offset: the middle of 5x5
    assert index[0, 8] == 0  # the last token seen from the first: two rows and two columns back
    assert index[8, 0] == 24
    assert index[4, 5] == index[0, 1]


def test_stochastic_depth_is_off_when_testing(tiny_model):
    pixels = torch.randn(1, 3, 64, 64)
    backbone = tiny_model.backbone.train()
    torch.manual_seed(0)
    first, second = backbone(pixels)[32], backbone(pixels)[32]
    backbone.eval()
    assert torch.equal(backbone(pixels)[32], backbone(pixels)[32])
    drops = [block.drop_path.p for stage in backbone.layers for block in stage.blocks]
    assert drops == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert first.shape == second.shape
