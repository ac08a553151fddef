"""The official fixtures of clips as datasets whose official predictions come in the place of a network's."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cropformer import Entities
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.classes import Classes
from entitytransfer.clip_heads import Verdict
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample
from entitytransfer.streaming.segmented_clip import WindowTracks
from entitytransfer.tasks import clip_task_adapter
from entitytransfer.tracklets import FrameResult, Links
from entitytransfer.video import VideoSegmenter

from .clip_evaluator_cases import ClipPairs, panoptic_clip_pairs, track_classes, track_pairs

NAME = "tests.entitytransfer.clip_fixture_sets"
FIXTURES = ("ytvis", "uvo", "vipseg")
_IMAGE = np.zeros((1, 1, 3), np.uint8)


def read(root: Path | str, *, name: str) -> SampleSet:
    """The clips of a fixture, by ascending id; their frames are nowhere."""
    samples = [sample for _, sample in pairs_of(name)]
    return SampleSet(sorted(samples, key=lambda sample: sample.clip_id), classes_of(name))


def adapter(*, name: str) -> Adapter:
    """As a dataset of one's own would have it."""
    return clip_task_adapter({"ytvis": "instance", "uvo": "entity", "vipseg": "panoptic"}[name], read)


def pairs_of(name: str) -> ClipPairs:
    """Official predictions and ground truth, clip by clip."""
    return panoptic_clip_pairs() if name == "vipseg" else track_pairs(name)


def classes_of(name: str) -> Classes:
    """What labels mean."""
    return track_classes(name)


class ClipOracle:
    """Stands in for the video segmenter: gives the official prediction of a clip, and counts.

    Args:
        name: of the fixture.
        stop_after: clips after which it is interrupted.
    """

    def __init__(self, name: str, *, stop_after: int = 100) -> None:
        self._results = {sample.clip_id: result for result, sample in pairs_of(name)}
        self._stop_after = stop_after
        self.seen = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "ClipOracle":
        """Every video segmenter segments so from now on."""
        monkeypatch.setattr(VideoSegmenter, "segment", lambda _, clip: self.segment(clip))
        return self

    def segment(self, clip: ClipSample) -> "KnownClip":
        if self.seen == self._stop_after:
            raise KeyboardInterrupt
        self.seen += 1
        return KnownClip(clip, self._results[clip.clip_id])


@dataclass(frozen=True)
class KnownClip:
    """A clip in windows of two frames whose judge tells what is known: it stands for clip and head."""

    clip: ClipSample
    result: ClipResult

    @property
    def head(self) -> "KnownClip":
        return self

    @property
    def windows(self) -> Iterator[WindowTracks]:
        for first in range(0, len(self.clip.frame_paths), 2):
            frames = [self._frame(place) for place in range(first, min(first + 2, len(self.clip.frame_paths)))]
            shown = np.unique(np.concatenate([frame.track_ids for frame in frames]))
            rows = np.flatnonzero(np.isin(self.result.track_ids, shown))
            # What a window knows of a track is where it stands among the known ones.
            links = Links(self.result.track_ids[rows], np.stack([rows, rows], axis=1), rows.astype(float))
            yield WindowTracks(frames, links, {})

    def judge(self, class_probs: np.ndarray, qualities: np.ndarray) -> Verdict:
        """The known labels and scores, in the known order, which breaks ties."""
        order = np.argsort(qualities)
        rows = qualities[order].astype(int)
        return Verdict(order, self.result.labels[rows], self.result.scores[rows])

    def _frame(self, place: int) -> FrameResult:
        rows = [row for row, track in enumerate(self.result.rles) if track[place] is not None]
        rles = [self.result.rles[row][place] for row in rows]
        nothing = np.zeros(len(rows))
        entities = Entities.from_rles(self.clip.size_hw, rles, nothing, nothing.astype(int), sort=False)
        return FrameResult(place, place / 10, entities, self.result.track_ids[rows], _IMAGE)
