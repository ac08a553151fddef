"""The classes of ADE20K: 150, of which 100 are countable; its instance maps number those in a way of their own."""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from entitytransfer.classes import ENTITY, Classes

NUM_CLASSES, NUM_THINGS = 150, 100


@dataclass(frozen=True)
class Category:
    """A line of ``ade20k_classes.csv``; the names are those of the official files.

    Attributes:
        category_id: from 0; a semantic map stores it plus 1.
        name: in the semantic and panoptic tasks.
        instance_class: its number in the instance maps, from 1; 0 if it is not countable.
        instance_name: in the instance task.
        color: red, green and blue, from which the ids of its panoptic segments are made.
    """

    category_id: int
    name: str
    instance_class: int
    instance_name: str
    color: tuple[int, int, int]


@cache
def categories() -> tuple[Category, ...]:
    """All of them, by ascending id."""
    with Path(__file__).with_name("ade20k_classes.csv").open(newline="", encoding="utf-8") as file:
        return tuple(map(_category, csv.DictReader(file)))


@cache
def things() -> tuple[Category, ...]:
    """The countable ones, by ascending id, which is also the order of their numbers in the instance maps."""
    return tuple(category for category in categories() if category.instance_class)


def task_classes(task: str) -> Classes:
    """What the labels of "semantic", "panoptic", "instance" or "entity" mean."""
    if task == "entity":
        return ENTITY
    if task == "instance":
        names, listed = [category.instance_name for category in things()], things()
    else:
        names, listed = [category.name for category in categories()], categories()
    ids, countable = [one.category_id for one in listed], [one.instance_class > 0 for one in listed]
    return Classes(tuple(names), tuple(ids), tuple(countable))


def _category(line: dict[str, str]) -> Category:
    return Category(
        category_id=int(line["category_id"]),
        name=line["name"],
        instance_class=int(line["instance_class"] or 0),
        instance_name=line["instance_name"],
        color=(int(line["red"]), int(line["green"]), int(line["blue"])),
    )
