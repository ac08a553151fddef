"""Pretraining: a model of chosen numbers, from random numbers or from what other weights have of it."""

from __future__ import annotations

from pathlib import Path

from cropformer import Architecture, read_checkpoint, weights_path
from entitytransfer.training.run import TrainingRun, train
from entitytransfer.training.sets import open_sets


def pretrain(
    architecture: Architecture,
    run: TrainingRun,
    *,
    init: str | Path | None = None,
    init_backbone: Path | None = None,
) -> Path:
    """Train a model; see ``train`` for what is written and raised.

    Args:
        architecture: the model.
        run: data, optimiser, loop and folder.
        init: weights to start from, "nano" or a path: of this model, or of one that lacks parts of it or has other
            classes or queries, as a Mask2Former trained on COCO. What they lack starts fresh, and is printed.
        init_backbone: backbone weights to start from, in any known layout.

    Returns:
        The path of the weights.
    """
    checkpoint = None if init is None else read_checkpoint(weights_path(init))
    return train(run, architecture, open_sets(run.data), init=checkpoint, init_backbone=init_backbone)
