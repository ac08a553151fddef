"""CropFormer: every entity of an image, from its full view and its high-resolution crops.

    image ─▶ make_views ─▶ Views ─▶ CropFormer ─▶ Queries ─▶ fuse ─▶ Entities
    masks ─▶ crop_target ─▶ Target ─▶ cropformer_losses(Queries, Target) ─▶ losses

Shapes everywhere: B images, T views (index 0 = full view), F frames, Q queries, K classes, C channels,
H and W image pixels, h and w the stride-4 grid, N entities, P sampled points.
"""

from .checkpoint import save_checkpoint
from .entities import Entities
from .errors import InputError
from .fusion import fuse
from .losses import SetLoss, cropformer_losses
from .model import CropFormer
from .predictor import EntitySegmenter
from .queries import Queries
from .views import Target, Views, crop_target, make_clip_views, make_views
from .zoo import build, build_model, load

__all__ = [
    "CropFormer",
    "Entities",
    "EntitySegmenter",
    "InputError",
    "Queries",
    "SetLoss",
    "Target",
    "Views",
    "build",
    "build_model",
    "crop_target",
    "cropformer_losses",
    "fuse",
    "load",
    "make_clip_views",
    "make_views",
    "save_checkpoint",
]
