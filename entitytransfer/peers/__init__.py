"""Peers: published methods in place of our weights, one file each, found by its name.

A module offers ``TASKS``, the heads that its method can stand in for, and ``build``: the address of weights, the head
and the device, then options of its own → `Peer`. Nothing of the methods is here: they run in their own libraries.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from cropformer import Entities, InputError
from entitytransfer.adapter import Head, Result
from entitytransfer.named_modules import named_module

__all__ = ["Peer", "interpreted", "open_peer", "peer_options"]

_COMMON = ("weights", "head", "device")


@dataclass(frozen=True)
class Peer:
    """A method with its weights.

    Attributes:
        network: what holds the weights.
        predict: photo uint8 RGB [H,W,3] → its result, as the head that it was built for would have it.
        num_classes: K classes that it tells apart; label k of its entities is the k-th of them.
        libraries: packages that it runs in.
    """

    network: nn.Module
    predict: Callable[[np.ndarray], Result]
    num_classes: int
    libraries: tuple[str, ...]


def open_peer(name: str, weights: str, *, head: Head, device: torch.device, options: Mapping[str, Any]) -> Peer:
    """Build a peer.

    Args:
        name: of a file in this folder, such as "sam", or the dotted path of a module anywhere else.
        weights: where its weights are; what that can be is the peer's own.
        head: of the dataset.
        device: where it shall run.
        options: of its ``build``.

    Raises:
        InputError: there is no such peer or option, it does not know the task, a package is missing, or the weights
            cannot be loaded.
    """
    module = _module(name)
    if head.task not in module.TASKS:
        raise InputError(f"The peer {name} knows the tasks {', '.join(module.TASKS)}, not {head.task}; choose another.")
    known = peer_options(name, {})
    for option in options:
        if option not in known:
            raise InputError(f"The peer {name} has no option {option!r}; it has {', '.join(known) or 'none'}.")
    return module.build(weights, head=head, device=device, **options)


def peer_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a peer, with its own where none are given. Raises InputError as ``open_peer`` does."""
    parameters = inspect.signature(_module(name).build).parameters
    return {key: option.default for key, option in parameters.items() if key not in _COMMON} | dict(given)


def interpreted(entities: Entities, head: Head) -> Entities:
    """What a head makes of entities that are a method's own: its threshold, its bound on their number, its overlap."""
    match head.task:
        case "entity":
            labels = np.zeros_like(entities.labels) if len(head.classes) == 1 else entities.labels
            entities = Entities(entities.size_hw, entities.rles, entities.scores, labels)
            entities = entities.filter(min_score=head.min_score)
            return entities if head.overlap else _without_overlap(entities)
        case "instance":
            return entities.select(np.arange(len(entities)) < head.top_k)
    return entities


def _without_overlap(entities: Entities) -> Entities:
    """Every pixel to the best entity that claims it; those that are left without any are dropped."""
    apart = Entities.from_id_map(entities.id_map(), entities.scores, entities.labels, sort=False)
    return apart.filter(min_area=1)


def _module(name: str) -> Any:
    try:
        return named_module(name, package=__name__, kind="peer")
    except ModuleNotFoundError as error:
        raise InputError(
            f"The peer {name} needs the package {error.name}; run `pip install 'cropformer[peers]'`."
        ) from error
