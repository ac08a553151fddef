"""What one view costs through the network, next to Mask2Former of the transformers library.

Both are Swin-T with random weights and give class logits and stride-4 masks for the same pixels. Every run is a fresh
process. Its memory is that of the first forward pass and its time that of the second: the first one pays for what is
made once and kept. With a CUDA GPU the same is measured there in bf16, into a file of its own, where ``wall_s`` is the
time of one image.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.common import RESULTS, alternate, append_row, comparison_rows, cost_of, describe, has_cuda, make_photo

if TYPE_CHECKING:
    from torch import Tensor, nn

    import cropformer

MODULE = "benchmarks.network"
PEER = "transformers"
CPU = ("ours", "ours bf16", PEER)
OPENVINO = ("ours openvino", "ours openvino bf16")
CUDA = ("ours", "ours compiled", PEER, f"{PEER} compiled")
CUDA_PASSES = 20


def main() -> None:
    """Measure all contenders on the CPU and, where there is one, on the GPU."""
    arguments = parse_arguments()
    if arguments.measure:
        measured = (measure_cuda if arguments.cuda else measure)(arguments.measure, arguments.size)
        print(json.dumps(measured))
        return
    cpu = arguments.contenders or CPU + (OPENVINO if importlib.util.find_spec("openvino") else ())
    record(cpu, arguments.size, RESULTS / "network.csv", arguments, device="cpu")
    if has_cuda():
        record(CUDA, arguments.cuda_size, RESULTS / "network_cuda.csv", arguments, device="cuda")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="1216x800", help="WIDTHxHEIGHT of the view; 32 divides both")
    parser.add_argument("--cuda-size", default="1344x800", help="the same for a GPU")
    parser.add_argument("--contenders", nargs="+", choices=CPU + OPENVINO, help="on the CPU; default: all that can run")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each contender")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the fresh process
    parser.add_argument("--cuda", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def record(contenders: tuple[str, ...], size: str, path: Path, arguments: argparse.Namespace, *, device: str) -> None:
    """Measure the contenders on one device, print the rows and append them."""
    options = ["--size", size, *(["--cuda"] if device == "cuda" else [])]
    runs = alternate(MODULE, contenders, options, repeats=arguments.repeats)
    for row in comparison_rows(MODULE, {"model": "swin_t", "size": size, "device": device}, runs, peer=PEER):
        print(describe(row), flush=True)
        if not arguments.dry_run:
            append_row(path, row)


# --- the fresh process


def measure(contender: str, size: str) -> dict[str, object]:
    """Cost of one forward pass on the CPU, and how far the masks are from those of ours in fp32."""
    import torch

    pixels = view_of(size)
    forward = their_model() if contender == PEER else our_forward(contender)
    with torch.inference_mode():
        _, first = cost_of(lambda: forward(pixels))
        result, second = cost_of(lambda: forward(pixels))
        exact = contender in ("ours", PEER)  # the peer has other weights
        error = "" if exact else relative_error(result[1], our_forward("ours")(pixels)[1])
    cost = {name: value for name, value in second.items() if name.endswith("_s")}
    memory = {name: value for name, value in first.items() if name.endswith("_gib")}
    return {**cost, **memory, "relative_error": error, "threads": torch.get_num_threads()}


def measure_cuda(contender: str, size: str) -> dict[str, object]:
    """Time and memory of one forward pass on the GPU in bf16, from passes that follow one another."""
    import torch

    forward = cuda_forward(contender)
    pixels = view_of(size).cuda()
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        for _ in range(3):
            forward(pixels)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, start = torch.cuda.memory_allocated(), time.perf_counter()
        for _ in range(CUDA_PASSES):
            forward(pixels)
        torch.cuda.synchronize()
        wall_s = (time.perf_counter() - start) / CUDA_PASSES
    extra_gib = (torch.cuda.max_memory_allocated() - before) / 2**30
    gpu = torch.cuda.get_device_name()
    return {"wall_s": wall_s, "extra_gib": extra_gib, "images_per_s": round(1 / wall_s, 1), "gpu": gpu}


def relative_error(result: Tensor, exact: Tensor) -> float:
    """Size of the difference over the size of the exact tensor."""
    return round(float((result.float() - exact).norm() / exact.norm()), 5)


def view_of(size: str) -> Tensor:
    """The bundled photo as one view, float [1,3,H,W]."""
    import torch

    photo = torch.from_numpy(make_photo(size).copy())
    return (photo.permute(2, 0, 1)[None].float() - 117) / 58  # [H,W,3] -> [1,3,H,W]


def their_model() -> nn.Module:
    """Mask2Former of the transformers library on Swin-T, one class."""
    import transformers

    stages = [f"stage{i}" for i in range(1, 5)]
    backbone = transformers.SwinConfig(
        embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, out_features=stages
    )
    config = transformers.Mask2FormerConfig(backbone_config=backbone, num_labels=1)
    return transformers.Mask2FormerForUniversalSegmentation(config).eval()


def our_model() -> cropformer.EntitySegmenter:
    """Our Mask2Former on Swin-T."""
    import cropformer

    return cropformer.build_model("mask2former_swin_t").eval()


def our_forward(contender: str) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """One of our ways through the network on the CPU, by name; the same weights in all of them."""
    import torch

    torch.manual_seed(0)
    model = our_model()
    if contender in OPENVINO:
        from cropformer.backbones.openvino import OpenVINOBackbone

        model.backbone = OpenVINOBackbone(model.backbone, precision="bf16" if contender.endswith("bf16") else "fp32")
    forward = forward_of(model)
    return torch.autocast("cpu", torch.bfloat16)(forward) if contender == "ours bf16" else forward


def cuda_forward(contender: str) -> Callable[[Tensor], object]:
    """A way through the network on the GPU, by name: ours with its backbone compiled, theirs compiled whole."""
    import torch

    from cropformer.backbones.compiled import CompiledBackbone

    compiled = contender.endswith("compiled")
    if contender.startswith(PEER):
        theirs = their_model().cuda()
        return torch.compile(theirs) if compiled else theirs
    model = our_model().cuda()
    if compiled:
        model.backbone = CompiledBackbone(model.backbone)
    return forward_of(model)


def forward_of(model: cropformer.EntitySegmenter) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Pixels [1,3,H,W] to what the peer returns too: class logits [1,Q,K+1] and masks [1,Q,1,H/4,W/4]."""

    def forward(pixels: Tensor) -> tuple[Tensor, Tensor]:
        queries = model.decode(model.encode(pixels), views=1)
        return queries.class_logits, queries.mask_logits()

    return forward


if __name__ == "__main__":
    main()
