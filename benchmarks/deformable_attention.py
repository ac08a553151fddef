"""What reading the levels costs in one encoder layer, next to the same function of the transformers library.

All contenders read the same values at the same places, with the numbers of the published models: 8 heads of 32
channels, 3 levels, 4 points. Every run is a fresh process. Its memory is that of the first pass and its time that of
the second. With a CUDA GPU the same is measured there, into a file of its own, where ``wall_s`` is the time of one pass
among many, ``floor_s`` what the memory alone needs to read every input and write every output once, and ``extra_gib``
counts the GPU's memory.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe

if TYPE_CHECKING:
    from torch import Tensor

MODULE = "benchmarks.deformable_attention"
PEER = "transformers"
WAYS = {  # module and name of (values, sizes_hw, locations, weights) -> read
    "ours": ("cropformer.deformable_attention", "deformable_attention"),
    "grid_sample per level": ("cropformer.deformable_attention", "_sample_by_grid"),
    PEER: ("transformers.models.mask2former.modeling_mask2former", "multi_scale_deformable_attention"),
}
PASSES = ("forward", "forward and backward")
HEADS, CHANNELS, POINTS, STRIDES = 8, 32, 4, (32, 16, 8)
CUDA_REPEATS = 20
COPIED_BYTES = 2**30


def main() -> None:
    """Measure both passes on the CPU and, where there is one, on the GPU; print the rows and append them."""
    arguments = parse_arguments()
    if arguments.measure:
        print(json.dumps(measure(arguments)))
        return
    for device in ("cpu", "cuda") if has_cuda() else ("cpu",):
        file = RESULTS / ("deformable_attention.csv" if device == "cpu" else "deformable_attention_cuda.csv")
        views = arguments.views if device == "cpu" else arguments.cuda_views
        for chosen in PASSES:
            options = ["--size", arguments.size, "--views", str(views), "--device", device, "--pass", chosen]
            case = {"pass": chosen, "size": arguments.size, "views": views, "device": device}
            runs = alternate(MODULE, list(WAYS), options, repeats=arguments.repeats)
            for row in comparison_rows(MODULE, case, runs, peer=PEER):
                print(describe(row), flush=True)
                if not arguments.dry_run:
                    append_row(file, row)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1216x800", help="WIDTHxHEIGHT of a view; 32 divides both")
    parser.add_argument("--views", type=int, default=1, help="views read in one call")
    parser.add_argument("--cuda-views", type=int, default=5, help="the same for a GPU")
    parser.add_argument("--repeats", type=int, default=5, help="fresh processes for each contender")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--device", default="cpu", help=argparse.SUPPRESS)
    parser.add_argument("--pass", dest="chosen_pass", default=PASSES[0], choices=PASSES, help=argparse.SUPPRESS)
    return parser.parse_args()


def has_cuda() -> bool:
    """Whether torch sees a CUDA GPU; asked in a process of its own, because this one must stay small."""
    question = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", question]).returncode == 0


# --- the fresh process


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    """Cost of one contender, and how far what it reads is from what ours reads on the CPU."""
    import torch

    width, height = (int(side) for side in arguments.size.split("x"))
    sizes_hw = [(height // stride, width // stride) for stride in STRIDES]
    inputs = make_inputs(sizes_hw, views=arguments.views, device=arguments.device)
    read = named(arguments.measure)
    with_backward = arguments.chosen_pass == PASSES[1]
    run = make_pass(read, sizes_hw, inputs, with_backward=with_backward)
    cost = measure_cuda(run, inputs, with_backward=with_backward) if arguments.device == "cuda" else measure_cpu(run)
    with torch.inference_mode():
        ours = named("ours")(inputs[0][:1].cpu(), sizes_hw, inputs[1][:1].cpu(), inputs[2][:1].cpu())
        difference = (read(inputs[0][:1], sizes_hw, inputs[1][:1], inputs[2][:1]).cpu() - ours).abs().max()
    return {**cost, "max_difference": float(difference), "threads": torch.get_num_threads()}


def named(contender: str) -> Callable[..., Tensor]:
    """The function of a contender."""
    module, name = WAYS[contender]
    return getattr(importlib.import_module(module), name)


def make_inputs(sizes_hw: list[tuple[int, int]], *, views: int, device: str) -> list[Tensor]:
    """Values, locations some pixels around the centre of each query's own pixel, and weights."""
    import torch

    from cropformer.pixel_decoder import reference_points

    generator = torch.Generator().manual_seed(0)
    references = torch.cat([reference_points(size, torch.device("cpu")) for size in sizes_hw])  # [Q,2]
    sides = torch.tensor([(w, h) for h, w in sizes_hw])[:, None]  # [L,1,2]
    grid = (views, len(references), HEADS, len(sizes_hw), POINTS)
    locations = references[:, None, None, None] + 2 * torch.randn(*grid, 2, generator=generator) / sides
    weights = torch.randn(*grid, generator=generator).flatten(3).softmax(-1).view(grid)  # over [L,P]
    values = torch.randn(views, len(references), HEADS, CHANNELS, generator=generator)
    return [tensor.to(device).requires_grad_() for tensor in (values, locations, weights)]


def make_pass(
    read: Callable[..., Tensor], sizes_hw: list[tuple[int, int]], inputs: list[Tensor], *, with_backward: bool
) -> Callable[[], object]:
    """A call that reads once and, if asked, derives the three gradients."""
    import torch

    values, locations, weights = inputs
    if not with_backward:
        return torch.inference_mode()(lambda: read(values, sizes_hw, locations, weights))
    grad_read = torch.ones(*values.shape[:2], HEADS * CHANNELS, device=values.device)
    return lambda: torch.autograd.grad(read(values, sizes_hw, locations, weights), inputs, grad_read)


def measure_cpu(run: Callable[[], object]) -> dict[str, float]:
    """Memory of the first pass, time of the second."""
    _, first = cost_of(run)
    _, second = cost_of(run)
    memory = {name: value for name, value in first.items() if name.endswith("_gib")}
    return {name: value for name, value in second.items() if name.endswith("_s")} | memory


def measure_cuda(run: Callable[[], object], inputs: list[Tensor], *, with_backward: bool) -> dict[str, object]:
    """Time and memory of one pass among many, and the least time that its traffic needs."""
    import torch

    wall_s = time_cuda(run)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    extra_gib = (torch.cuda.max_memory_allocated() - before) / 2**30
    source = torch.empty(COPIED_BYTES, dtype=torch.uint8, device="cuda")
    bytes_per_s = 2 * COPIED_BYTES / time_cuda(source.clone)
    once = sum(tensor.nbytes for tensor in inputs)
    read = inputs[0].nbytes  # as many queries as tokens
    moved = once + read + (once + read + once if with_backward else 0)  # again the inputs, and all gradients
    return {
        "wall_s": wall_s,
        "extra_gib": extra_gib,
        "floor_s": round(moved / bytes_per_s, 6),
        "gpu": torch.cuda.get_device_name(),
    }


def time_cuda(run: Callable[[], object]) -> float:
    """Seconds of one of many calls that follow one another."""
    import torch

    for _ in range(3):
        run()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(CUDA_REPEATS):
        run()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / CUDA_REPEATS


if __name__ == "__main__":
    main()
