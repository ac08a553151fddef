"""CropFormer: every entity of an image, from its full view and its high-resolution crops.

    image ─▶ make_views ─▶ Views ─▶ CropFormer ─▶ Queries ─▶ fuse ─▶ Entities
    masks ─▶ crop_target ─▶ Target ─▶ cropformer_losses(Queries, Target) ─▶ losses

Shapes everywhere: B images, T views (index 0 = full view), F frames, Q queries, K classes, C channels,
H and W image pixels, h and w the stride-4 grid, N entities, P sampled points.
"""

from . import rle
from .architecture import Architecture, TestSettings
from .checkpoint import LoadReport, read_checkpoint, save_checkpoint
from .entities import Entities
from .errors import InputError
from .files import atomic_path
from .fusion import fuse
from .images import IMAGE_SUFFIXES, read_image
from .losses import SetLoss, cropformer_losses
from .model import CropFormer
from .predictor import EntitySegmenter
from .queries import Queries
from .training_views import TrainingCrop, draw_training_crop, training_views
from .views import Target, Views, batch_views, crop_target, make_clip_views, make_views
from .zoo import build, build_model, load, load_with_report

__all__ = [
    "IMAGE_SUFFIXES",
    "Architecture",
    "CropFormer",
    "Entities",
    "EntitySegmenter",
    "InputError",
    "LoadReport",
    "Queries",
    "SetLoss",
    "Target",
    "TestSettings",
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
    "load_with_report",
    "make_clip_views",
    "make_views",
    "read_checkpoint",
    "read_image",
    "rle",
    "save_checkpoint",
    "training_views",
]
