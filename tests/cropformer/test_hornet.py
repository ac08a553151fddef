"""HorNet: gates and filters against hand-made cases, any input size, and the spectrum in full precision."""

import pytest
import torch
from torch import nn

from cropformer.backbones.hornet import GatedConv, GlobalLocalFilter, HorNet
from cropformer.optimisation import Optimisation, parameter_groups

DEPTHS = (1, 1, 2, 1)


@pytest.fixture
def backbone() -> HorNet:
    """A tiny HorNet whose blocks matter: layer scales of one, and filters that change what they see."""
    torch.manual_seed(0)
    model = HorNet(16, depths=DEPTHS, spectra=(0, 0, 6, 4), drop_path=0.4).eval()
    for name, parameter in model.named_parameters():
        if "gamma" in name:
            nn.init.ones_(parameter)
        if "complex_weight" in name:
            nn.init.normal_(parameter)
    return model


@pytest.fixture
def bare_filter() -> GlobalLocalFilter:
    """Four channels, no norms, a local half that changes nothing and a global half that is silent."""
    module = GlobalLocalFilter(4, spectrum=4).requires_grad_(False)
    module.pre_norm = module.post_norm = nn.Identity()
    nn.init.dirac_(module.dw.weight, groups=2)
    nn.init.zeros_(module.complex_weight)
    return module


@pytest.mark.parametrize("size_hw", [(32, 32), (33, 50), (61, 35), (1, 1), (3, 130)])
def test_any_size(backbone, size_hw):
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, *size_hw))
    assert backbone.channels == {4: 16, 8: 32, 16: 64, 32: 128}
    for stride, feature in features.items():
        assert feature.shape == (2, backbone.channels[stride], *(-(-side // stride) for side in size_hw))
        assert feature.isfinite().all()


def test_odd_sizes_are_padded_right_and_below(backbone):
    pixels = torch.randn(1, 3, 33, 50)
    padded = nn.functional.pad(pixels, (0, 2, 0, 3))
    with torch.no_grad():
        ours, expected = backbone(pixels), backbone(padded)
    assert all(torch.equal(ours[stride], expected[stride]) for stride in expected)


def test_a_batch_equals_its_images(backbone):
    pixels = torch.randn(2, 3, 40, 72)
    with torch.no_grad():
        both, singles = backbone(pixels), [backbone(image[None]) for image in pixels]
    for stride, feature in both.items():
        assert torch.allclose(feature, torch.cat([single[stride] for single in singles]), atol=1e-4)


def test_every_level_has_its_norm(backbone):
    """Fresh norms: each place has mean 0 and variance 1 over its channels."""
    with torch.no_grad():
        features = backbone(torch.randn(1, 3, 64, 64))
    for feature in features.values():
        assert feature.mean(1).abs().max() < 1e-4
        assert (feature.var(1, unbiased=False) - 1).abs().max() < 0.05


def test_a_gated_convolution_by_hand():
    """Order 3 on 4 channels: 2 x gate 1, summed into two channels x gate 2, summed into four x gate 3."""
    module = GatedConv(4, order=3, spectrum=0).requires_grad_(False)
    assert module.widths == [1, 2, 4]
    for conv in (module.proj_in, module.dwconv):
        nn.init.zeros_(conv.weight)
    for conv in module.pws:
        nn.init.ones_(conv.weight)
        nn.init.zeros_(conv.bias)
    nn.init.dirac_(module.proj_out.weight)
    module.proj_in.bias.copy_(torch.tensor([2.0, 9, 9, 9, 9, 9, 9, 9]))
    module.dwconv.bias.copy_(3 * torch.tensor([1.0, 2, 2, 3, 3, 3, 3]))  # gates are divided by 3
    module.proj_out.bias.copy_(torch.tensor([0.0, 1, 2, 3]))
    output = module(torch.randn(1, 4, 5, 6))
    expected = 2 * 1 * 2 * 2 * 3 + torch.arange(4.0)[:, None, None].expand(4, 5, 6)
    assert torch.allclose(output[0], expected)


def test_gates_see_the_second_part_of_the_input():
    """With a 7x7 kernel that copies, order 2: the product of the first channel and the second over 3."""
    module = GatedConv(2, order=2, spectrum=0).requires_grad_(False)
    nn.init.zeros_(module.proj_in.weight)
    nn.init.zeros_(module.proj_in.bias)
    module.proj_in.weight[0, 0] = module.proj_in.weight[1, 1] = 1  # the first two of 1 + (1 + 2) channels
    module.proj_in.bias[2:] = 3
    nn.init.dirac_(module.dwconv.weight, groups=3)
    nn.init.zeros_(module.dwconv.bias)
    for conv in (module.pws[0], module.proj_out):
        nn.init.ones_(conv.weight)
        nn.init.zeros_(conv.bias)
    x = torch.randn(1, 2, 4, 5)
    assert torch.allclose(module(x), (2 * x[:, :1] * x[:, 1:] / 3).expand(1, 2, 4, 5), atol=1e-6)


def test_halves_are_interleaved(bare_filter):
    """Local channels 1 and 2, and channels 3 and 4 doubled by the spectrum, take turns."""
    bare_filter.complex_weight[..., 0] = 2
    x = torch.tensor([1.0, 2, 3, 4])[None, :, None, None].expand(1, 4, 5, 7)
    expected = torch.tensor([1.0, 6, 2, 8])[None, :, None, None].expand(1, 4, 5, 7)
    assert torch.allclose(bare_filter(x), expected, atol=1e-5)


@pytest.mark.parametrize("size_hw", [(4, 4), (5, 7), (8, 6), (1, 1), (2, 9)])
def test_a_spectrum_of_ones_changes_nothing(bare_filter, size_hw):
    bare_filter.complex_weight[..., 0] = 1
    x = torch.randn(2, 2, *size_hw)
    assert torch.allclose(bare_filter.filter_spectrum(x), x, atol=1e-5)


def test_the_lowest_frequency_is_the_mean(bare_filter):
    bare_filter.complex_weight[0, 0, 0, 0] = 1
    x = torch.randn(1, 2, 4, 4)
    filtered = bare_filter.filter_spectrum(x)
    assert torch.allclose(filtered[0, 0], x[0, 0].mean().expand(4, 4), atol=1e-6)
    assert filtered[0, 1].abs().max() == 0


def test_the_spectrum_is_resized_from_corner_to_corner(bare_filter):
    """A ramp over rows in the real part and over columns in the imaginary part stays one."""
    weight = bare_filter.complex_weight  # [2,4,3,2]
    weight[..., 0] = torch.linspace(0, 1, 4)[:, None]
    weight[..., 1] = torch.linspace(0, 1, 3)
    assert torch.equal(torch.view_as_real(bare_filter.resized_weight((4, 3))), weight)
    resized = bare_filter.resized_weight((7, 9))
    assert resized.shape == (2, 7, 9)
    assert torch.allclose(resized.real, torch.linspace(0, 1, 7)[:, None].expand(2, 7, 9), atol=1e-6)
    assert torch.allclose(resized.imag, torch.linspace(0, 1, 9).expand(2, 7, 9), atol=1e-6)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_spectrum_is_float32_in_any_precision(bare_filter, dtype, autocast):
    """With weights in float32 under autocast, and with everything in half precision."""
    nn.init.normal_(bare_filter.complex_weight)
    bare_filter.to(torch.float32 if autocast else dtype)
    x = torch.randn(1, 2, 9, 6).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        filtered = bare_filter.filter_spectrum(x)
    assert filtered.dtype == dtype
    assert torch.equal(filtered, bare_filter.float().filter_spectrum(x.float()).to(dtype))


def test_mixed_precision_stays_near(backbone):
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = backbone(pixels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = backbone(pixels)
    for stride, feature in features.items():
        assert (feature.float() - expected[stride]).abs().mean() < 0.02


def test_stochastic_depth_is_off_when_testing(backbone):
    pixels = torch.randn(1, 3, 64, 64)
    drops = [block.drop_path.p for stage in backbone.stages for block in stage]
    assert drops == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    with torch.no_grad():
        assert torch.equal(backbone(pixels)[32], backbone(pixels)[32])
        backbone.train()
        runs = [backbone(pixels)[32] for _ in range(8)]
    assert any(not torch.equal(run, runs[0]) for run in runs)


def test_every_parameter_learns_and_decays(backbone):
    """Also the norms and the layer scales, as published: none of them is a norm layer of torch."""
    sum(feature.square().sum() for feature in backbone(torch.randn(1, 3, 64, 64)).values()).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    (group,) = parameter_groups(nn.ModuleDict({"backbone": backbone}), Optimisation(weight_decay=0.05))
    assert group["weight_decay"] == 0.05
    assert len(group["params"]) == len(list(backbone.parameters()))
