"""Clips of predictions in memory: the numbers of ``score ytvis``, ``score uvo`` and ``score vipseg``.

K classes · F frames · H, W image pixels.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from cropformer import InputError, rle
from entitytransfer.classes import Classes
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample
from entitytransfer.evaluators.clip_tracks import found_tracks, true_tracks
from entitytransfer.evaluators.gathering import SampleRecords
from entitytransfer.evaluators.panoptic_quality import PAPER_WINDOWS
from entitytransfer.evaluators.segment_tables import ClipTable, tabulate
from entitytransfer.evaluators.video_ap import VideoAP
from entitytransfer.evaluators.video_panoptic import VideoPanoptic
from entitytransfer.readers.run_lengths import check_rles
from entitytransfer.segment_map import VOID, SegmentMap, Segments


class TrackResults:
    """AP and AR of tracks; of each clip only what matched is kept. No mask is decoded.

    As YTVOSeval does, it takes a frame without annotation for one without tracks, so that on a set that is not
    exhaustively annotated the recalls are meaningful and the precisions are not.

    Args:
        classes: what labels mean; None makes every track one of the same class (``useCats=0``, as in UVO).
        top_k: results of a clip that count, of all classes together; None = all.
    """

    def __init__(self, classes: Classes | None = None, *, top_k: int | None = None) -> None:
        self._labels = None if classes is None else range(len(classes))
        self._top_k = top_k
        self._clips: SampleRecords[VideoAP, VideoAP] = SampleRecords(self._join)

    def reset(self) -> None:
        """Forget all clips."""
        self._clips.clear()

    def update(self, result: ClipResult, sample: ClipSample) -> None:
        """Add one clip; crowds are neither to be found nor wrong to be found.

        Raises:
            InputError: the annotation is damaged, or a mask of either is not one of the sample's size.
            ValueError: a label is no class, or a track has not one entry for each frame.
        """
        if self._labels is not None and not np.isin(result.labels, self._labels).all():
            raise ValueError(f"labels must be below {len(self._labels)}, the number of classes")
        matched = VideoAP(self._labels)
        found = found_tracks(result, sample).keep_best(self._top_k)
        matched.update(found, true_tracks(sample, by_class=self._labels is not None))
        self._clips.add(sample, matched)

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """AP, AP50, ...: see `VideoAP.compute`, and `adapter.Evaluator.compute`."""
        return self._clips.joined().compute(None if units is None else np.sort(units))

    def _join(self, clips: list[VideoAP]) -> VideoAP:
        joined = VideoAP(self._labels)
        joined.extend(clips)
        return joined


class ClipPanopticResults:
    """VPQ and STQ, with classes and with all segments in one; of each clip only shared pixels are kept, counted.

    Args:
        classes: what labels mean.
        windows: frames in the windows over which VPQ is the mean.
        stq_mode: "official" or "corrected", see `TrackingQuality`.
    """

    def __init__(self, classes: Classes, *, windows: Sequence[int] = PAPER_WINDOWS, stq_mode: str = "official") -> None:
        self._is_thing = np.array(classes.is_thing, dtype=bool)
        self._options = {"windows": tuple(windows), "stq_mode": stq_mode}
        self._clips: SampleRecords[ClipTable, VideoPanoptic] = SampleRecords(self._join)

    def reset(self) -> None:
        """Forget all clips."""
        self._clips.clear()

    def update(self, result: ClipResult, sample: ClipSample) -> None:
        """Add one clip. Of tracks that overlap the first one keeps the pixels.

        Raises:
            InputError: the annotation is damaged, or a mask of either is not one of the sample's size.
        """
        self._clips.add(sample, tabulate(_true_maps(sample), _found_maps(result, sample)))

    def compute(self, units: np.ndarray | None = None) -> dict[str, float]:
        """VPQ and its parts, STQ, AQ, SQ; see `VideoPanoptic.compute`, and `adapter.Evaluator.compute`."""
        return self._clips.joined().compute(units)

    def _join(self, clips: list[ClipTable]) -> VideoPanoptic:
        metric = VideoPanoptic(self._is_thing, **self._options)
        for table in clips:
            metric.update(table)
        return metric


def _true_maps(sample: ClipSample) -> Iterator[SegmentMap]:
    """The annotation, frame by frame; what has a mask in a frame is listed there, visible or not."""
    truth = sample.truth()
    for frame in range(len(sample.frame_paths)):
        source = f"Clip {sample.clip_id}, frame {frame} of the annotation"
        rows, places = _painted(truth.rles, frame, sample.size_hw, source)
        ids, areas = truth.track_ids[rows], truth.areas[rows, frame]
        segments = Segments(ids, truth.labels[rows], areas, truth.is_crowd[rows])
        yield SegmentMap(np.append(VOID, ids)[places], segments, source)


def _found_maps(result: ClipResult, sample: ClipSample) -> Iterator[SegmentMap]:
    """The result, frame by frame; only what is visible in a frame is listed there."""
    for frame in range(len(sample.frame_paths)):
        source = f"Clip {sample.clip_id}, frame {frame} of the prediction"
        rows, places = _painted(result.rles, frame, sample.size_hw, source)
        visible = rows[np.unique(places[places > 0]) - 1]
        nothing = np.zeros(visible.size)  # the pixels of predictions are counted
        segments = Segments(result.track_ids[visible], result.labels[visible], nothing, nothing.astype(bool))
        yield SegmentMap(np.append(VOID, result.track_ids[rows])[places], segments, source)


def _painted(
    rles: Sequence[Sequence[rle.RLE | None]], frame: int, size_hw: tuple[int, int], source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Which tracks have a mask in a frame, int64 [n], and what a pixel shows of these, int32 [H,W]: 0, or i + 1."""
    rows = np.array([row for row, track in enumerate(rles) if track[frame] is not None], dtype=np.int64)

    def refuse(index: int, problem: str) -> InputError:
        return InputError(f"{source}, track {rows[index]}: {problem}; correct or remove the track.")

    masks, _ = check_rles([rles[row][frame] for row in rows], [size_hw] * rows.size, refuse)
    return rows, rle.decode_id_map(masks, size_hw)
