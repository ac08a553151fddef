"""FSS-1000 as published: ten photos for each of a thousand classes, one mask each.

Below the root, or below ``fewshot_data`` in it: ``CLASS/N.jpg`` and ``CLASS/N.png``. The classes of the test split are
listed in ``fss_test_set.txt``, there or beside it.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cropformer import InputError
from entitytransfer.adapter import Adapter, SampleSet
from entitytransfer.checks.images import Photos, check_published, count, examples
from entitytransfer.checks.masks import check_masks
from entitytransfer.classes import ENTITY
from entitytransfer.doctor import Finding
from entitytransfer.readers.mask_file import open_masks
from entitytransfer.readers.mask_folder import find_fss, inner_folder
from entitytransfer.scorecard import check_choice
from entitytransfer.tasks import task_adapter

CLASSES = {"test": 240, "all": 1000}
IMAGES_OF_CLASS = 10

_DOWNLOAD = "Download FSS-1000, GitHub HKUSTCV/FSS-1000 (see its page for the licence), and unpack the whole archive."


def read(root: Path | str, *, split: str = "test") -> SampleSet:
    """Open a split; an image is called ``CLASS/N`` and has one region, whatever its parts, or none.

    Args:
        root: ``fewshot_data``, or the folder that it is in.
        split: "test" for the classes of the test list, "all" for all.

    Raises:
        InputError: there is no such split, the list or a class in it is missing, or a mask has no photo.
    """
    check_choice("split", split, choices=tuple(CLASSES))
    masks = find_fss(Path(root), split=split)
    return SampleSet(open_masks(masks, exhaustive=False, spare_photos=True), ENTITY)


def adapter() -> Adapter:
    """Zero-shot recall."""
    return task_adapter("recall", read)


def examine(root: Path | str, *, full: bool = False, split: str = "test") -> Iterator[Finding]:
    """Say what is missing or broken.

    Args:
        root: as in ``read``.
        full: decode every photo instead of reading the head of its file.
        split: as in ``read``.

    Raises:
        InputError: there is no such split.
    """
    check_choice("split", split, choices=tuple(CLASSES))
    home = inner_folder(Path(root), "fewshot_data")
    try:
        masks = find_fss(home, split=split)
    except InputError as error:
        yield Finding("missing", str(error), home, _DOWNLOAD)
        return
    images = Counter(mask.image_id.partition("/")[0] for mask in masks)
    yield from check_published(len(images), CLASSES[split], "class folder", name=home.name, where=home)
    few = [name for name, number in images.items() if number < IMAGES_OF_CLASS]
    if few:
        what = f"{count(len(few), 'class folder')} with fewer than {IMAGES_OF_CLASS} masks: {examples(few)}"
        yield Finding("note", what, home, _DOWNLOAD)
    yield from check_masks(masks, Photos(full=full), source=home, name=split, download=_DOWNLOAD)
