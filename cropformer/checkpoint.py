"""Checkpoints: weights in any known layout read safely into a model, and written in our layout or the official one.

Our files are safetensors; their metadata holds a JSON ``Architecture``, the test settings of the weights and, where it
is known, what their classes mean.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from .architecture import Architecture, TestSettings, infer_architecture, infer_backbone
from .containers.tensor_files import read_tensor_file
from .errors import InputError
from .files import atomic_path
from .fitting import CLASS_HEAD, misfit, resize_table
from .layouts import official, translate
from .load_report import ABSENT, LoadReport, Reinitialised, Resized


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        path: the file.
        layout: whose names it has.
        state: tensors under our names, floating ones as float32; a name without a place in our models is kept.
        ignored: names in the file that no model needs.
        architecture: the model they fit; of a lone backbone, the published CropFormer on it. None if a lone backbone
            does not tell its numbers.
        settings: how the weights are to be tested.
        classes: what the classes mean, as the file says: plain lists by name, "names" among them. None if it does not.
    """

    path: Path
    layout: str
    state: dict[str, Tensor]
    ignored: tuple[str, ...]
    architecture: Architecture | None
    settings: TestSettings
    classes: dict[str, list[Any]] | None = None

    @property
    def is_backbone(self) -> bool:
        """Whether it holds nothing but a backbone."""
        return all(name.startswith("backbone.") for name in self.state)


def read_checkpoint(path: str | Path, *, timm_backbone: bool = False) -> Checkpoint:
    """Read weights in any layout of ``layouts``, in any container of ``tensor_files``. No code in a file runs.

    Args:
        path: the file.
        timm_backbone: it is for a model on a ``TimmBackbone``; without it, timm's ResNet and Swin are taken for ours.

    Raises:
        InputError: if the file is missing, damaged, or in no known layout.
    """
    path = Path(path)
    file = read_tensor_file(path)
    layout, translation = translate(file.tensors, path, timm_backbone=timm_backbone)
    state = {name: t.float() if t.is_floating_point() else t for name, t in translation.state.items()}
    checkpoint = Checkpoint(path, layout, state, translation.ignored, None, TestSettings())
    if "architecture" in file.metadata:
        return replace(checkpoint, **_stated(file.metadata, path))
    return _note_licence(_inferred(checkpoint))


def _stated(metadata: Mapping[str, str], path: Path) -> dict:
    """What our own file says about its model."""
    try:
        architecture = Architecture(**json.loads(metadata["architecture"]))
        architecture.backbone_config()
        settings = TestSettings(**json.loads(metadata.get("settings", "{}")))
        classes = json.loads(metadata["classes"]) if "classes" in metadata else None
        if classes is not None and len(classes["names"]) != architecture.num_classes:
            raise ValueError(f"{len(classes['names'])} names for {architecture.num_classes} classes")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} states an architecture unknown to this version ({error}); update it") from error
    return {"architecture": architecture, "settings": settings, "classes": classes}


def _inferred(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the architecture that its shapes tell."""
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.state.items()}
    empty = next((name for name, shape in shapes.items() if 0 in shape), None)
    if empty is not None:
        raise InputError(f"{checkpoint.path} holds {empty} without elements, {shapes[empty]}; get it again")
    try:
        if not checkpoint.is_backbone:
            architecture = infer_architecture(shapes, checkpoint.path)
            settings = TestSettings(crops=0 if architecture.association == "none" else 4)
            return replace(checkpoint, architecture=architecture, settings=settings)
        return replace(checkpoint, architecture=Architecture(*infer_backbone(shapes)))
    except KeyError:  # a lone backbone of another kind
        return checkpoint
    except IndexError as error:
        raise InputError(f"{checkpoint.path} holds tensors without dimensions where weights belong") from error


def _note_licence(checkpoint: Checkpoint) -> Checkpoint:
    """Say once for each file that may be a published CropFormer what its use is bound to."""
    a = checkpoint.architecture
    whole = checkpoint.layout == official.NAME and not checkpoint.is_backbone
    if whole and a is not None and (a.association != "none" or a.num_classes == 1):
        logging.getLogger("cropformer").warning(
            "%s has the layout of the published CropFormer weights; if these are the published weights, their licence "
            "is CC BY-NC 4.0: not for commercial use.",
            checkpoint.path,
        )
    return checkpoint


def load_into(model: nn.Module, checkpoint: Checkpoint, *, class_head: bool = True) -> LoadReport:
    """Fill a model with what fits, and report.

    The model keeps its own values where the file has none, or has a class head for another number of classes or
    another number of queries. Tables of relative positions for another window are resized bicubically.

    Args:
        model: what is filled.
        checkpoint: what with.
        class_head: whether the model has the classes of the file; otherwise it keeps its own class head.

    Raises:
        InputError: if the tensors are those of another model, or of another kind of number, or none of them fits.
    """
    _check_heads(model, checkpoint)
    own = model.state_dict()
    filled: dict[str, Tensor] = {}
    fresh, resized = [], []
    for name, target in own.items():
        tensor = checkpoint.state.get(name)
        reason = ABSENT if tensor is None else misfit(name, tensor, target, path=checkpoint.path)
        if name in CLASS_HEAD and not class_head:
            reason = reason or "made for other classes"
        if reason:
            fresh.append(Reinitialised(name, tuple(target.shape), reason))
            continue
        filled[name] = tensor if tensor.shape == target.shape else resize_table(tensor, len(target))
        if tensor.shape != target.shape:
            resized.append(Resized(name, tuple(tensor.shape), tuple(target.shape)))
    if not filled:
        raise InputError(f"{checkpoint.path} holds another model: none of its tensors ({checkpoint.layout}) fits")
    model.load_state_dict(own | filled)
    changed = {item.name for item in resized}
    loaded = tuple(name for name in filled if name not in changed)
    unexpected = tuple(name for name in checkpoint.state if name not in own)
    return LoadReport(checkpoint.layout, loaded, tuple(fresh), tuple(resized), checkpoint.ignored, unexpected)


def _check_heads(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Heads and points leave no trace in shapes: compare what the file and the model say of themselves."""
    theirs, ours = checkpoint.architecture, getattr(model, "architecture", None)
    if checkpoint.is_backbone or theirs is None or ours is None:
        return
    if (theirs.heads, theirs.points) != (ours.heads, ours.points):
        raise InputError(
            f"{checkpoint.path} holds another model: {theirs.heads} heads and {theirs.points} points, not "
            f"{ours.heads} and {ours.points}; choose the model it was made as"
        )


def load_backbone(backbone: nn.Module, path: str | Path) -> LoadReport:
    """Fill a backbone from a file of its own tensors, a classifier with it, or a whole model on it, and report.

    Norms of the output levels, which classifiers lack, may keep their fresh values.

    Raises:
        InputError: if the file is missing or damaged, or a tensor of the backbone is not in it.
    """
    own = backbone.state_dict()
    checkpoint = read_checkpoint(path, timm_backbone=any(name.startswith("body.") for name in own))
    inside = {k.removeprefix("backbone."): t for k, t in checkpoint.state.items() if k.startswith("backbone.")}
    beside = tuple(name for name in checkpoint.state if not name.startswith("backbone."))
    report = load_into(backbone, replace(checkpoint, state=inside, ignored=(*checkpoint.ignored, *beside)))
    absent = [item.name for item in report.reinitialised if not item.name.startswith("norms.")]
    absent = [name for name in absent if not name.endswith("num_batches_tracked")]
    if absent:
        raise InputError(f"{path} does not fill the backbone: {absent[0]} is missing from it ({checkpoint.layout})")
    return report


def describe(
    architecture: Architecture, settings: TestSettings, classes: Mapping[str, Sequence[Any]] | None = None
) -> dict[str, str]:
    """What our files say of their model beside its tensors."""
    stated = {"architecture": asdict(architecture), "settings": asdict(settings)}
    stated |= {} if classes is None else {"classes": dict(classes)}
    return {name: json.dumps(value) for name, value in stated.items()}


def save_checkpoint(
    path: str | Path,
    state: Mapping[str, Tensor],
    *,
    architecture: Architecture,
    settings: TestSettings,
    classes: Mapping[str, Sequence[Any]] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write our safetensors atomically; floating tensors are stored as ``dtype``, ``classes`` as in ``Checkpoint``.

    Raises:
        InputError: if the place cannot be written or the disk is full.
    """
    metadata = {"format": "pt"} | describe(architecture, settings, classes)
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(_stored(state, dtype), metadata=metadata))  # save_file would hide system errors


def save_official(
    path: str | Path,
    state: Mapping[str, Tensor],
    *,
    architecture: Architecture,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a detectron2 ``.pth`` atomically, as the published code reads it.

    Raises:
        InputError: if the published code has no such model, the place cannot be written or the disk is full.
    """
    content = io.BytesIO()
    torch.save({"model": _stored(official.from_ours(state, architecture), dtype)}, content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def _stored(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {k: (v.to(dtype) if v.is_floating_point() else v).contiguous().cpu() for k, v in state.items()}
