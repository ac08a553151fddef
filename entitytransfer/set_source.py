"""A set by name: where it is, what opens it, and its samples."""

from dataclasses import dataclass, field
from inspect import signature
from typing import Any

from cropformer import InputError
from entitytransfer.adapter import SampleSet
from entitytransfer.datasets import open_adapter, open_dataset


@dataclass(frozen=True)
class SetSource:
    """One set: where it is, what opens it, and how often it is drawn from.

    Attributes:
        root: its folder.
        dataset: name of the module that reads it, see ``datasets.open_dataset``.
        weight: its share of what is drawn, with replacement; None in all sets shows every image once an epoch.
        options: keyword arguments of the module's ``read``.
    """

    root: str
    dataset: str = "coco"
    weight: float | None = None
    options: dict[str, Any] = field(default_factory=dict)


def open_set(source: SetSource) -> SampleSet:
    """The samples of a set, with their classes.

    Raises:
        InputError: if there is no such dataset or option, or the set cannot be read or holds nothing.
    """
    samples = open_adapter(source.dataset, source.options).read(source.root, **_checked(source))
    if not samples:
        raise InputError(f"{source.root} holds no annotated image or clip; check its annotation file")
    return samples


def _checked(source: SetSource) -> dict[str, Any]:
    """The options of a set, if its reader takes them."""
    known = list(signature(open_dataset(source.dataset).read).parameters)[1:]
    unknown = sorted(set(source.options).difference(known))
    if unknown:
        raise InputError(
            f"dataset {source.dataset} has no option {', '.join(unknown)}; its options are {', '.join(known)}"
        )
    return source.options
