"""The official ground truth and predictions of the clip fixtures in memory, as evaluators take them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropformer import rle
from entitytransfer.classes import Classes
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample, ClipTruth
from entitytransfer.readers.panoptic_png import read_id_map
from entitytransfer.readers.ytvis_clips import read_clips

from .evaluator_cases import DATA, classes_of

FILES = {
    "ytvis": (DATA / "ytvis" / "ytvis_2019" / "valid.json", DATA / "ytvis" / "results.json"),
    "uvo": (DATA / "uvo" / "VideoDenseSet" / "UVO_video_val_dense.json", DATA / "uvo" / "results_video_dense.json"),
    "vipseg": (DATA / "vipseg" / "VIPSeg_720P" / "panoptic_gt_VIPSeg_val.json", DATA / "vipseg" / "pred" / "pred.json"),
}

ClipPairs = list[tuple[ClipResult, ClipSample]]


@dataclass(frozen=True)
class KnownTracks:
    """An annotation of a clip of which only the truth is known."""

    known: ClipTruth

    def labels(self) -> np.ndarray:
        return self.known.labels[~self.known.is_crowd]

    def truth(self) -> ClipTruth:
        return self.known


def clip_of(truth: ClipTruth, size_hw: tuple[int, int], names: Sequence[str], clip_id: int | str = 1) -> ClipSample:
    """A clip whose frames have these names; they are on no disk."""
    paths = tuple(Path(str(clip_id)) / name for name in names)
    return ClipSample(clip_id, paths, size_hw, KnownTracks(truth), exhaustive=True)


def truth_of_tracks(masks: np.ndarray, labels: Sequence[int], crowds: Sequence[int] = ()) -> ClipTruth:
    """Masks bool [N,F,H,W] with the areas that they have; a frame where one is empty does not list it."""
    return ClipTruth(
        rles=encoded(masks),
        labels=np.array(labels, dtype=np.int64),
        category_ids=np.array(labels, dtype=np.int64) + 1,
        track_ids=np.arange(1, len(masks) + 1),
        areas=masks.sum(axis=(2, 3)).astype(np.float64),
        is_crowd=np.isin(np.arange(len(masks)), crowds),
    )


def encoded(masks: np.ndarray) -> list[list[rle.RLE | None]]:
    """Bool [N,F,H,W] as N tracks of F."""
    return [[rle.encode(mask) if mask.any() else None for mask in track] for track in masks]


def perfect_tracks(sample: ClipSample) -> ClipResult:
    """What a segmenter would say that knows everything."""
    truth = sample.truth()
    kept = np.flatnonzero(~truth.is_crowd)
    scores = np.linspace(1, 0.9, kept.size)
    rles = [truth.rles[row] for row in kept]
    return ClipResult.of(rles, track_ids=truth.track_ids[kept], labels=truth.labels[kept], scores=scores)


def no_tracks() -> ClipResult:
    """What one would say that sees nothing."""
    return ClipResult.of([], track_ids=[], labels=[], scores=[])


def track_classes(name: str) -> Classes:
    """Of a fixture, in the order of the ids."""
    return classes_of(FILES[name][0])


def track_pairs(name: str) -> ClipPairs:
    """Results of "ytvis" or "uvo"."""
    ground_truth, predictions = FILES[name]
    labels = track_classes(name).labels()
    results = json.loads(predictions.read_text())
    samples = read_clips(ground_truth, ground_truth.parent, label_of=labels, exhaustive=True)
    return [(_tracks(results, sample.clip_id, labels), sample) for sample in samples]


def _tracks(results: list[dict], clip_id: int | str, labels: dict[int, int]) -> ClipResult:
    own = [one for one in results if one["video_id"] == clip_id]
    return ClipResult.of(
        [one["segmentations"] for one in own],
        track_ids=range(1, len(own) + 1),
        labels=[labels[one["category_id"]] for one in own],
        scores=[one["score"] for one in own],
    )


def panoptic_clip_pairs() -> ClipPairs:
    """Results of "vipseg"."""
    ground_truth, predictions = FILES["vipseg"]
    labels = track_classes("vipseg").labels()
    listed, found = (
        {one["video_id"]: one["annotations"] for one in json.loads(path.read_text())["annotations"]}
        for path in (ground_truth, predictions)
    )
    pairs = []
    for clip_id, frames in listed.items():
        truth, size_hw = _segments(frames, ground_truth.parent / "panomasksRGB" / clip_id, labels)
        result, _ = _segments(found[clip_id], predictions.parent / "pan_pred" / clip_id, labels)
        scores = np.ones(len(result.rles))
        columns = {"track_ids": result.track_ids, "labels": result.labels, "scores": scores}
        names = [Path(frame["file_name"]).stem + ".jpg" for frame in frames]
        pairs.append((ClipResult.of(result.rles, **columns), clip_of(truth, size_hw, names, clip_id)))
    return pairs


def _segments(frames: list[dict], folder: Path, labels: dict[int, int]) -> tuple[ClipTruth, tuple[int, int]]:
    """The segments of a video in the order in which it first lists them, and the size of its frames."""
    maps = [read_id_map(folder / frame["file_name"]) for frame in frames]
    listed = [{one["id"]: one for one in frame["segments_info"]} for frame in frames]
    categories = {one["id"]: one["category_id"] for frame in listed for one in frame.values()}
    columns = [
        {i: (mask, frame[i].get("area", 0)) for i, mask in zip(frame, rle.encode_id_map(id_map, list(frame)))}
        for frame, id_map in zip(listed, maps)
    ]
    truth = ClipTruth(
        rles=[[frame.get(i, (None, 0))[0] for frame in columns] for i in categories],
        labels=np.array([labels[one] for one in categories.values()]),
        category_ids=np.array(list(categories.values())),
        track_ids=np.array(list(categories)),
        areas=np.array([[frame.get(i, (None, 0))[1] for frame in columns] for i in categories], dtype=np.float64),
        is_crowd=np.zeros(len(categories), dtype=bool),
    )
    return truth, maps[0].shape
