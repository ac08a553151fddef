"""Counts how often the id of an annotated object changes in the id images of a segmented clip.

    entitytransfer segment blackswan/JPEGImages/%05d.jpg --out OUT --format ids
    python -m tools.count_id_switches blackswan/Annotations OUT/JPEGImages_ids

Annotations are numbered PNGs in the layout of DAVIS: the value of a pixel is its object, 0 = none. An object is found
in a frame by the one track whose mask covers it with an IoU above 0.5. Its id switches where the track that finds it
is another than the last that did (Bernardin and Stiefelhagen 2008, the mismatches of MOTA).
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.readers.label_png import list_pngs, read_labels

_FOUND_IOU = 0.5


@dataclass
class ObjectReport:
    """What became of one annotated object over a clip.

    Attributes:
        ious: for every frame that shows the object, its IoU with the track that covers it best.
        track_ids: the tracks that found it, frame by frame.
    """

    ious: list[float] = field(default_factory=list)
    track_ids: list[int] = field(default_factory=list)

    @property
    def switches(self) -> int:
        """How often the track changed."""
        return int(np.count_nonzero(np.diff(self.track_ids)))


def count_id_switches(frames: Iterable[tuple[np.ndarray, np.ndarray]]) -> dict[int, ObjectReport]:
    """A report for each object, by its number in the annotation.

    Args:
        frames: of each annotated frame, the objects and the track ids of its pixels, integers [H,W], 0 = none.
    """
    reports: dict[int, ObjectReport] = {}
    for objects, track_ids in frames:
        for number in np.unique(objects[objects > 0]).tolist():
            report = reports.setdefault(number, ObjectReport())
            track_id, iou = _best_track(objects == number, track_ids)
            report.ious.append(iou)
            if iou > _FOUND_IOU:
                report.track_ids.append(track_id)
    return reports


def _best_track(mask: np.ndarray, track_ids: np.ndarray) -> tuple[int, float]:
    """The track that covers a mask best, and its IoU; (0, 0) where there is none."""
    touching = np.unique(track_ids[mask & (track_ids > 0)]).tolist()
    ious = {i: np.count_nonzero(mask & (track_ids == i)) / np.count_nonzero(mask | (track_ids == i)) for i in touching}
    return max(ious.items(), key=lambda item: item[1], default=(0, 0.0))


def read_frames(annotations: Path, id_images: Path) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """The annotated frames of a clip beside its id images: both in the order of their names.

    Raises:
        InputError: a folder or a file cannot be read, or the two do not show the same frames.
    """
    wanted, found = list_pngs(annotations), list_pngs(id_images)
    if not wanted or len(wanted) != len(found):
        raise InputError(
            f"{annotations} has {len(wanted)} PNGs and {id_images} has {len(found)}; give the id images of the "
            "annotated frames."
        )
    for truth, result in zip(wanted.values(), found.values()):
        objects, track_ids = read_labels(truth), read_labels(result)
        if objects.shape != track_ids.shape:
            raise InputError(f"{truth} and {result} differ in size; segment the clip that was annotated.")
        yield objects, track_ids


def main(typed: Sequence[str] | None = None) -> int:
    """Count, and print a line for each object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations", type=Path, help="folder of annotated PNGs, one for each frame")
    parser.add_argument("id_images", type=Path, help="folder NAME_ids that `segment --format ids` wrote")
    options = parser.parse_args(typed)
    try:
        reports = count_id_switches(read_frames(options.annotations, options.id_images))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    for number, report in sorted(reports.items()):
        print(
            f"object {number}: {report.switches} id switches, found in {len(report.track_ids)} of {len(report.ious)} "
            f"frames, mean IoU {np.mean(report.ious):.3f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
