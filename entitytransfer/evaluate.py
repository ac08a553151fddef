"""The ``evaluate`` command: predict a set, shard by shard and resumably, then score it."""

import hashlib
import inspect
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cropformer import Entities, EntitySegmenter, InputError, Source, TestSettings, parse_memory, weights_path
from entitytransfer.adapter import Sample
from entitytransfer.console import followed
from entitytransfer.datasets import open_dataset
from entitytransfer.evaluators.average_precision import AveragePrecision
from entitytransfer.loaders import SetSource, open_set
from entitytransfer.prediction_parts import PredictionPart, entities_of, merge_parts, missing_shards
from entitytransfer.predictions import ensure_writable, write_json
from entitytransfer.segment import load_model
from entitytransfer.threads import started_ahead, thread_pool
from entitytransfer.training_progress import peak_memory_gib

_CHUNK_BYTES = 2**20

Segment = Callable[[np.ndarray], Entities]


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How to predict, and where to write; None leaves a number to the weights' own test settings.

    Attributes:
        out: folder for predictions and metrics.
        weights: "nano", a published name, an ``hf://`` address, or a path.
        device: "auto" (CUDA where there is one, else CPU), or a name that torch knows.
        precision: of the network's matrix products.
        max_memory: bound on the memory of network and fusion, such as "2GB"; the result does not depend on it.
        workers: threads that read photos.
        crops: crops beside the full view, 0 for none.
        short_side: pixels of the shorter side of a view.
        max_side: bound on its longer side.
        crop_ratio: side of a crop over the side of the image.
        min_score: entities below it are left out. AP wants them all, so the weights' own bound is not taken.
        source: which predictions are fused (Table 8b).
        compat: "official" for the published pipeline's choices.
        overlap: let masks overlap: not AP^e then.
        shard: (i, n), predict every n-th image from the i-th on.

    Raises:
        InputError: an impossible shard, bound or number of workers.
    """

    out: Path
    weights: str = "nano"
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    max_memory: str | int | None = None
    workers: int = 2
    crops: int | None = None
    short_side: int | None = None
    max_side: int | None = None
    crop_ratio: float | None = None
    min_score: float = 0.0
    source: Source = "B-OC"
    compat: Literal["official"] | None = None
    overlap: bool = False
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        """Refuse what no set could make sense of."""
        parse_memory(self.max_memory)
        index, count = self.shard
        if not 1 <= index <= count:
            raise InputError(f"There is no shard {index}/{count}; give i/n with i from 1 to n.")
        if self.workers < 1:
            raise InputError(f"workers={self.workers} leaves nobody to read photos; give at least 1.")

    def settings(self, of_weights: TestSettings) -> TestSettings:
        """The weights' test settings, with those that are given here in their place."""
        given = {name: getattr(self, name) for name in asdict(of_weights)}
        return replace(of_weights, **{name: value for name, value in given.items() if value is not None})


def evaluate(source: SetSource, options: EvaluateOptions, *, dry_run: bool = False) -> dict[str, float] | None:
    """Predict what is left to predict, and score the set if that completes it.

    Writes ``predictions/part-i-of-n.jsonl`` in ``options.out``, image by image: a killed run goes on where it
    stopped. Whichever shard finds all images done joins them to ``predictions.json`` (COCO results) and writes
    ``metrics.json``. The numbers do not depend on shards and interruptions.

    Args:
        source: the set.
        options: see there.
        dry_run: predict two images and print the forecast of time and memory; write nothing.

    Returns:
        The metrics, see ``AveragePrecision.compute``; None if shards are missing, or after a dry run.

    Raises:
        InputError: if images, weights, options or earlier predictions do not fit together.
    """
    samples = open_set(source)
    image_ids = _unique_ids(samples)
    model = load_model(options.weights, device=process_device(options.device))
    segment, protocol = _predictor(model, options)
    index, count = options.shard
    if count > len(samples):
        raise InputError(f"{count} shards are too many for {len(samples)} images; take one for each image at most.")
    share = [samples[place] for place in range(index - 1, len(samples), count)]
    if dry_run:
        print(_forecast(share, segment, model))
        return None
    protocol = {**_described(source, samples), **protocol}
    part = PredictionPart(ensure_writable(options.out / "predictions"), options.shard, protocol)
    _predict(share, part, segment, workers=options.workers)
    missing = missing_shards(part.siblings(), image_ids)
    if missing:
        print(f"Shard {index}/{count} is done; {', '.join(missing)} still lack images: run them with the same out=.")
        return None
    merge_parts(part.siblings(), options.out / "predictions.json")
    metrics = _score(samples, part.siblings())
    defined = {name: None if math.isnan(value) else value for name, value in metrics.items()}
    write_json(options.out / "metrics.json", {"metrics": defined, "protocol": protocol})
    if not protocol["exhaustive"]:
        print("Not every region of this set is annotated: its recalls (AR) mean something, its precisions (AP) do not.")
    return metrics


def process_shard() -> tuple[int, int]:
    """The shard of this process among those that torchrun or Slurm started together; (1, 1) if it is alone."""
    return int(os.environ.get("RANK", 0)) + 1, int(os.environ.get("WORLD_SIZE", 1))


def process_device(device: str) -> str:
    """The device that this process takes: "auto" gives each process of a machine a GPU of its own."""
    if device != "auto" or not torch.cuda.is_available():
        return device
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


def table(metrics: Mapping[str, float]) -> str:
    """The metrics as a header and a row of percentages; "-" where there is no ground truth of that size."""
    cells = ["-" if math.isnan(value) else f"{100 * value:.1f}" for value in metrics.values()]
    width = max(map(len, [*metrics, *cells])) + 2
    return "\n".join("".join(cell.rjust(width) for cell in row) for row in (metrics, cells))


def _unique_ids(samples: Sequence[Sample]) -> list[int | str]:
    image_ids = [sample.image_id for sample in samples]
    if len(set(image_ids)) < len(image_ids):
        raise InputError("Several images of the set have the same id; correct its annotation file.")
    return image_ids


def _described(source: SetSource, samples: Sequence[Sample]) -> dict[str, Any]:
    """What was evaluated on: the dataset, the options of its reader and their defaults, and how many images."""
    read = open_dataset(source.dataset).read
    defaults = {name: option.default for name, option in inspect.signature(read).parameters.items() if name != "root"}
    chosen = {name: value for name, value in {**defaults, **source.options}.items() if value is not None}
    exhaustive = all(sample.exhaustive for sample in samples)
    return {"dataset": source.dataset, **chosen, "exhaustive": exhaustive, "num_images": len(samples)}


def _predictor(model: EntitySegmenter, options: EvaluateOptions) -> tuple[Segment, dict[str, Any]]:
    """The function that segments a photo, and what its answer depends on."""
    chosen = asdict(options.settings(model.settings))
    chosen |= {name: getattr(options, name) for name in ("source", "compat", "overlap", "precision")}
    file = weights_path(options.weights)
    protocol = {"weights": options.weights if options.weights == "nano" else file.name, "weights_sha256": _sha256(file)}
    return partial(model.segment, **chosen, max_memory=options.max_memory), protocol | chosen


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _predict(samples: Sequence[Sample], part: PredictionPart, segment: Segment, *, workers: int) -> None:
    """Predict the images that the part lacks; the next photos are read meanwhile."""
    done = part.resume()
    left = [sample for sample in samples if sample.image_id not in done]
    with thread_pool(workers) as reading:
        photos = started_ahead(left, partial(_read, reading), ahead=workers)
        for sample, photo in followed(photos, name="images", total=len(left)):
            part.add(sample.image_id, segment(photo.result()))


def _read(pool: Executor, sample: Sample) -> tuple[Sample, "Future[np.ndarray]"]:
    return sample, pool.submit(sample.read_frame)


def _score(samples: Sequence[Sample], parts: Sequence[PredictionPart]) -> dict[str, float]:
    by_id = {sample.image_id: sample for sample in samples}
    metric = AveragePrecision()
    for part in parts:
        for image_id, results in part.images():
            metric.update(entities_of(results, by_id[image_id].size_hw), by_id[image_id])
    return metric.compute()


def _forecast(samples: Sequence[Sample], segment: Segment, model: EntitySegmenter) -> str:
    """What the images would take: two are predicted, and the second is the measure, as the first one warms up."""
    image_s = 0.0
    for sample in samples[:2]:
        start_s = time.perf_counter()
        segment(sample.read_frame())
        image_s = time.perf_counter() - start_s
    hours, memory = image_s * len(samples) / 3600, peak_memory_gib(model.device)
    return (
        f"dry run: {image_s:.2f} s/image, {1 / image_s:.2f} images/s, "
        f"{hours:.1f} h for {len(samples)} images, {memory:.1f} GiB peak memory"
    )
