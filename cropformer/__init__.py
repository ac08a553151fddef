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
from .checkpoint import LoadReport, load_backbone, read_checkpoint, save_checkpoint
from .entities import Entities
from .errors import InputError
from .files import atomic_path
from .fusion import fuse
from .images import IMAGE_SUFFIXES, read_image
from .loading import load, load_with_report
from .losses import SetLoss, cropformer_losses
from .model import CropFormer
from .optimisation import Optimisation
from .predictor import EntitySegmenter
from .queries import Queries
from .training_views import TrainingBatch, TrainingCrop, draw_training_crop, training_views
from .views import Target, Views, batch_views, crop_target, make_clip_views, make_views
from .zoo import build_model, named_architecture

if TYPE_CHECKING:
    from .training import EntityTraining

__all__ = [
    "IMAGE_SUFFIXES",
    "Architecture",
    "CropFormer",
    "Entities",
    "EntitySegmenter",
    "EntityTraining",
    "InputError",
    "LoadReport",
    "Optimisation",
    "Queries",
    "SetLoss",
    "Target",
    "TestSettings",
    "TrainingBatch",
    "TrainingCrop",
    "Views",
    "atomic_path",
    "batch_views",
    "build",
    "build_model",
    "crop_target",
    "cropformer_losses",
    "draw_training_crop",
    "fuse",
    "load",
    "load_backbone",
    "load_with_report",
    "make_clip_views",
    "make_views",
    "named_architecture",
    "read_checkpoint",
    "read_image",
    "rle",
    "save_checkpoint",
    "training_views",
]


def __getattr__(name: str) -> Any:
    """Import ``EntityTraining`` when it is asked for: lightning takes seconds to load."""
    if name == "EntityTraining":
        from .training import EntityTraining

        return EntityTraining
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
