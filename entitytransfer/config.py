"""Hydra on one side, plain values on the other: the only file that sees a config object."""

from __future__ import annotations

from collections.abc import Sequence
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
from entitytransfer.predictions import ensure_writable


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
    from entitytransfer.loaders import DataOptions, SetSource
    from entitytransfer.pretrain import LoopOptions, pretrain

    config = composed("pretrain", overrides)
    data = dict(config["data"])
    sources = data.pop("sets") or [{"root": "."}]
    root = Path(data.pop("root"))
    sets = tuple(SetSource(**{**source, "root": str(root / source["root"])}) for source in sources)
    validation = data.pop("validation")
    out = Path(config["out"])
    if not dry_run:
        with atomic_path(ensure_writable(out) / "config.yaml") as temporary:
            temporary.write_text(OmegaConf.to_yaml(config), encoding="utf-8")
    return pretrain(
        model_architecture(config["model"]),
        settings=TestSettings(**config["test"]),
        data=DataOptions(sets=sets, validation=validation and str(root / validation), **_tuples(data)),
        loss=SetLoss(**config["loss"]),
        optimisation=Optimisation(max_steps=config["trainer"]["max_steps"], **config["optimisation"]),
        loop=LoopOptions(seed=config["seed"], **_without(config["trainer"], "max_steps")),
        out=out,
        init=config["init"],
        init_backbone=_path(config["init_backbone"]),
        dry_run=dry_run,
    )


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


def _without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
