"""Checkpoints: the published key layout and our own, read safely, with the architecture inferred from shapes.

Our files are safetensors; their metadata holds a JSON ``Architecture`` and the test settings of the weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .architecture import Architecture, TestSettings, infer_architecture
from .errors import InputError
from .files import atomic_path

# Published names to ours, applied in order. Each pattern is anchored at the start of the key.
OFFICIAL_RULES: tuple[tuple[str, str], ...] = (
    (r"sem_seg_head\.pixel_decoder\.(pixel_decoder\.)+", r"sem_seg_head.pixel_decoder."),
    (r"backbone\.norm(\d)\.", r"backbone.norms.\1."),
    (r"backbone\.stem\.conv1\.norm\.", r"backbone.stem.norm."),
    (r"backbone\.stem\.conv1\.", r"backbone.stem.conv."),
    (r"backbone\.res(\d)\.(\d+)\.(conv\d|shortcut)\.norm\.", r"backbone.stages.res\1.\2.\3.norm."),
    (r"backbone\.res(\d)\.(\d+)\.(conv\d|shortcut)\.weight", r"backbone.stages.res\1.\2.\3.conv.weight"),
    (r"sem_seg_head\.pixel_decoder\.input_proj\.(\d)\.0\.", r"pixel_decoder.input_projections.\1.conv."),
    (r"sem_seg_head\.pixel_decoder\.input_proj\.(\d)\.1\.", r"pixel_decoder.input_projections.\1.norm."),
    (r"sem_seg_head\.pixel_decoder\.transformer\.level_embed", r"pixel_decoder.level_embed"),
    (r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.(\d+)\.", r"pixel_decoder.layers.\1."),
    (r"(pixel_decoder\.layers\.\d+)\.self_attn\.", r"\1.attention."),
    (r"(pixel_decoder\.layers\.\d+)\.norm1\.", r"\1.norm."),
    (r"(pixel_decoder\.layers\.\d+)\.norm2\.", r"\1.feedforward.norm."),
    (r"(pixel_decoder\.layers\.\d+)\.(linear\d)\.", r"\1.feedforward.\2."),
    (r"sem_seg_head\.pixel_decoder\.adapter_1\.norm\.", r"pixel_decoder.lateral.norm."),
    (r"sem_seg_head\.pixel_decoder\.adapter_1\.", r"pixel_decoder.lateral.conv."),
    (r"sem_seg_head\.pixel_decoder\.layer_1\.norm\.", r"pixel_decoder.output.norm."),
    (r"sem_seg_head\.pixel_decoder\.layer_1\.", r"pixel_decoder.output.conv."),
    (r"sem_seg_head\.pixel_decoder\.mask_features\.", r"pixel_decoder.mask_projection."),
    (r"sem_seg_head\.predictor\.make_3d\.enc_crosattn_3d\.0\.", r"association.cross_attention."),
    (r"sem_seg_head\.predictor\.make_3d\.enc_selfattn_3d\.0\.", r"association.self_attention."),
    (r"sem_seg_head\.predictor\.make_3d\.enc_ffn_3d\.0\.", r"association.feedforward."),
    (
        r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.",
        r"query_decoder.layers.\1.cross_attention.",
    ),
    (
        r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\.",
        r"query_decoder.layers.\1.self_attention.",
    ),
    (r"sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.", r"query_decoder.layers.\1.feedforward."),
    (r"(.*(?:cross|self)_attention)\.(?:multihead_attn|self_attn)\.", r"\1."),
    (r"sem_seg_head\.predictor\.decoder_norm\.", r"query_decoder.norm."),
    (r"sem_seg_head\.predictor\.(?:query_feat|static_query)\.", r"query_decoder.query_features."),
    (r"sem_seg_head\.predictor\.query_embed\.", r"query_decoder.query_positions."),
    (r"sem_seg_head\.predictor\.level_embed\.", r"query_decoder.level_embed."),
    (r"sem_seg_head\.predictor\.class_embed\.", r"query_decoder.class_head."),
    (r"sem_seg_head\.predictor\.mask_embed\.", r"query_decoder.mask_head."),
)
# Constants that the published code stores but no model needs.
IGNORED = re.compile(r"criterion(_2d|_3d)?\.empty_weight$|.*relative_position_index$|pixel_(mean|std)$")


@dataclass(frozen=True)
class LoadReport:
    """What became of the tensors of a file: names ``loaded``, ``ignored``, ``unexpected`` and ``missing``."""

    loaded: tuple[str, ...]
    ignored: tuple[str, ...]
    unexpected: tuple[str, ...]
    missing: tuple[str, ...]

    def __str__(self) -> str:
        """One line of counts, then the names that a reader should know of."""
        lines = [
            f"{len(self.loaded)} tensors loaded, {len(self.ignored)} constants ignored, "
            f"{len(self.unexpected)} unexpected, {len(self.missing)} missing"
        ]
        lines += [f"  unexpected {name}" for name in self.unexpected]
        lines += [f"  missing {name}" for name in self.missing]
        return "\n".join(lines)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors under our names, the architecture they fit, and how their model is to be tested."""

    state: dict[str, Tensor]
    architecture: Architecture
    settings: TestSettings
    ignored: tuple[str, ...] = ()


def official_to_ours(name: str) -> str:
    """Our name of a tensor of the published CropFormer or Mask2Former."""
    for pattern, replacement in OFFICIAL_RULES:
        name = re.sub("^" + pattern, replacement, name)
    return re.sub(r"^backbone\.stages\.res(\d)\.", lambda m: f"backbone.stages.{int(m[1]) - 2}.", name)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read our own safetensors, or published weights as ``.pth``, ``.pt`` or ``.safetensors``.

    Pickles are opened with ``weights_only=True``: no code in them runs.

    Raises:
        InputError: if the file is missing, damaged, or not a CropFormer or Mask2Former checkpoint.
    """
    tensors, metadata = read_tensors(Path(path))
    ignored = tuple(name for name in tensors if IGNORED.match(name))
    kept = {official_to_ours(name): t for name, t in tensors.items() if name not in ignored}
    if "architecture" in metadata:
        architecture, settings = _read_metadata(metadata, path)
    else:
        architecture = infer_architecture({k: tuple(v.shape) for k, v in kept.items()}, path)
        settings = TestSettings(crops=0 if architecture.association == "none" else 4)
    return Checkpoint(
        {k: v.float() if v.is_floating_point() else v for k, v in kept.items()},
        architecture,
        settings,
        ignored,
    )


def load_into(model: nn.Module, checkpoint: Checkpoint) -> LoadReport:
    """Copy every tensor that fits into ``model`` and report the rest.

    Raises:
        InputError: if a tensor has the right name and the wrong shape.
    """
    own = model.state_dict()
    for name, tensor in checkpoint.state.items():
        if name in own and own[name].shape != tensor.shape:
            raise InputError(f"{name} is {tuple(tensor.shape)} in the file and {tuple(own[name].shape)} in the model")
    result = model.load_state_dict(checkpoint.state, strict=False)
    loaded = tuple(name for name in checkpoint.state if name in own)
    return LoadReport(loaded, checkpoint.ignored, tuple(result.unexpected_keys), tuple(result.missing_keys))


def load_backbone(backbone: nn.Module, path: str | Path) -> None:
    """Fill a backbone from a file of its own tensors; classifier tensors in the file are left aside.

    Takes our names, timm's (``stages.0.`` for its ``stages_0.``) and torchvision's ResNet names.

    Raises:
        InputError: if the file is missing or damaged, or a tensor of the backbone is not in it.
    """
    tensors = read_tensors(Path(path))[0]
    renamed = {backbone_name(name): tensor.float() for name, tensor in tensors.items()}
    own = backbone.state_dict()
    absent = [name for name in own if name not in renamed or renamed[name].shape != own[name].shape]
    absent = [name for name in absent if not name.endswith("num_batches_tracked")]
    if absent:
        raise InputError(f"{path} does not fill the backbone: {absent[0]} is missing or of another shape")
    backbone.load_state_dict({name: renamed.get(name, own[name]) for name in own})


def backbone_name(name: str) -> str:
    """Our name of a backbone tensor of timm or torchvision."""
    rules = (
        (r"^(patch_embed|stages_\d|stages\.\d+\.(?:blocks|downsample))", r"body.\1"),
        (r"^body\.stages\.(\d)", r"body.stages_\1"),
        (r"^conv1\.", "stem.conv."),
        (r"^bn1\.", "stem.norm."),
        (r"^layer(\d)\.(\d+)\.downsample\.0\.", r"layer\1.\2.shortcut.conv."),
        (r"^layer(\d)\.(\d+)\.downsample\.1\.", r"layer\1.\2.shortcut.norm."),
        (r"^layer(\d)\.(\d+)\.conv(\d)\.", r"layer\1.\2.conv\3.conv."),
        (r"^layer(\d)\.(\d+)\.bn(\d)\.", r"layer\1.\2.conv\3.norm."),
    )
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"^layer(\d)", lambda m: f"stages.{int(m[1]) - 1}", name)


def save_checkpoint(
    path: str | Path,
    state: Mapping[str, Tensor],
    *,
    architecture: Architecture,
    settings: TestSettings,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write our safetensors atomically; floating tensors are stored as ``dtype``.

    Raises:
        InputError: if the place cannot be written or the disk is full.
    """
    path = Path(path)
    tensors = {k: (v.to(dtype) if v.is_floating_point() else v).contiguous().cpu() for k, v in state.items()}
    metadata = {
        "format": "pt",
        "architecture": json.dumps(asdict(architecture)),
        "settings": json.dumps(asdict(settings)),
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, metadata=metadata))  # save_file would hide the system's own errors


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a file, checked for NaN, and its metadata; raises InputError as ``read_checkpoint`` does."""
    if not path.is_file():
        raise InputError(f"there is no weights file at {path}; give 'nano' or the path of a checkpoint")
    tensors, metadata = _read_safetensors(path) if path.suffix == ".safetensors" else (_read_pickle(path), {})
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{path} holds NaN or infinity in {name}; the file is damaged, get it again")
    return tensors, metadata


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a readable safetensors file ({error}); get it again") from error


def _read_metadata(metadata: dict[str, str], path: str | Path) -> tuple[Architecture, TestSettings]:
    """What our own file says about its model."""
    try:
        architecture = Architecture(**json.loads(metadata["architecture"]))
        architecture.backbone_config()
        return architecture, TestSettings(**json.loads(metadata.get("settings", "{}")))
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} states an architecture unknown to this version ({error}); update it") from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for damaged or hostile files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read as a tensor-only checkpoint ({reason}); get it again") from error
    state = content.get("model", content.get("state_dict", content)) if isinstance(content, dict) else content
    named = state if isinstance(state, dict) else {}
    tensors = {str(name): tensor for name, tensor in named.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise InputError(f"{path} holds no tensors; give a CropFormer or Mask2Former checkpoint")
    return tensors
