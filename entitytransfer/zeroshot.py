"""The ``zeroshot`` command: the class-agnostic recall of a method on a set that it was not trained on (Table 6)."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cropformer import Entities, InputError
from entitytransfer.adapter import Adapter, Sample, labelled_masks
from entitytransfer.clip_sample import refuse_clips
from entitytransfer.console import followed
from entitytransfer.datasets import open_dataset
from entitytransfer.evaluate import describe_set, evaluate
from entitytransfer.evaluation.methods import PEER_OPTIONS
from entitytransfer.evaluation.options import EvaluateOptions
from entitytransfer.evaluation.saved_results import open_run, saved_results
from entitytransfer.evaluators.coco_images import image_set
from entitytransfer.evaluators.detection_summary import MAX_DETS
from entitytransfer.evaluators.entity_errors import judge_entities
from entitytransfer.evaluators.recall_results import RecallResults
from entitytransfer.heads import EntityHead
from entitytransfer.predictions import ensure_writable
from entitytransfer.readers.coco_entities import read_coco_entities
from entitytransfer.reports.gallery import ImageCounts, totals, write_gallery
from entitytransfer.reports.zeroshot_table import COLUMNS, Run
from entitytransfer.scorecard import Score
from entitytransfer.set_source import SetSource, open_set

GALLERY = "gallery"
_ON_CLIPS = "entitytransfer evaluate predicts and scores clips"
RECALL_CARD = {
    "classes": "one",
    "recall": "matched part of all annotated entities, pooled over images; best scores first, as COCOeval",
    "max_dets": list(MAX_DETS),
    "iou_threshold": 0.5,
}
_MASKS = {
    False: "without overlap: every pixel belongs to the best prediction that claims it",
    True: "may overlap, as they were predicted; the recall of a model is usually higher with overlap than without",
}

Results = Callable[[], Iterable[tuple[Sample, Entities]]]


@dataclass(frozen=True, kw_only=True)
class RecallOptions:
    """What to measure of a method on a set, and where to write it.

    Attributes:
        out: folder of the table; every run has its own in it.
        name: row of the table, and part of the folder's name; None takes the name of the weights for the row alone.
        overlap: judge masks as they were predicted; else a pixel is left to the best prediction that claims it.
        examples: how many of the best images the gallery shows, and how many of the worst.

    Raises:
        InputError: the name cannot be that of a folder, or the number of examples is negative.
    """

    out: Path
    name: str | None = None
    overlap: bool = False
    examples: int = 8

    def __post_init__(self) -> None:
        """Refuse a name that would lead elsewhere."""
        if self.name is not None and Path(self.name).name != self.name:
            raise InputError(f"name={self.name} is no name of a folder; choose one without slashes.")
        if self.examples < 0:
            raise InputError(f"examples={self.examples} is no number of images; give 0 or more.")

    def folder(self, dataset: str) -> Path:
        """Where a run lies."""
        return self.out / "-".join(filter(None, [dataset, self.name, "overlap" if self.overlap else None]))


def overlaps(choice: bool | str | None, *, default: bool) -> list[bool]:
    """The runs that ``overlap=`` asks for: true, false, both, or the default.

    Raises:
        InputError: it is something else.
    """
    match choice:
        case None:
            return [default]
        case bool():
            return [choice]
        case "both":
            return [False, True]
    raise InputError(f"overlap={choice} is none of true, false, both.")


def recall_of_weights(
    source: SetSource, prediction: EvaluateOptions, options: RecallOptions, *, dry_run: bool = False
) -> Score | None:
    """Predict what is left to predict, and when that completes the set, judge it and write its gallery.

    Args:
        source: the set; whatever its usual task, every annotated region counts as an entity.
        prediction: how to predict; its ``out`` is replaced by the folder of the run.
        options: see there.
        dry_run: print the forecast of ``evaluate`` and write nothing.

    Returns:
        Recall and protocol; None if shards are missing, or after a dry run.

    Raises:
        InputError: as ``evaluate`` does.
    """
    refuse_clips(open_set(source), instead=_ON_CLIPS)
    folder = options.folder(source.dataset)
    prediction = replace(prediction, out=folder, head={**prediction.head, "overlap": options.overlap})
    read = open_dataset(source.dataset).read
    adapter = Adapter(read, labelled_masks, lambda _: EntityHead(), lambda _: RecallResults())
    metrics = evaluate(source, prediction, adapter=adapter, dry_run=dry_run)
    if metrics is None:
        return None
    samples, protocol = open_set(source), open_run(folder).protocol
    score = Score(metrics, RECALL_CARD | {"masks": _MASKS[options.overlap]} | _input_size(protocol) | protocol)
    _report(source, score, partial(saved_results, folder, samples), options, name=Path(prediction.weights).stem)
    return score


def recall_of_file(source: SetSource, predictions: Path, options: RecallOptions) -> Score:
    """Judge a COCO results file of any method, and write its gallery.

    Args:
        source: the set.
        predictions: the file; its image ids are those of the set's samples.
        options: see there.

    Raises:
        InputError: the file or the set cannot be read, or they do not fit together.
    """
    samples = open_set(source)
    refuse_clips(samples, instead=_ON_CLIPS)
    ensure_writable(options.folder(source.dataset))
    found = read_coco_entities(predictions, samples)
    recall = RecallResults()

    def results() -> Iterator[tuple[Sample, Entities]]:
        for sample in samples:
            entities = found[sample.image_id]
            yield sample, entities if options.overlap else _without_overlap(entities)

    for sample, entities in followed(results(), name="images", total=len(samples)):
        recall.update(entities, sample)
    card = RECALL_CARD | {"masks": _MASKS[options.overlap], "predictions": predictions.name}
    score = Score(recall.compute(), card | describe_set(source, samples))
    _report(source, score, results, options, name=predictions.stem)
    return score


def _report(source: SetSource, score: Score, results: Results, options: RecallOptions, *, name: str) -> None:
    """Say what became of every entity: write what the table is made of, and the gallery."""
    folder, about = options.folder(source.dataset), _about(source, score.protocol)
    row = f"{options.name or name}{', overlapping' if options.overlap else ''}"
    images = [
        ImageCounts(sample.image_id, **judge_entities(image_set(entities, sample, None)).counts())
        for sample, entities in followed(results(), name="judged images", total=score.protocol["num_images"])
    ]
    Run(row, source.dataset, score.values(), totals(images), score.protocol, about).save(folder)
    write_gallery(
        folder / GALLERY,
        images,
        results(),
        title=f"Recall on {COLUMNS.get(source.dataset, source.dataset)}",
        subtitle=f"{row}; {about}",
        protocol=score.table(),
        count=options.examples,
    )


def _input_size(protocol: Mapping[str, Any]) -> dict[str, str]:
    """What the sizes in a protocol mean; a peer may have others, or none."""
    sizes = _sizes(protocol)
    if not {"short_side", "max_side"} <= sizes.keys():
        return {}
    sides = f"short side {sizes['short_side']}, long side at most {sizes['max_side']}"
    return {"input_size": f"{sides}; smaller photos are enlarged"}


def _sizes(protocol: Mapping[str, Any]) -> dict[str, int]:
    """How large photos were made and how they were cut, by our weights or by a peer."""
    names = {name.removeprefix(f"{PEER_OPTIONS}."): value for name, value in protocol.items()}
    return {name: names[name] for name in ("short_side", "max_side", "crops") if name in names}


def _about(source: SetSource, protocol: Mapping[str, Any]) -> str:
    """Which images, and at which size."""
    options = [name for name in inspect.signature(open_dataset(source.dataset).read).parameters if name != "root"]
    known = {name: protocol[name] for name in options if name in protocol} | _sizes(protocol)
    said = (f"{name}={value}" for name, value in known.items() if name != "max_side")
    return ", ".join([f"{protocol['num_images']} images", *said])


def _without_overlap(entities: Entities) -> Entities:
    return Entities.from_id_map(entities.id_map(), entities.scores, entities.labels, sort=False)
