"""Hydra on one side, plain values on the other: the only file that sees a config object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cropformer import (
    Architecture,
    InputError,
    Optimisation,
    SetLoss,
    TestSettings,
    atomic_path,
    named_architecture,
    with_association,
)
from entitytransfer.predictions import ensure_writable
from entitytransfer.set_source import SetSource
from entitytransfer.training.clip_data import ClipFrames
from entitytransfer.training.loaders import DataOptions
from entitytransfer.training.sampling import BatchSize

if TYPE_CHECKING:
    from entitytransfer.training.run import TrainingRun


_OF_DATA = ("root", "dataset")  # keys that may be typed without the part that they belong to
_GROUPS = ("recipe",)  # files to choose from, which a config names without having a key for them


def composed(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The config ``name`` with ``key=value`` overrides, resolved to plain containers.

    Args:
        name: of the command.
        overrides: of hydra; or ``root=`` and ``dataset=`` for those of ``data``; or an option of that dataset.

    Raises:
        InputError: if an override has no ``=``, names no key below a known one, or leaves a required value out.
    """
    try:
        with initialize_config_module("entitytransfer.configs", version_base="1.3"):
            config = compose(name, overrides=_spelled_out(name, overrides))
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the settings do not fit {name}: {reason}") from error


def run_pretrain(overrides: Sequence[str], *, dry_run: bool = False) -> Path:
    """Compose the pretraining config, save it beside the outputs, and train; returns the path of the weights."""
    from entitytransfer.pretrain import pretrain

    config = composed("pretrain", overrides)
    start = {"init": config["init"], "init_backbone": _path(config["init_backbone"])}
    return pretrain(model_architecture(config["model"]), _training_run(config, dry_run=dry_run), **start)


def run_finetune(overrides: Sequence[str], *, dry_run: bool = False) -> Path:
    """Compose the fine-tuning config, save it beside the outputs, and train; returns the path of the weights."""
    from entitytransfer.finetune import finetune
    from entitytransfer.training.init_weights import named_weights

    config = composed("finetune", overrides)
    model = config["model"]
    init = named_weights(config["init"], model=model["name"])
    numbers = {"num_queries": model["num_queries"], "fine_level": model["fine_level"]}
    run = _training_run(config, dry_run=dry_run)
    return finetune(init, run, around_backbone=model_architecture(model), **numbers)


def _training_run(config: dict[str, Any], *, dry_run: bool) -> TrainingRun:
    """The run that a config means, which is saved beside its outputs."""
    from entitytransfer.training.adaptation import Adaptation
    from entitytransfer.training.engine import LoopOptions, is_first_process
    from entitytransfer.training.run import TrainingRun

    trainer = _without(config["trainer"], "max_steps", "images")
    run = TrainingRun(
        settings=TestSettings(**config["test"]),
        data=data_options(config["data"], config["batch"]),
        loss=SetLoss(**config["loss"]),
        optimisation=Optimisation(max_steps=step_count(config["trainer"], config["batch"]), **config["optimisation"]),
        loop=LoopOptions(seed=config["seed"], **trainer),
        out=Path(config["out"]),
        adaptation=Adaptation(**_tuples(config["adaptation"])),
        dry_run=dry_run,
    )
    if is_first_process() and not dry_run:
        save_config(run.out, config)
    return run


def run_evaluate(
    overrides: Sequence[str], *, shard: tuple[int, int] | None = None, dry_run: bool = False
) -> dict[str, float] | None:
    """Compose the evaluation config, save it beside the outputs, predict and score; see ``evaluate``.

    Args:
        overrides: ``key=value``.
        shard: (i, n); None takes the share of this process among those that were started together.
        dry_run: print a forecast and write nothing.
    """
    from entitytransfer.evaluate import evaluate
    from entitytransfer.evaluation.options import ClipOptions, EvaluateOptions
    from entitytransfer.processes import process_shard

    config = composed("evaluate", overrides)
    own = {field.name: config[field.name] for field in fields(EvaluateOptions) if field.name in config}
    shard = process_shard() if shard is None else shard
    if config["test"].pop("min_score") is not None:
        raise InputError("evaluate has no test.min_score; give head.min_score.")
    places = {"out": Path(config["out"]), "shard": shard, "clip": ClipOptions(**config["clip"])}
    options = EvaluateOptions(**{**own, **config["test"], **places})
    source = evaluation_source(config["data"])
    if shard[0] == 1 and not dry_run:
        read = {"root": source.root, "dataset": source.dataset, "options": source.options}
        save_config(options.out, {**own, "data": read, "test": config["test"]})
    return evaluate(source, options, dry_run=dry_run)


def run_zeroshot(
    overrides: Sequence[str], *, shard: tuple[int, int] | None = None, dry_run: bool = False
) -> Iterator[str]:
    """Compose the zero-shot config, and measure recalls as it says, see ``zeroshot``.

    Args:
        overrides: ``key=value``; a key that the config does not have is an option of the dataset.
        shard: as in ``run_evaluate``.
        dry_run: print a forecast and write nothing.

    Yields:
        What to print: recall and protocol of each run, then the table of all runs of the folder.
    """
    from entitytransfer.evaluation.options import EvaluateOptions
    from entitytransfer.processes import process_shard
    from entitytransfer.reports.zeroshot_table import write_table
    from entitytransfer.zeroshot import GALLERY, RecallOptions, overlaps, recall_of_file, recall_of_weights

    config = composed("zeroshot", overrides)
    source = SetSource(**{**config["data"], "root": str(config["data"]["root"])})
    file, shard = _path(config["predictions"]), process_shard() if shard is None else shard
    own = {field.name: config[field.name] for field in fields(EvaluateOptions) if field.name in config}
    prediction = EvaluateOptions(**{**own, **config["test"], "out": Path(config["out"]), "shard": shard})
    if file is not None and dry_run:
        raise InputError("--dry-run forecasts how long predicting takes; leave predictions= out.")
    scores = []
    for overlap in overlaps(config["overlap"], default=file is not None):
        name = config["name"] if file is None else config["name"] or file.stem
        options = RecallOptions(out=prediction.out, name=name, overlap=overlap, examples=config["examples"])
        folder = options.folder(source.dataset)
        if shard[0] == 1 and not dry_run:
            save_config(folder, config)
        if file is None:
            score = recall_of_weights(source, prediction, options, dry_run=dry_run)
        else:
            score = recall_of_file(source, file, options)
        if score is not None:
            scores.append(score)
            yield f"{score.table()}\n\nOpen {folder / GALLERY / 'index.html'} in a browser.\n"
    if scores:
        yield write_table(prediction.out)


def save_config(out: Path, config: dict[str, Any]) -> None:
    """Write what a run was asked for and made with: ``config.yaml`` and ``run.json`` in its folder."""
    from entitytransfer.training.run_record import save_run_record

    with atomic_path(ensure_writable(out) / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    save_run_record(out, config)


@cache
def _keys(name: str) -> frozenset[str]:
    """What may be typed before the first dot of an override, where hydra is set up."""
    return frozenset({*compose(name), *_GROUPS})


def _spelled_out(name: str, overrides: Sequence[str]) -> list[str]:
    """Overrides as hydra knows them: a key that the config does not have is an option of the dataset."""
    known = _keys(name)
    # The one set of an evaluation is what a recipe calls the validation set.
    places = ("data.options", "data.validation.options") if name == "evaluate" else ("data.options",)
    spelled_out = []
    for text in overrides:
        key = text.partition("=")[0]
        if key in _OF_DATA:
            spelled_out.append(f"data.{text}")
        elif key.isidentifier() and key not in known:
            spelled_out += [f"++{place}.{text}" for place in places]
        else:
            spelled_out.append(text)
    return spelled_out


def evaluation_source(data: dict[str, Any]) -> SetSource:
    """The set to evaluate on: the validation set that the ``data`` part of a config names, or its one set itself."""
    return _set_source(data, data["validation"]) or _set_source(data, _whole_set(data))


def data_options(data: dict[str, Any], batch: dict[str, int]) -> DataOptions:
    """The data that the ``data`` and ``batch`` parts of a config mean.

    Raises:
        InputError: if a set is not described by the keys of ``SetSource``, or the options do not fit together.
    """
    return DataOptions(
        sets=tuple(_set_source(data, source) for source in data["sets"] or [_whole_set(data)]),
        validation=_set_source(data, data["validation"]),
        batch=BatchSize(**batch),
        clip=ClipFrames(**data["clip"]),
        **_tuples(_without(data, "root", "dataset", "options", "sets", "validation", "clip")),
    )


def _whole_set(data: dict[str, Any]) -> dict[str, Any]:
    """What stands for the one set of a config that lists none."""
    return {"root": ".", "dataset": data["dataset"], "options": data["options"]}


def _set_source(data: dict[str, Any], source: dict[str, Any]) -> SetSource | None:
    """The set that a part of a config describes; None where its root is null."""
    known = [field.name for field in fields(SetSource)]
    if not isinstance(source, dict) or "root" not in source or not set(known).issuperset(source):
        raise InputError(f"{source} describes no set; give root and, if needed, any of {', '.join(known[1:])}")
    root = source["root"]
    return (
        None
        if root is None
        else SetSource(**{"dataset": data["dataset"], **source, "root": str(Path(data["root"]) / root)})
    )


def step_count(trainer: dict[str, Any], batch: dict[str, int]) -> int:
    """Optimiser steps of a run: ``trainer.max_steps``, or as many as show ``trainer.images``."""
    shown = -(-trainer["images"] // batch["total"])
    return shown if trainer["max_steps"] is None else trainer["max_steps"]


def model_architecture(model: dict[str, Any]) -> Architecture:
    """The model that the ``model`` part of a config means.

    Raises:
        InputError: if there is no such model or association.
    """
    counts = {"num_queries": model["num_queries"], "num_classes": model["num_classes"]}
    published = named_architecture(model["name"], **counts)
    ours = with_association(published, model["association"], batch_layers=model["batch_layers"])
    return replace(ours, fine_level=bool(model["fine_level"]))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in keys}


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
