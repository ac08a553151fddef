"""Fork me: a dataset of your own in one file.

Copy this file to a package of yours, say ``mylab/leaves.py``, and change what differs. Nothing has to be registered:
its dotted path is its name wherever a dataset is named. As it stands it reads

    classes.txt       the name of a class on each line; the first is label 0
    images/NAME.jpg   photos
    labels/NAME.png   one byte for each pixel: its label, or 255 where it has none

and this is how one begins, with the folder that holds ``mylab`` on the PYTHONPATH:

    entitytransfer doctor dataset=mylab.leaves root=DIR
    entitytransfer finetune dataset=mylab.leaves root=DIR init=nano out=RUN
    entitytransfer evaluate dataset=mylab.leaves root=DIR weights=RUN/weights.safetensors
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from cropformer import Cut, InputError
from entitytransfer.adapter import Adapter, LabelledMasks, Sample, SampleSet
from entitytransfer.checks.images import Photos
from entitytransfer.checks.maps import check_label_maps
from entitytransfer.classes import Classes
from entitytransfer.doctor import Finding
from entitytransfer.evaluators.semantic_results import SemanticResults
from entitytransfer.heads import SemanticHead
from entitytransfer.readers.label_map import LabelledImages, LabelRegions


# 1 of 4. From disk to samples. Arguments after the * are your options, typed as KEY=VALUE. A sample is an index entry:
# an id, a path, a size and an `Annotation`, which decodes the masks when it is asked for them. Readers of COCO JSON,
# panoptic PNGs, label PNGs and mask PNGs are in `entitytransfer.readers`; for anything else write a class with the five
# methods of `entitytransfer.adapter.Annotation`.
def read(root: Path | str, *, labels: str = "labels") -> SampleSet:
    """Open the folder. Say with InputError, in one sentence, what is wrong with it and what to do about it."""
    root = Path(root)
    if not (root / "classes.txt").is_file():
        raise InputError(f"There is no classes.txt in {root}; give the root of the set, or write one class a line.")
    names = tuple((root / "classes.txt").read_text(encoding="utf-8").splitlines())
    classes = Classes(names, category_ids=tuple(range(len(names))), is_thing=(False,) * len(names))
    return SampleSet(LabelledImages(_files(root, labels), partial(LabelRegions, classes=len(classes))), classes)


# 2 of 4. What the model shall learn of a sample: masks in every view, bool [N,h,w], and their labels, int64 [N]. Merge,
# drop or relabel here. `entitytransfer.adapter.labelled_masks` is this function.
def build_target(sample: Sample, cuts: Sequence[Cut]) -> LabelledMasks:
    """Every region with its label."""
    return LabelledMasks(sample.cut_masks(cuts), sample.labels())


# 3 of 4. How queries become results; the other heads are entity, instance, panoptic and dichotomous.
def build_head(classes: Classes) -> SemanticHead:
    """The class of every pixel."""
    return SemanticHead(classes)


# 4 of 4. How results are judged: anything with update, compute and reset.
def build_evaluator(classes: Classes) -> SemanticResults:
    """mIoU and its relatives."""
    return SemanticResults(classes)


# The four together. With arguments, such as ``task``, one file can offer several adapters; the usual combinations have
# names in `entitytransfer.tasks`, so that all of the above may shrink to ``return task_adapter("semantic", read)``.
def adapter() -> Adapter:
    """What training, prediction and scoring need to know about this set."""
    return Adapter(read, build_target, build_head, build_evaluator)


# For ``entitytransfer doctor``: look at everything, raise nothing, and say what is missing or broken and what to do.
def examine(root: Path | str, *, full: bool = False, labels: str = "labels") -> Iterator[Finding]:
    """Say what is missing or broken."""
    root = Path(root)
    try:
        classes = read(root, labels=labels).classes
    except InputError as error:
        yield Finding("missing", str(error), root, "Write here where the data can be had, and under which licence.")
        return
    common = {"name": root.name, "download": "Copy them again.", "classes": len(classes)}
    yield from check_label_maps(_files(root, labels), Photos(full=full), source=root / labels, **common)


def _files(root: Path, labels: str) -> list[tuple[Path, Path]]:
    """Photo and label PNG of each sample, whether they exist or not."""
    stems = {path.stem for folder in ("images", labels) for path in (root / folder).glob("[!.]*")}
    return [(root / "images" / f"{stem}.jpg", root / labels / f"{stem}.png") for stem in sorted(stems)]
