"""The part of ``evaluate`` that is about clips: what segments one as a whole, and on what its result depends."""

from collections.abc import Callable
from typing import Any

import numpy as np

from cropformer import EntitySegmenter, InputError, rle
from entitytransfer.clip_heads import ClipHead
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample
from entitytransfer.evaluate_options import EvaluateOptions
from entitytransfer.segmented_clip import SegmentedClip
from entitytransfer.video import VideoSegmenter


def clip_predictor(
    model: EntitySegmenter, head: ClipHead, options: EvaluateOptions
) -> Callable[[ClipSample], ClipResult]:
    """The function that predicts a clip.

    Raises:
        InputError: the windows cannot advance, or an option is not one of clips.
    """
    if options.crop_ratio is not None:
        raise InputError("The crops of clips have the ratio of the weights; leave out test.crop_ratio.")
    sizes = options.sizes(model.settings)
    segmenter = VideoSegmenter(
        model,
        head=head,
        **vars(options.clip),
        **{name: sizes[name] for name in ("crops", "short_side", "max_side")},
        max_memory=options.max_memory,
        precision=options.precision,
    )
    return lambda clip: gather_clip(segmenter.segment(clip))


def clip_conditions(options: EvaluateOptions) -> dict[str, Any]:
    """What the result of a clip depends on beside what that of an image does, as one types it."""
    return {f"clip.{name}": value for name, value in vars(options.clip).items()}


def gather_clip(clip: SegmentedClip) -> ClipResult:
    """Segment a clip to its end, and judge its tracks; one that no frame shows is none."""
    masks: dict[int, dict[int, rle.RLE]] = {}  # of each track by the place of the frame
    known: dict[int, tuple[np.ndarray, float]] = {}
    num_frames = 0
    for window in clip.windows:
        links = window.links
        known.update(zip(links.track_ids.tolist(), zip(links.class_probs, links.qualities)))
        for frame in window.frames:
            for track_id, mask in zip(frame.track_ids.tolist(), frame.entities.rles):
                masks.setdefault(track_id, {})[num_frames] = mask
            num_frames += 1
    track_ids = sorted(masks)
    if not track_ids:
        return ClipResult.of([], track_ids=[], labels=[], scores=[])
    verdict = clip.head.judge(*(np.stack(column) for column in zip(*(known[one] for one in track_ids))))
    kept = [track_ids[row] for row in verdict.rows.tolist()]
    rles = [[masks[one].get(place) for place in range(num_frames)] for one in kept]
    return ClipResult.of(rles, track_ids=kept, labels=verdict.labels, scores=verdict.scores)


def is_annotated(clip: ClipSample) -> bool:
    """Whether anything is known about a clip; of sets that a server scores nothing is."""
    return clip.annotated is None or len(clip.annotated) > 0
