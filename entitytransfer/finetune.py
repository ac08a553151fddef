"""Fine-tuning: trained weights learn the classes of another dataset, with a class head of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from cropformer import Architecture, read_checkpoint, weights_path, with_association
from entitytransfer.training.run import TrainingRun, train
from entitytransfer.training.sets import open_sets


def finetune(
    init: str | Path,
    run: TrainingRun,
    *,
    around_backbone: Architecture,
    num_queries: int | None = None,
    fine_level: bool | None = None,
) -> Path:
    """Train weights further, as the model that they are, on the classes of the data; see ``train`` for the rest.

    Args:
        init: weights to start from: "nano", a published name, an ``hf://`` address, or a path.
        run: data, optimiser, loop and folder.
        around_backbone: the model to build where ``init`` holds nothing but a backbone; its association module too
            where there are several views of a sample and ``init`` is a plain Mask2Former.
        num_queries: Q; None for that of the weights.
        fine_level: whether masks are made at stride 2; None for what the weights have.

    Returns:
        The path of the weights.
    """
    sets, path = open_sets(run.data), weights_path(init)
    checkpoint = read_checkpoint(path)
    chosen = {"num_queries": num_queries, "fine_level": fine_level}
    numbers = {name: number for name, number in chosen.items() if number is not None}
    numbers["num_classes"] = len(sets.classes)
    if checkpoint.is_backbone:
        return train(run, replace(around_backbone, **numbers), sets, init_backbone=path)
    architecture = replace(checkpoint.architecture, **numbers)
    if architecture.association == "none" and sets.views(run.data) > 1:
        association, layers = around_backbone.association, around_backbone.batch_layers
        architecture = with_association(architecture, association, batch_layers=layers)
    return train(run, architecture, sets, init=checkpoint)
