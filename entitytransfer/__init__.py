"""entitytransfer: datasets, training runs, metrics, video and commands around ``cropformer``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .score_task import score
    from .video import VideoSegmenter

__all__ = ["VideoSegmenter", "score"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that ``entitytransfer --help`` does not wait for torch."""
    if name == "VideoSegmenter":
        from .video import VideoSegmenter

        return VideoSegmenter
    if name == "score":
        from .score_task import score

        return score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
