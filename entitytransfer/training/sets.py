"""Training sets: what a run learns from and is judged on, opened, with one meaning of classes throughout."""

from __future__ import annotations

from dataclasses import dataclass

from cropformer import InputError
from entitytransfer.adapter import Evaluator, Head, SampleSet, labelled_masks
from entitytransfer.classes import Classes
from entitytransfer.clip_sample import holds_clips, labelled_tracks
from entitytransfer.datasets import open_adapter
from entitytransfer.set_source import SetSource, open_set
from entitytransfer.training.clip_data import BuildClipTarget
from entitytransfer.training.data import BuildTarget
from entitytransfer.training.loaders import DataOptions


@dataclass(frozen=True)
class Judgement:
    """How a run is judged: on what, from which predictions, and by which metric."""

    samples: SampleSet
    head: Head
    evaluator: Evaluator


@dataclass(frozen=True)
class TrainingSets:
    """The sets of a run, opened.

    Attributes:
        samples: the training sets.
        classes: those of all sets.
        build_target: what is learnt of a sample.
        judgement: how validation goes; None trains without.
    """

    samples: tuple[SampleSet, ...]
    classes: Classes
    build_target: BuildTarget | BuildClipTarget
    judgement: Judgement | None

    @property
    def hold_clips(self) -> bool:
        """Whether clips are learnt from; images among them are shown as clips."""
        return any(map(holds_clips, self.samples))

    def views(self, data: DataOptions) -> int:
        """Views of a sample in training: an image with its crops, or each frame of a clip with its own."""
        return (1 + data.crops) * (data.clip.frames if self.hold_clips else 1)


def open_sets(data: DataOptions) -> TrainingSets:
    """Open the sets that a run names.

    Raises:
        InputError: if a set cannot be read or holds nothing, or the sets differ in classes or in what is learnt.
    """
    samples = tuple(map(open_set, data.sets))
    judgement = None if data.validation is None else _judgement(data.validation)
    opened = [*zip(data.sets, samples), *([(data.validation, judgement.samples)] if judgement else [])]
    for source, others in opened:
        _check_classes(source, others.classes, samples[0].classes)
    builders = {open_adapter(source.dataset, source.options).build_target for source in data.sets}
    if any(map(holds_clips, samples)):
        builders = {labelled_tracks if one is labelled_masks else one for one in builders}
    if len(builders) > 1:
        names = ", ".join(dict.fromkeys(source.dataset for source in data.sets))
        raise InputError(f"the datasets {names} build their targets each in its own way; train on one at a time")
    return TrainingSets(samples, samples[0].classes, builders.pop(), judgement)


def _judgement(source: SetSource) -> Judgement:
    adapter, samples = open_adapter(source.dataset, source.options), open_set(source)
    return Judgement(samples, adapter.build_head(samples.classes), adapter.build_evaluator(samples.classes))


def _check_classes(source: SetSource, theirs: Classes, first: Classes) -> None:
    if theirs.names != first.names:
        raise InputError(
            f"{source.root} has {len(theirs)} classes that are not the {len(first)} of the first training set; give "
            "all sets, and data.validation, one task and one list of categories"
        )
