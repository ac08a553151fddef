"""Measures weights on a COCO-format set beside an untrained model and the trivial baselines, all the same way.

Every method gives at most 100 entities for an image, judged class-agnostically. The model's entities do not
overlap, so its AP is AP^e; the baselines' regions overlap, which favours their recall, and so does the row that
lets the model's masks overlap. The rows named "official" score and resize as the published pipeline does.

    python -m tools.measure_entities DIR --weights nano --crops 0 4 --out numbers.json
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from cropformer import Entities, EntitySegmenter, InputError, atomic_path, build, load
from entitytransfer.adapter import Sample
from entitytransfer.datasets import coco
from entitytransfer.evaluators.average_precision import AveragePrecision
from tools.baselines import BASELINES


def methods(model: EntitySegmenter, *, crops: Sequence[int]) -> dict[str, Callable[[np.ndarray], Entities]]:
    """Everything that is measured, by the name it is reported under."""
    torch.manual_seed(0)
    untrained = build(model.architecture, settings=model.settings).eval()
    named = {f"crops={count}": partial(model.segment, crops=count, min_score=0.0) for count in crops}
    named |= {f"crops={count} official": partial(model.segment, crops=count, compat="official") for count in crops}
    named |= {f"crops={crops[-1]} overlapping": partial(model.segment, crops=crops[-1], min_score=0.0, overlap=True)}
    named |= {f"untrained crops={crops[-1]}": partial(untrained.segment, crops=crops[-1], min_score=0.0)}
    return named | BASELINES


def measure(samples: Iterable[Sample], segment: Callable[[np.ndarray], Entities]) -> dict[str, float]:
    """Run a segmentation function over a set and score it, see ``AveragePrecision``."""
    metric = AveragePrecision()
    for sample in samples:
        metric.update(segment(sample.read_frame()), sample)
    return metric.compute()


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, measure, print, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="a COCO-format set, best with every region annotated")
    parser.add_argument("--weights", default="nano", help="nano, a published name, an hf:// address, or a path")
    parser.add_argument("--crops", type=int, nargs="+", default=[0, 4], help="crop counts to measure")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    options = parser.parse_args(arguments)
    try:
        samples = coco.read(options.root)
        metrics = {}
        for name, segment in methods(load(options.weights), crops=options.crops).items():
            metrics[name] = measure(track(samples, name), segment)
            print(
                f"{name:20}",
                "  ".join(f"{key} {value:.3f}" for key, value in metrics[name].items()),
                flush=True,
            )
        if options.out:
            with atomic_path(options.out) as temporary:
                temporary.write_text(json.dumps(metrics, indent=2))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
