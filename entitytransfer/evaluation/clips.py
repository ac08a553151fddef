"""The part of ``evaluate`` that is about clips: what segments one as a whole, and on what its result depends."""

from collections.abc import Callable
from typing import Any

from cropformer import EntitySegmenter, InputError
from entitytransfer.clip_heads import ClipHead
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample
from entitytransfer.evaluation.options import EvaluateOptions
from entitytransfer.streaming.segmented_clip import SegmentedClip
from entitytransfer.streaming.track_store import TrackStore
from entitytransfer.video import VideoSegmenter


def clip_predictor(
    model: EntitySegmenter, head: ClipHead, options: EvaluateOptions
) -> Callable[[ClipSample], ClipResult]:
    """The function that predicts a clip.

    Raises:
        InputError: the windows cannot advance, an option is not one of clips, or the model sees one view at a time and
            would be shown several.
    """
    if options.crop_ratio is not None:
        raise InputError("The crops of clips have the ratio of the weights; leave out test.crop_ratio.")
    sizes = options.sizes(model.settings)
    if model.association is None and (options.clip.window != 1 or sizes["crops"]):
        raise InputError(
            f"The weights {options.weights} are a plain Mask2Former, which sees one frame at a time; set clip.window=1 "
            "clip.overlap=0 test.crops=0."
        )
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
    """Segment a clip to its end, and judge its tracks."""
    with TrackStore(None, {}) as store:
        for window in clip.windows:
            store.append(window)
        tracks = list(store.tracks(clip.head))
        return ClipResult.of(
            [list(track.rles) for track in tracks],
            track_ids=[track.track_id for track in tracks],
            labels=[track.label for track in tracks],
            scores=[track.score for track in tracks],
        )


def is_annotated(clip: ClipSample) -> bool:
    """Whether anything is known about a clip; of sets that a server scores nothing is."""
    return clip.annotated is None or len(clip.annotated) > 0
