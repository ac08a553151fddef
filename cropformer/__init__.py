"""CropFormer: every entity of an image, from its full view and its high-resolution crops.

    image ─▶ make_views ─▶ Views ─▶ CropFormer ─▶ Queries ─▶ fuse ─▶ Entities
    masks ─▶ crop_target ─▶ Target ─▶ cropformer_losses(Queries, Target) ─▶ losses

Shapes everywhere: B images, T views (index 0 = full view), F frames, Q queries, K classes, C channels,
H and W image pixels, h and w the stride-4 grid, N entities, P sampled points.
"""

from typing import TYPE_CHECKING, Any

from . import rle
from .architecture import Architecture, TestSettings
from .assembly import build
from .association import with_association
from .checkpoint import (
    Checkpoint,
    load_backbone,
    load_into,
    read_checkpoint,
    save_checkpoint,
    save_official,
)
from .entities import Entities
from .errors import InputError
from .files import atomic_path
from .fusion import Source, fuse
from .hub.download import HubFile, download
from .hub.published import PUBLISHED_WEIGHTS
from .images import IMAGE_SUFFIXES, read_image
from .load_report import LoadReport
from .loading import build_from, load, load_with_report, weights_path
from .losses import SetLoss, cropformer_losses
from .memory import parse_memory
from .model import CropFormer
from .multi_scale import segment_multi_scale
from .optimisation import Optimisation
from .predictor import EntitySegmenter
from .queries import Queries
from .training_views import CropType, TrainingBatch, TrainingCrop, draw_training_crop, fixed_places, training_views
from .views import Target, Views, batch_views, crop_target, make_clip_views, make_views
from .zoo import build_model, named_architecture

if TYPE_CHECKING:
    from .training import EntityTraining

__all__ = [
    "Architecture",
    "Checkpoint",
    "CropFormer",
    "CropType",
    "Entities",
    "EntitySegmenter",
    "EntityTraining",
    "HubFile",
    "IMAGE_SUFFIXES",
    "InputError",
    "LoadReport",
    "Optimisation",
    "PUBLISHED_WEIGHTS",
    "Queries",
    "SetLoss",
    "Source",
    "Target",
    "TestSettings",
    "TrainingBatch",
    "TrainingCrop",
    "Views",
    "atomic_path",
    "batch_views",
    "build",
    "build_from",
    "build_model",
    "crop_target",
    "cropformer_losses",
    "download",
    "draw_training_crop",
    "fixed_places",
    "fuse",
    "load",
    "load_backbone",
    "load_into",
    "load_with_report",
    "make_clip_views",
    "make_views",
    "named_architecture",
    "parse_memory",
    "read_checkpoint",
    "read_image",
    "rle",
    "save_checkpoint",
    "save_official",
    "segment_multi_scale",
    "training_views",
    "weights_path",
    "with_association",
]


def __getattr__(name: str) -> Any:
    """Import ``EntityTraining`` when it is asked for: lightning takes seconds to load."""
    if name == "EntityTraining":
        from .training import EntityTraining

        return EntityTraining
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
