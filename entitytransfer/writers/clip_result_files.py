"""Official result files of clips: what ``score`` and the servers of benchmarks take.

In the folder of a run: ``results.json`` with the tracks as YouTube-VIS and UVO have them, and ``results.zip`` with the
same for a server; or ``pred.json`` with the segments as VIPSeg has them, and ``pan_pred/CLIP/FRAME.png``.
"""

from collections.abc import Iterable
from pathlib import Path

from cropformer import InputError
from entitytransfer.classes import Classes
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample
from entitytransfer.writers.panoptic import VipsegWriter
from entitytransfer.writers.ytvis import YtvisWriter

JSON, ZIP = "results.json", "results.zip"

ClipResults = Iterable[tuple[ClipSample, ClipResult]]


def write_clip_files(task: str, results: ClipResults, *, classes: Classes, out: Path) -> None:
    """Write the results of a set of clips; one clip at a time is in memory.

    Args:
        task: of the head that they come from: "entity", "instance" or "panoptic".
        results: every clip of the set, and what was found in it.
        classes: what the labels of the results mean.
        out: folder of the run.

    Raises:
        InputError: there is no such task, or a file cannot be written.
    """
    match task:
        case "entity" | "instance":
            _write_tracks(results, classes, out)
        case "panoptic":
            _write_panoptic(results, classes, out)
        case _:
            raise InputError(
                f"There are no result files of clips for the task {task!r}; the head must be one of entity, instance, "
                "panoptic."
            )


def _write_tracks(results: ClipResults, classes: Classes, out: Path) -> None:
    with YtvisWriter(out / JSON) as plain, YtvisWriter(out / ZIP) as zipped:
        for clip, result in results:
            for track, label, score in zip(result.rles, result.labels.tolist(), result.scores.tolist()):
                record = {"category_id": classes.category_ids[label], "score": score, "segmentations": track}
                plain.write(clip.clip_id, **record)
                zipped.write(clip.clip_id, **record)


def _write_panoptic(results: ClipResults, classes: Classes, out: Path) -> None:
    """The segments of every frame; an id stands for the same track in all of them."""
    with VipsegWriter(out) as writer:
        for clip, result in results:
            labels = zip(result.track_ids.tolist(), result.labels.tolist())
            categories = {track_id: classes.category_ids[label] for track_id, label in labels}
            for frame, path in enumerate(clip.frame_paths):
                writer.write(clip.clip_id, result.id_map(frame, clip.size_hw), categories, name=path.stem)
