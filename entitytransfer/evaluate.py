"""The ``evaluate`` command: predict a set, shard by shard and resumably, then score it."""

import hashlib
import inspect
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cropformer import InputError
from entitytransfer.adapter import Adapter, Evaluator, Head, Result, Sample
from entitytransfer.clip_sample import ClipSample, Kind, kind_of, sample_id
from entitytransfer.console import followed
from entitytransfer.datasets import open_adapter, open_dataset
from entitytransfer.evaluation.clips import is_annotated
from entitytransfer.evaluation.methods import Method, Predict, open_method, with_options
from entitytransfer.evaluation.options import EvaluateOptions
from entitytransfer.evaluation.prediction_parts import PARTS, PredictionPart, missing_shards, read_results
from entitytransfer.evaluation.saved_results import METRICS
from entitytransfer.predictions import ensure_writable, write_json
from entitytransfer.processes import process_device
from entitytransfer.reports.metric_format import show_metric
from entitytransfer.set_source import SetSource, open_set
from entitytransfer.threads import started_ahead, thread_pool
from entitytransfer.training.progress import peak_memory_gib
from entitytransfer.writers.clip_result_files import write_clip_files
from entitytransfer.writers.result_files import write_result_files

_OF_ONE_CLASS = ("entity", "dichotomous")


def evaluate(
    source: SetSource, options: EvaluateOptions, *, adapter: Adapter | None = None, dry_run: bool = False
) -> dict[str, float] | None:
    """Predict what is left to predict, and score the set if that completes it.

    Writes ``predictions/part-i-of-n.jsonl`` in ``options.out``, image by image, or clip by clip: a killed run goes on
    where it stopped. Whichever shard finds all of them done joins them to official result files, see
    ``writers.result_files`` and ``writers.clip_result_files``, scores what was saved, and writes ``metrics.json``. The
    numbers do not depend on shards and interruptions. Clips whose annotation a server keeps are not scored here.

    Args:
        source: the set.
        options: see there.
        adapter: what the task is and how results are judged; None takes the dataset's own.
        dry_run: predict two images or clips and print the forecast of time and memory; write nothing.

    Returns:
        The metrics, as the adapter's evaluator names them; None if shards are missing, nothing is annotated, or after
        a dry run.

    Raises:
        InputError: if images, weights, options or earlier predictions do not fit together.
    """
    adapter = adapter or open_adapter(source.dataset, source.options)
    samples = open_set(source)
    kind, ids = kind_of(samples), _unique_ids(samples)
    head = with_options(adapter.build_head(samples.classes), options)
    method = open_method(options, head, kind=kind, device=process_device(options.device))
    _check_classes(method.num_classes, head, options.weights, source)
    index, count = options.shard
    if count > len(samples):
        raise InputError(f"{count} shards are too many for {len(samples)} {kind}; take one for each at most.")
    share = [samples[place] for place in range(index - 1, len(samples), count)]
    if dry_run:
        print(_forecast(share, method, kind=kind))
        return None
    protocol = {**describe_set(source, samples), **method.protocol}
    ensure_writable(options.out / PARTS)
    part = PredictionPart(options.out, options.shard, protocol)
    _predict(share, part, method.predict, workers=options.workers, kind=kind)
    missing = missing_shards(part.siblings(), ids)
    if missing:
        print(f"Shard {index}/{count} is done; {', '.join(missing)} still lack {kind}: run them with the same out=.")
        return None
    results = partial(read_results, part.siblings(), samples)
    write_files = write_clip_files if kind == "clips" else write_result_files
    write_files(head.task, results(), classes=samples.classes, out=options.out)
    if kind == "clips" and not any(is_annotated(clip) for clip in samples):
        print(f"No clip of the set is annotated, so nothing is scored: {options.out} holds what its server takes.")
        return None
    metrics = _score(adapter.build_evaluator(samples.classes), followed(results(), name="results", total=len(samples)))
    _save(options, source, metrics, protocol)
    return metrics


def table(metrics: Mapping[str, float]) -> str:
    """The metrics as a header and a row of numbers as papers print them; "-" where one is undefined."""
    cells = [show_metric(name, value) for name, value in metrics.items()]
    width = max(map(len, [*metrics, *cells])) + 2
    return "\n".join("".join(cell.rjust(width) for cell in row) for row in (metrics, cells))


def describe_set(source: SetSource, samples: Sequence[Sample | ClipSample]) -> dict[str, Any]:
    """What was evaluated on: the dataset, the options of its reader and their defaults, and which images or clips."""
    kind, shapes, exhaustive = kind_of(samples), [], True
    for sample in samples:
        frames = [len(sample.frame_paths)] if isinstance(sample, ClipSample) else []
        shapes.append([sample_id(sample), *sample.size_hw, *frames])
        exhaustive = exhaustive and sample.exhaustive
    return {
        "dataset": source.dataset,
        **_read_options(source),
        "exhaustive": exhaustive,
        f"num_{kind}": len(shapes),
        f"{kind}_sha256": hashlib.sha256(json.dumps(shapes).encode()).hexdigest(),
    }


def _unique_ids(samples: Sequence[Sample | ClipSample]) -> list[int | str]:
    ids = [sample_id(sample) for sample in samples]
    if len(set(ids)) < len(ids):
        raise InputError(f"Several {kind_of(samples)} of the set have the same id; correct its annotation file.")
    return ids


def _check_classes(has: int, head: Head, weights: str, source: SetSource) -> None:
    """Refuse, before a photo is read, weights of other classes, unless the head takes them all for one."""
    needs = len(head.classes)
    if has != needs and (needs > 1 or head.task not in _OF_ONE_CLASS):
        raise InputError(
            f"The class head of the weights {weights} has the size {has}, but the {head.task} task of {source.dataset} "
            f"needs {needs}; fine-tune them on it first."
        )


def _read_options(source: SetSource) -> dict[str, Any]:
    """The options of the dataset's reader, with its own where none are given."""
    parameters = inspect.signature(open_dataset(source.dataset).read).parameters
    defaults = {name: option.default for name, option in parameters.items() if name != "root"}
    return {name: value for name, value in {**defaults, **source.options}.items() if value is not None}


def _predict(
    samples: Sequence[Sample | ClipSample], part: PredictionPart, predict: Predict, *, workers: int, kind: Kind
) -> None:
    """Predict the images or clips that the part lacks; the next photos are read meanwhile."""
    done = part.resume()
    left = [sample for sample in samples if sample_id(sample) not in done]
    with thread_pool(workers) as reading:
        photos = started_ahead(left, partial(_read, reading), ahead=workers)
        for sample, photo in followed(photos, name=kind, total=len(left)):
            part.add(sample_id(sample), predict(photo.result()))


def _read(pool: Executor, sample: Sample | ClipSample) -> tuple[Sample | ClipSample, "Future[np.ndarray | ClipSample]"]:
    return sample, pool.submit(_input, sample)


def _input(sample: Sample | ClipSample) -> np.ndarray | ClipSample:
    """What is predicted: a photo, or a clip whose frames are read one after another."""
    return sample if isinstance(sample, ClipSample) else sample.read_frame()


def _score(evaluator: Evaluator, results: Iterable[tuple[Sample | ClipSample, Result]]) -> dict[str, float]:
    for sample, result in results:
        evaluator.update(result, sample)
    return evaluator.compute()


def _save(
    options: EvaluateOptions, source: SetSource, metrics: Mapping[str, float], protocol: Mapping[str, Any]
) -> None:
    """Write the numbers, and what reads the predictions back, see ``evaluation.saved_results``."""
    place = {"root": str(Path(source.root).resolve()), "dataset": source.dataset, "options": _read_options(source)}
    known = {name: None if math.isnan(value) else value for name, value in metrics.items()}
    content = {"metrics": known, "protocol": protocol, "source": place, "shards": options.shard[1]}
    write_json(options.out / METRICS, content)
    if "AP" in metrics and not protocol["exhaustive"]:
        print("Not every region of this set is annotated: its recalls (AR) mean something, its precisions (AP) do not.")


def _forecast(samples: Sequence[Sample | ClipSample], method: Method, *, kind: Kind) -> str:
    """What the set would take: two samples are predicted, and the second is the measure, as the first one warms up."""
    sample_s = 0.0
    for sample in samples[:2]:
        start_s = time.perf_counter()
        method.predict(_input(sample))
        sample_s = time.perf_counter() - start_s
    hours, memory = sample_s * len(samples) / 3600, peak_memory_gib(method.device)
    return (
        f"dry run: {sample_s:.2f} s/{kind[:-1]}, {1 / sample_s:.2f} {kind}/s, "
        f"{hours:.1f} h for {len(samples)} {kind}, {memory:.1f} GiB peak memory"
    )
