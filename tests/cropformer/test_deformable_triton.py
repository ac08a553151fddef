"""The GPU kernels: here in Triton's interpreter, in a process of its own; with ``-m gpu`` compiled, on the GPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cropformer.deformable_attention import _sample_by_grid, deformable_attention, has_triton, level_sides
from cropformer.deformable_bag import BagAttention

FIXTURE = Path(__file__).parents[1] / "data" / "parity" / "msda_core.npz"
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # must be set before triton is imported for the first time
DEVICE = "cpu" if IS_INTERPRETED else "cuda"
SIZES_HW = [(5, 7), (3, 1), (1, 4)]
has_no_triton = importlib.util.find_spec("triton") is None


def on_kernels(test):
    """Mark a test that needs the interpreter or a GPU."""
    if IS_INTERPRETED:
        return test
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")(test))


@pytest.mark.skipif(has_no_triton or IS_INTERPRETED, reason="triton is not installed, or this is the interpreter")
def test_kernels_in_the_interpreter():
    """All tests below, on the CPU."""
    command = [sys.executable, "-m", "pytest", __file__]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def read_by_kernel(values, sizes_hw, locations, weights):
    """The operator itself: on the CPU the public function would choose another way."""
    from cropformer.deformable_triton import read_bags

    return read_bags(values, level_sides(tuple(sizes_hw), values.device), locations, weights)


def random_inputs(*, channels: int, heads: int = 3, queries: int = 7, dtype=torch.float32) -> list[torch.Tensor]:
    """Values, locations (a third of them outside) and weights."""
    generator = torch.Generator().manual_seed(channels)
    tokens = sum(h * w for h, w in SIZES_HW)
    values = torch.randn(2, tokens, heads, channels, generator=generator).to(dtype)
    locations = 1.6 * torch.rand(2, queries, heads, len(SIZES_HW), 2, 2, generator=generator) - 0.3
    weights = torch.rand(2, queries, heads, len(SIZES_HW), 2, generator=generator)
    return [tensor.to(DEVICE).requires_grad_() for tensor in (values, locations, weights)]


def gradients(sample, inputs, *, sizes_hw=SIZES_HW):
    """What is read and the three gradients of a weighted sum of it."""
    out = sample(inputs[0], sizes_hw, *inputs[1:])
    factors = torch.randn(out.shape, generator=torch.Generator().manual_seed(5)).to(out)
    return [out.detach(), *torch.autograd.grad(out, inputs, factors)]


@on_kernels
@pytest.mark.parametrize("case", ["a", "b_self"])
def test_published_outputs_and_gradients(case):
    saved = {k[len(case) + 1 :]: v for k, v in np.load(FIXTURE).items() if k.startswith(f"{case}_")}
    sizes_hw = [(int(h), int(w)) for h, w in saved["shapes"]]
    inputs = [torch.from_numpy(saved[name]).to(DEVICE).requires_grad_() for name in ("value", "loc", "weight")]
    out = read_by_kernel(inputs[0], sizes_hw, inputs[1], inputs[2])
    out.backward(torch.from_numpy(saved["grad_out"]).to(DEVICE))
    assert np.abs(out.detach().cpu().numpy() - saved["out"]).max() < 1e-5
    for tensor, name in zip(inputs, ("value", "loc", "weight")):
        expected = saved[f"grad_{name}"]
        assert tensor.grad.shape == expected.shape
        assert np.abs(tensor.grad.cpu().numpy() - expected).max() < 1e-5 * max(1.0, np.abs(expected).max()), name


@on_kernels
@pytest.mark.parametrize("channels", [5, 32, 64])
@pytest.mark.parametrize("sample", [BagAttention.apply, _sample_by_grid], ids=["bag", "grid"])
def test_kernels_agree_with_pytorch(channels, sample):
    inputs = random_inputs(channels=channels)
    for ours, theirs in zip(gradients(read_by_kernel, inputs), gradients(sample, inputs)):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@on_kernels
def test_bfloat16_values_are_summed_in_float32():
    """The only roundings are those of the output and of the values' gradient."""
    inputs = random_inputs(channels=16, dtype=torch.bfloat16)
    exact = [inputs[0].detach().float().requires_grad_(), *inputs[1:]]
    read, *grads = gradients(read_by_kernel, inputs)
    assert read.dtype == grads[0].dtype == torch.bfloat16
    assert grads[1].dtype == grads[2].dtype == torch.float32
    factors = torch.randn(read.shape, generator=torch.Generator().manual_seed(5)).to(read)
    expected_read = BagAttention.apply(exact[0], SIZES_HW, *exact[1:])
    expected_grads = torch.autograd.grad(expected_read, exact, factors.float())
    assert torch.allclose(read.float(), expected_read, rtol=2**-7)  # the interpreter cuts where a GPU rounds
    assert torch.allclose(grads[0].float(), expected_grads[0], rtol=2**-7, atol=1e-5)
    for ours, theirs in zip(grads[1:], expected_grads[1:]):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@on_kernels
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # NaN to integer, in the interpreter
def test_inputs_need_not_be_contiguous_or_finite():
    """A location that is not a number spoils its own query only, and reads no foreign memory."""
    values, locations, weights = (tensor.detach() for tensor in random_inputs(channels=8))
    expected = BagAttention.apply(values, SIZES_HW, locations, weights)
    strided = values.transpose(1, 2).contiguous().transpose(1, 2)
    locations = locations.clone()
    locations[0, 3] = torch.nan
    locations[1, 4] = 1e30
    read = read_by_kernel(strided, SIZES_HW, locations, weights)
    assert not read[1, 4].any()
    read[0, 3], read[1, 4] = expected[0, 3], expected[1, 4]
    assert torch.allclose(read, expected, atol=1e-5)


@on_kernels
def test_operator_is_registered_completely():
    """Shapes, gradients and aliases as torch.compile expects them."""
    from cropformer.deformable_triton import read_bags

    values, locations, weights = random_inputs(channels=8)
    torch.library.opcheck(read_bags, (values, level_sides(tuple(SIZES_HW), values.device), locations, weights))


@on_kernels
@pytest.mark.filterwarnings("ignore:Dynamo detected a call to a `functools.lru_cache`")
def test_compiled_graph_has_no_break(monkeypatch):
    """The choice of the way is part of the graph, and the operator one of its nodes."""
    monkeypatch.setattr("cropformer.deformable_attention._suits_triton", lambda values, _: has_triton())
    values, *places = random_inputs(channels=8)
    compiled = torch.compile(deformable_attention, backend="eager", fullgraph=True)
    with torch.inference_mode():
        assert torch.equal(compiled(values, SIZES_HW, *places), read_by_kernel(values, SIZES_HW, *places))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("is_deterministic", [False, True])
def test_public_function_on_a_gpu(is_deterministic):
    inputs = random_inputs(channels=32)
    expected = gradients(BagAttention.apply, [tensor.detach().cpu().requires_grad_() for tensor in inputs])
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(is_deterministic)
    try:
        runs = [gradients(deformable_attention, inputs) for _ in range(2)]
    finally:
        torch.use_deterministic_algorithms(was_deterministic)
    for first, second, theirs in zip(*runs, expected):
        assert torch.allclose(first.cpu(), theirs, rtol=1e-4, atol=1e-4)
        assert torch.equal(first, second) or not is_deterministic
