"""Formats of the ``segment`` command, and how the names of their files end after that of the input."""

IMAGE_OUTPUTS = {
    "overlay": ("_overlay.png",),
    "ids": ("_ids.png",),
    "coco": (".json",),
    "panoptic": ("_panoptic.png", "_panoptic.json"),
}
CLIP_OUTPUTS = {"overlay": ("_overlay.mp4",), "ids": ("_ids",), "ytvis": ("_ytvis.json",), "vipseg": ("_vipseg",)}
FORMATS = tuple(IMAGE_OUTPUTS | CLIP_OUTPUTS)
PANOPTIC_FORMATS = frozenset({"vipseg"})  # which need a panoptic head
