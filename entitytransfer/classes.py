"""Classes: what the labels of a model mean on a dataset, and what its files call them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset in the order of its labels; label k of a model is the k-th of them.

    Attributes:
        names: what people call them.
        category_ids: what annotation and result files call them, which need not start at 0 nor be without gaps.
        is_thing: whether they are countable; of a class that is not, an image has one region at most.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    is_thing: tuple[bool, ...]

    def __len__(self) -> int:
        """Number of classes K."""
        return len(self.names)

    def labels(self) -> dict[int, int]:
        """Category id → label."""
        return {category_id: label for label, category_id in enumerate(self.category_ids)}


ENTITY = Classes(("entity",), (1,), (True,))
"""The one class of sets where every region is an entity."""
