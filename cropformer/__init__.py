"""CropFormer: every entity of an image, from its full view and its high-resolution crops.

    image ─▶ make_views ─▶ Views ─▶ CropFormer ─▶ Queries ─▶ fuse ─▶ Entities
    masks ─▶ crop_target ─▶ Target ─▶ cropformer_losses(Queries, Target) ─▶ losses

Shapes everywhere: B images, T views (index 0 = full view), F frames, Q queries, K classes, C channels,
H and W image pixels, h and w the grid of masks (stride 4, or 2 with a fine level), N entities, P sampled points.
"""

from typing import TYPE_CHECKING, Any

from . import rle
from .activation_checkpointing import checkpoint_activations
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
from .clip_predictor import ClipPredictor
from .clip_views import make_clip_views
from .color_jitter import ColorJitter, draw_color_jitter
from .cuts import Cut, cut_image, cut_masks, cut_rles, reduced_scale
from .entities import Entities
from .errors import InputError, JobError
from .files import atomic_path
from .fitting import CLASS_HEAD
from .frame_queries import FrameQueries, Source, frame_queries
from .fusion import fuse, whole_masks
from .hub.download import HubFile, download
from .hub.published import PUBLISHED_WEIGHTS
from .images import IMAGE_SUFFIXES, read_image, read_reduced
from .load_report import LoadReport
from .loading import build_from, load, load_with_report, weights_path
from .losses import SetLoss, cropformer_losses
from .low_rank import add_low_rank, merge_low_rank
from .mask_probs import mask_probs
from .memory import parse_memory
from .model import CropFormer
from .multi_scale import segment_multi_scale
from .optimisation import Optimisation
from .predictor import EntitySegmenter
from .queries import Queries
from .scale_jitter import ScaleJitter, SemanticCrop, draw_scale_jitter, draw_semantic_crop
from .training_views import (
    CropType,
    TrainingBatch,
    TrainingCrop,
    draw_training_crop,
    fixed_places,
    join_cuts,
    training_views,
)
from .views import Target, Views, batch_views, crop_target, make_views, with_pixels
from .zoo import build_model, named_architecture

if TYPE_CHECKING:
    from .training import EntityTraining

__all__ = [
    "Architecture",
    "CLASS_HEAD",
    "Checkpoint",
    "ClipPredictor",
    "ColorJitter",
    "CropFormer",
    "CropType",
    "Cut",
    "Entities",
    "EntitySegmenter",
    "EntityTraining",
    "FrameQueries",
    "HubFile",
    "IMAGE_SUFFIXES",
    "InputError",
    "JobError",
    "LoadReport",
    "Optimisation",
    "PUBLISHED_WEIGHTS",
    "Queries",
    "ScaleJitter",
    "SemanticCrop",
    "SetLoss",
    "Source",
    "Target",
    "TestSettings",
    "TrainingBatch",
    "TrainingCrop",
    "Views",
    "add_low_rank",
    "atomic_path",
    "batch_views",
    "build",
    "build_from",
    "build_model",
    "checkpoint_activations",
    "crop_target",
    "cropformer_losses",
    "cut_image",
    "cut_masks",
    "cut_rles",
    "download",
    "draw_color_jitter",
    "draw_scale_jitter",
    "draw_semantic_crop",
    "draw_training_crop",
    "fixed_places",
    "frame_queries",
    "fuse",
    "join_cuts",
    "load",
    "load_backbone",
    "load_into",
    "load_with_report",
    "make_clip_views",
    "make_views",
    "merge_low_rank",
    "mask_probs",
    "named_architecture",
    "parse_memory",
    "read_checkpoint",
    "read_image",
    "read_reduced",
    "reduced_scale",
    "rle",
    "save_checkpoint",
    "save_official",
    "segment_multi_scale",
    "training_views",
    "weights_path",
    "whole_masks",
    "with_association",
    "with_pixels",
]


def __getattr__(name: str) -> Any:
    """Import ``EntityTraining`` when it is asked for: lightning takes seconds to load."""
    if name == "EntityTraining":
        from .training import EntityTraining

        return EntityTraining
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
