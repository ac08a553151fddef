"""entitytransfer: datasets, training runs, metrics, video and commands around ``cropformer``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .video import VideoSegmenter

__all__ = ["VideoSegmenter"]


def __getattr__(name: str) -> Any:
    """Import ``VideoSegmenter`` when it is asked for, so that ``entitytransfer --help`` does not wait for torch."""
    if name == "VideoSegmenter":
        from .video import VideoSegmenter

        return VideoSegmenter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
