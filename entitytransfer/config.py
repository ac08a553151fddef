"""Hydra on one side, plain values on the other: the only file that sees a config object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

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
from entitytransfer.loaders import DataOptions, SetSource
from entitytransfer.predictions import ensure_writable
from entitytransfer.sampling import BatchSize


def composed(name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The config ``name`` with ``key=value`` overrides, resolved to plain containers.

    Raises:
        InputError: if an override names no key, has no ``=``, or leaves a required value out.
    """
    try:
        with initialize_config_module("entitytransfer.configs", version_base="1.3"):
            config = compose(name, overrides=list(overrides))
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"the settings do not fit {name}: {reason}") from error


def run_pretrain(overrides: Sequence[str], *, dry_run: bool = False) -> Path:
    """Compose the pretraining config, save it beside the outputs, and train; returns the path of the weights."""
    from entitytransfer.engine import LoopOptions, is_first_process
    from entitytransfer.pretrain import pretrain

    config = composed("pretrain", overrides)
    trainer = _without(config["trainer"], "max_steps", "images")
    out = Path(config["out"])
    if is_first_process() and not dry_run:
        save_config(out, config)
    return pretrain(
        model_architecture(config["model"]),
        settings=TestSettings(**config["test"]),
        data=data_options(config["data"], config["batch"]),
        loss=SetLoss(**config["loss"]),
        optimisation=Optimisation(max_steps=step_count(config["trainer"], config["batch"]), **config["optimisation"]),
        loop=LoopOptions(seed=config["seed"], **trainer),
        out=out,
        init=config["init"],
        init_backbone=_path(config["init_backbone"]),
        dry_run=dry_run,
    )


def run_evaluate(
    overrides: Sequence[str], *, shard: tuple[int, int] | None = None, dry_run: bool = False
) -> dict[str, float] | None:
    """Compose the evaluation config, save it beside the outputs, predict and score; see ``evaluate``.

    Args:
        overrides: ``key=value``.
        shard: (i, n); None takes the share of this process among those that were started together.
        dry_run: print a forecast and write nothing.
    """
    from entitytransfer.evaluate import EvaluateOptions, evaluate, process_shard

    config = composed("evaluate", overrides)
    own = {field.name: config[field.name] for field in fields(EvaluateOptions) if field.name in config}
    shard = process_shard() if shard is None else shard
    options = EvaluateOptions(**{**own, **config["test"], "out": Path(config["out"]), "shard": shard})
    source = evaluation_source(config["data"])
    if shard[0] == 1 and not dry_run:
        read = {"root": source.root, "dataset": source.dataset, "options": source.options}
        save_config(options.out, {**own, "data": read, "test": config["test"]})
    return evaluate(source, options, dry_run=dry_run)


def save_config(out: Path, config: dict[str, Any]) -> None:
    """Write what a run was asked for and made with: ``config.yaml`` and ``run.json`` in its folder."""
    from entitytransfer.run_record import save_run_record

    with atomic_path(ensure_writable(out) / "config.yaml") as temporary:
        temporary.write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    save_run_record(out, config)


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
        **_tuples(_without(data, "root", "dataset", "options", "sets", "validation")),
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
    return with_association(published, model["association"], batch_layers=model["batch_layers"])


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in keys}


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
