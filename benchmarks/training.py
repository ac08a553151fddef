"""What a training step costs, next to the published step: forward, losses and backward of one image of two views.

Both are Swin-T with the same random weights, in fp32 unless the name says otherwise, and compute the same losses up to
their random points; stochastic depth, the only layer that training changes, is off. Every run is a fresh process that
takes two steps: the peak is that of both, extra memory that of the first, time that of the second. With a CUDA GPU a
step of two images of one view in bf16 is measured next to Mask2Former of the transformers library, into a file of its
own, where ``wall_s`` is the time of one step among many and ``extra_gib`` counts the GPU's memory above the weights.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from benchmarks.common import (
    RESULTS,
    alternate,
    append_row,
    comparison_rows,
    cost_of,
    cpu_seconds,
    describe,
    has_cuda,
    make_photo,
)
from benchmarks.network import PEER as TRANSFORMERS
from benchmarks.network import their_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from cropformer import EntitySegmenter, Target

MODULE = "benchmarks.training"
PUBLISHED = "published"
CHECKPOINTED, HALF = "ours checkpointed", "ours bf16"
CPU = ("ours", CHECKPOINTED, HALF, PUBLISHED)
CUDA = ("ours", CHECKPOINTED, TRANSFORMERS)
CUDA_STEPS = 10
COLUMNS = 5  # of the grid that the entities fill

Losses = Callable[[], "dict[str, Tensor]"]


def main() -> None:
    """Measure all contenders on the CPU and, where there is one, on the GPU."""
    arguments = parse_arguments()
    if arguments.measure:
        measured = measure_cuda if arguments.device == "cuda" else measure
        print(json.dumps(measured(arguments.measure, arguments.size, arguments.entities)))
        return
    if arguments.device in (None, "cpu"):
        record(arguments.contenders or CPU, arguments, device="cpu", peer=PUBLISHED)
    if arguments.device == "cuda" or (arguments.device is None and has_cuda()):
        record(arguments.contenders or CUDA, arguments, device="cuda", peer=TRANSFORMERS)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="768x512", help="WIDTHxHEIGHT of a view; 32 divides both")
    parser.add_argument("--entities", type=int, default=20, help="entities of the image, all of them in both views")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: all that there are")
    parser.add_argument("--contenders", nargs="+", choices=dict.fromkeys(CPU + CUDA), help="default: all of a device")
    parser.add_argument("--repeats", type=int, default=3, help="fresh processes for each contender")
    parser.add_argument("--dry-run", action="store_true", help="print only; write no row")
    parser.add_argument("--measure", help=argparse.SUPPRESS)  # the fresh process
    return parser.parse_args()


def record(contenders: list[str] | tuple[str, ...], arguments: argparse.Namespace, *, device: str, peer: str) -> None:
    """Measure the contenders on one device, print the rows and append them."""
    options = ["--size", arguments.size, "--entities", str(arguments.entities), "--device", device]
    runs = alternate(MODULE, contenders, options, repeats=arguments.repeats)
    case = {"model": "swin_t", "size": arguments.size, "entities": arguments.entities, "device": device}
    file = RESULTS / ("training.csv" if device == "cpu" else "training_cuda.csv")
    for row in comparison_rows(MODULE, case, runs, peer=peer):
        print(describe(row), flush=True)
        if not arguments.dry_run:
            append_row(file, row)


# --- the fresh process


def measure(contender: str, size: str, entities: int) -> dict[str, object]:
    """Cost of a step on the CPU, and the CPU time of the first step and of the parts of the second."""
    import torch

    model, losses = cpu_losses(contender, size, entities)
    _, first = cost_of(lambda: take_step(model, losses))
    parts, second = cost_of(lambda: take_step(model, losses))
    return {
        **second,
        "peak_gib": max(first["peak_gib"], second["peak_gib"]),
        "extra_gib": first["extra_gib"],  # the second step begins with what the first has left
        "first_cpu_s": round(first["cpu_s"], 2),
        **parts,
        "threads": torch.get_num_threads(),
    }


def measure_cuda(contender: str, size: str, entities: int) -> dict[str, object]:
    """Time and memory of a step on the GPU in bf16, from steps that follow one another."""
    import torch

    model, losses = single_view_losses(contender, size, entities, device="cuda")
    losses = torch.autocast("cuda", torch.bfloat16)(losses)
    for _ in range(3):
        take_step(model, losses)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before, start = torch.cuda.memory_allocated(), time.perf_counter()
    for _ in range(CUDA_STEPS):
        take_step(model, losses)
    torch.cuda.synchronize()
    wall_s = (time.perf_counter() - start) / CUDA_STEPS
    extra_gib = (torch.cuda.max_memory_allocated() - before) / 2**30
    return {"wall_s": wall_s, "extra_gib": extra_gib, "gpu": torch.cuda.get_device_name()}


def take_step(model: nn.Module, losses: Losses) -> dict[str, float]:
    """Forward, losses, backward; CPU seconds before the backward pass and in it."""
    import torch

    model.zero_grad()
    start = cpu_seconds()
    total = torch.stack(list(losses().values())).sum()
    middle = cpu_seconds()
    total.backward()
    return {"forward_cpu_s": round(middle - start, 2), "backward_cpu_s": round(cpu_seconds() - middle, 2)}


def cpu_losses(contender: str, size: str, entities: int) -> tuple[EntitySegmenter, Losses]:
    """Our model and what computes its losses for one image of two views, our way or the published one."""
    import torch

    import cropformer
    from benchmarks.published_training import published_losses

    torch.manual_seed(0)
    model = cropformer.build_model("swin_t").eval()
    pixels, targets = make_batch(size, entities, images=1, views=2)
    if contender == PUBLISHED:
        loss = cropformer.SetLoss(draw=lambda count, points: torch.rand(count, points, 2))
        return model, lambda: published_losses(model, pixels, targets, loss=loss)
    losses = our_losses(model, pixels, targets, checkpointed=contender == CHECKPOINTED)
    return model, torch.autocast("cpu", torch.bfloat16, enabled=contender == HALF)(losses)


def single_view_losses(contender: str, size: str, entities: int, *, device: str) -> tuple[nn.Module, Losses]:
    """Mask2Former, ours or theirs, and what computes its losses for two images of one view."""
    import torch

    import cropformer

    torch.manual_seed(0)
    pixels, targets = make_batch(size, entities, images=2, views=1)
    pixels, targets = pixels.to(device), [target.to(device) for target in targets]
    if contender != TRANSFORMERS:
        model = cropformer.build_model("mask2former_swin_t").eval().to(device)
        return model, our_losses(model, pixels, targets, checkpointed=contender == CHECKPOINTED)
    model = their_model().to(device)
    masks, labels = [target.masks[:, 0].float() for target in targets], [target.labels for target in targets]
    return model, lambda: {"loss": model(pixels[:, 0], mask_labels=masks, class_labels=labels).loss}


def our_losses(model: EntitySegmenter, pixels: Tensor, targets: list[Target], *, checkpointed: bool) -> Losses:
    """What computes our losses for pixels [B,T,3,H,W]."""
    import cropformer

    if checkpointed:
        cropformer.checkpoint_activations(model)
    loss = cropformer.SetLoss()

    def losses() -> dict[str, Tensor]:
        features = model.encode(pixels.flatten(0, 1))  # [B,T,3,H,W] -> [BT,3,H,W]
        return cropformer.cropformer_losses(model.decode(features, views=pixels.shape[1]), targets, loss=loss)

    return losses


def make_batch(size: str, entities: int, *, images: int, views: int) -> tuple[Tensor, list[Target]]:
    """The bundled photo as every view, float [B,T,3,H,W], cut into a grid of entities."""
    import torch

    from cropformer import Target

    photo = torch.from_numpy(make_photo(size).copy())
    pixels = (photo.permute(2, 0, 1).float() - 117) / 58  # [H,W,3] -> [3,H,W]
    height, width = pixels.shape[1:]
    lines = -(-entities // COLUMNS)
    rows, columns = torch.arange(height) * lines // height, torch.arange(width) * COLUMNS // width
    masks = rows[:, None] * COLUMNS + columns == torch.arange(entities)[:, None, None]  # [N,H,W]
    masks = masks[:, None].repeat(1, views, 1, 1)  # [N,H,W] -> [N,T,H,W]
    target = Target(torch.zeros(entities, dtype=torch.long), masks, masks.any(-1).any(-1))
    return pixels.expand(images, views, -1, -1, -1), [target] * images


if __name__ == "__main__":
    main()
