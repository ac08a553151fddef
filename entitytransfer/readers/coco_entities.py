"""COCO results of class-agnostic entities, read for the samples of a set."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cropformer import Entities
from entitytransfer.adapter import Sample
from entitytransfer.readers.json_file import paused_collector, read_json
from entitytransfer.readers.records import Id, records
from entitytransfer.readers.run_lengths import check_rles


@paused_collector()
def read_coco_entities(path: Path, samples: Sequence[Sample]) -> dict[Id, Entities]:
    """The predictions of every sample, best first, of equal scores in the order of the file; categories do not matter.

    Args:
        path: a JSON list of objects with image_id, score and a segmentation (RLE).
        samples: the images that they may be about; one without predictions has none.

    Raises:
        InputError: the file is not that, or a record is damaged or about an unknown image; with file and record.
    """
    predictions = records(read_json(path), source=path, kind="prediction")
    sizes_hw = {sample.image_id: sample.size_hw for sample in samples}
    sizes = [one.lookup("image_id", sizes_hw) for one in predictions]
    scores = [one.number("score") for one in predictions]
    segmentations = [one.field("segmentation") for one in predictions]
    rles, _ = check_rles(segmentations, sizes, lambda index, problem: predictions[index].error(problem))
    of_image: dict[Id, list[int]] = {image_id: [] for image_id in sizes_hw}
    for index in sorted(range(len(predictions)), key=lambda index: -scores[index]):  # in double precision, as COCO does
        of_image[predictions[index].content["image_id"]].append(index)
    return {
        image_id: Entities.from_rles(
            sizes_hw[image_id],
            [rles[index] for index in indices],
            [scores[index] for index in indices],
            np.zeros(len(indices)),
            sort=False,
        )
        for image_id, indices in of_image.items()
    }
