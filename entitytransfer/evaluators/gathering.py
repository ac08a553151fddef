"""One list from the lists of all processes: how an evaluator comes to see the whole set."""

from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def gather(records: list[T]) -> list[T]:
    """Every process's records in the order of their ranks; the same list where there is one process.

    All processes must call it. The records travel over the CPU, whatever the backend of the training is: pickled
    masks of a whole set have no place in the memory of a GPU.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return list(records)
    group = distributed.new_group(backend="gloo")
    parts: list[list[T]] = [[] for _ in range(distributed.get_world_size(group))]
    distributed.all_gather_object(parts, records, group=group)
    distributed.destroy_process_group(group)
    return [record for part in parts for record in part]
