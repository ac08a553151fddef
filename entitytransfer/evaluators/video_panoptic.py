"""VPQ and STQ of videos together, with classes and with every segment in one class (EntitySAM's "video entity")."""

from collections.abc import Sequence

import numpy as np

from entitytransfer.evaluators.panoptic_quality import PAPER_WINDOWS, RELEASED_WINDOWS, PanopticQuality
from entitytransfer.evaluators.segment_tables import ClipTable
from entitytransfer.evaluators.tracking_quality import TrackingQuality

_AGNOSTIC = "_agnostic"
_ONE_CLASS = np.array([True])  # EntitySAM tracks all segments, also those of stuff


class VideoPanoptic:
    """Collects videos; each is looked at once.

    Args:
        is_thing: bool [K].
        windows: frames in the windows over which VPQ is the mean.
        stq_mode: see `TrackingQuality`.
        class_agnostic: leave out what needs classes.
    """

    def __init__(
        self,
        is_thing: np.ndarray,
        *,
        windows: Sequence[int] = PAPER_WINDOWS,
        stq_mode: str = "official",
        class_agnostic: bool = False,
    ) -> None:
        self._windows = tuple(windows)
        measured = sorted({*windows, *RELEASED_WINDOWS})
        kinds = {_AGNOSTIC: _ONE_CLASS} if class_agnostic else {"": is_thing, _AGNOSTIC: _ONE_CLASS}
        self._measures = {
            suffix: (PanopticQuality(one, windows=measured), TrackingQuality(one, mode=stq_mode))
            for suffix, one in kinds.items()
        }

    def update(self, video: ClipTable) -> None:
        """Add a video."""
        for suffix, (vpq, stq) in self._measures.items():
            table = video.as_one_class() if suffix == _AGNOSTIC else video
            vpq.update(table)
            stq.update(table)

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """VPQ and its parts, STQ, AQ, SQ; then ``VPQ_agnostic`` and so on, where all segments are one class of things.

        Args:
            units: indices of the videos to count, once for every time they are named; all if left out.
        """
        metrics: dict[str, float] = {}
        for suffix, (vpq, stq) in self._measures.items():
            values = vpq.compute_windows(self._windows, units) | stq.compute(units)
            parts = ("_th", "_st") if suffix == _AGNOSTIC else ()  # one class has none
            metrics |= {f"{name}{suffix}": value for name, value in values.items() if not name.endswith(parts)}
        return metrics
