"""Windows of tracks as a segmenter would give them, made by hand: every entity is a stripe of its own."""

from collections.abc import Sequence

import numpy as np

from cropformer import Entities
from entitytransfer.streaming.segmented_clip import WindowTracks
from entitytransfer.tracklets import FrameResult, Links

SIZE_HW = (12, 40)
STRIPE = 4  # pixels


def frame_of(
    index: int,
    track_ids: Sequence[int],
    *,
    scores: Sequence[float] | None = None,
    labels: Sequence[int] | None = None,
    with_picture: bool = True,
) -> FrameResult:
    """A frame in which these tracks are visible, the best first."""
    id_map = np.zeros(SIZE_HW, dtype=np.int32)
    for entity in range(len(track_ids)):
        id_map[:, STRIPE * entity : STRIPE * (entity + 1)] = entity + 1
    scores = [0.9 - 0.1 * entity for entity in range(len(track_ids))] if scores is None else scores
    labels = [0] * len(track_ids) if labels is None else labels
    picture = np.full((*SIZE_HW, 3), 10 * index, dtype=np.uint8) if with_picture else None
    entities = Entities.from_id_map(id_map, scores=scores, labels=labels, sort=False)
    return FrameResult(index, index / 10, entities, np.array(track_ids, dtype=np.int64), picture)


def window_of(
    *frames: FrameResult, tracks: dict[int, Sequence[float]], qualities: Sequence[float] | None = None
) -> WindowTracks:
    """A window with the class probabilities of its tracks, "no object" last."""
    probs = np.array(list(tracks.values()), dtype=np.float64)
    quality = np.ones(len(tracks)) if qualities is None else np.array(qualities)
    last = frames[-1].index if frames else -1
    state = {"frame": last, "linker": {"embeddings": np.full((2, 3), last / 3, np.float32), "next_id": np.int64(7)}}
    return WindowTracks(list(frames), Links(np.array(list(tracks), dtype=np.int64), probs, quality), state)
