"""Methods: what predicts a photo or a clip, our weights or a peer's, and what its predictions depend on."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cropformer import EntitySegmenter, InputError, parse_memory, weights_path
from entitytransfer.adapter import Head, Result
from entitytransfer.clip_sample import ClipSample, Kind
from entitytransfer.evaluation.clips import clip_conditions, clip_predictor
from entitytransfer.evaluation.options import EvaluateOptions
from entitytransfer.file_digest import sha256_of
from entitytransfer.peers import open_peer, peer_options
from entitytransfer.segment import find_device, load_model
from entitytransfer.writers.result_files import check_task

Predict = Callable[[np.ndarray | ClipSample], Result]
PEER_OPTIONS = "peer_options"  # what a command and a protocol call those of a peer

_MEMORY = "max_memory"  # an option of a head on which no result depends
_OF_QUERIES = ("source", "compat")  # options of heads that mean our decoders and our fusion


@dataclass(frozen=True)
class Method:
    """What predicts a photo or a clip.

    Attributes:
        predict: photo uint8 RGB [H,W,3], or clip → its result.
        num_classes: size of its class head.
        protocol: what the result depends on beside the photo or clip.
        device: where it runs.
    """

    predict: Predict
    num_classes: int
    protocol: Mapping[str, Any]
    device: torch.device


def open_method(options: EvaluateOptions, head: Head, *, kind: Kind, device: str) -> Method:
    """The method that the options name, for images or for clips, on a device.

    Raises:
        InputError: there are no such weights, peer, device or options, or the peer is asked for clips.
    """
    if options.peer is None:
        return _own_method(options, head, kind, device)
    if kind == "clips":
        raise InputError(f"peer={options.peer} predicts images only; leave out peer= to predict clips.")
    return _peer_method(options, head, device)


def with_options(head: Head, options: EvaluateOptions) -> Head:
    """The head with the options that were given for it, and bounded memory if it knows that.

    Raises:
        InputError: it has no such option, or results of its task cannot be written.
    """
    check_task(head.task)
    known = _option_names(head)
    given = {name: value for name, value in options.head.items() if value is not None}
    for name in given:
        if name not in known:
            raise InputError(f"The {head.task} head has no option {name!r}; it has {', '.join(known) or 'none'}.")
    if options.max_memory is not None and hasattr(head, _MEMORY):
        given[_MEMORY] = parse_memory(options.max_memory)
    return replace(head, **given) if given else head


def _option_names(head: Head) -> list[str]:
    """What changes the results of a head beside its task and its classes."""
    names = [field.name for field in fields(head)] if is_dataclass(head) else []
    return [name for name in names if name not in ("task", "classes", _MEMORY)]


def _own_method(options: EvaluateOptions, head: Head, kind: Kind, device: str) -> Method:
    model = load_model(options.weights, device=device)
    file = weights_path(options.weights)
    name = options.weights if options.weights == "nano" else file.name
    weights = {"weights": name, "weights_sha256": sha256_of(file)}
    chosen = {"head": head.task} | {name: getattr(head, name) for name in _option_names(head)}
    of_clips = clip_conditions(options) if kind == "clips" else {}
    protocol = weights | options.sizes(model.settings) | of_clips | {"precision": options.precision} | chosen
    predict = clip_predictor(model, head, options) if kind == "clips" else _image_predictor(model, head, options)
    return Method(predict, model.architecture.num_classes, protocol, model.device)


def _image_predictor(model: EntitySegmenter, head: Head, options: EvaluateOptions) -> Predict:
    sizes = options.sizes(model.settings)
    numbers = {"max_memory": options.max_memory, "precision": options.precision}

    def predict(image: np.ndarray) -> Result:
        (result,) = model.predict([image], head.predict, **sizes, **numbers)
        return result

    return predict


def _peer_method(options: EvaluateOptions, head: Head, device: str) -> Method:
    """A published method; its labels are taken for those of the dataset, in their order."""
    _refuse_own_options(options)
    settings = peer_options(options.peer, options.peer_options)
    where = find_device(device)
    peer = open_peer(options.peer, options.weights, head=head, device=where, options=options.peer_options)
    names = [name for name in _option_names(head) if name not in _OF_QUERIES]
    path = Path(options.weights)
    protocol = {
        "peer": options.peer,
        "weights": path.name if path.exists() else options.weights,
        "weights_sha256": _tensors_sha256(peer.network),
        **{f"{PEER_OPTIONS}.{name}": value for name, value in settings.items()},
        **{name: version(name) for name in peer.libraries},
        "head": head.task,
        **{name: getattr(head, name) for name in names},
    }
    return Method(peer.predict, peer.num_classes, protocol, where)


def _refuse_own_options(options: EvaluateOptions) -> None:
    """Refuse what would be said in vain."""
    if options.weights == "nano":
        raise InputError(f"peer={options.peer} needs weights of its own; give them as weights=.")
    sizes = {f"test.{name}": getattr(options, name) for name in ("crops", "short_side", "max_side", "crop_ratio")}
    heads = {f"head.{name}": options.head.get(name) for name in _OF_QUERIES}
    bound = {"max_memory": options.max_memory, "precision": None if options.precision == "fp32" else options.precision}
    for name, value in (sizes | heads | bound).items():
        if value is not None:
            raise InputError(f"{name} is an option of our weights; a peer has its own, as {PEER_OPTIONS}.NAME.")


def _tensors_sha256(network: nn.Module) -> str:
    """Of names and values of the weights, in whichever files they were."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
