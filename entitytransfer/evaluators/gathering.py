"""How an evaluator comes to see the whole set: the records of the images or clips of all processes, in one order."""

from collections.abc import Callable
from typing import Generic, TypeVar

from torch import distributed

from entitytransfer.adapter import Sample
from entitytransfer.clip_sample import ClipSample, sample_id

T = TypeVar("T")
Record = TypeVar("Record")
Joined = TypeVar("Joined")

_Key = tuple[float, str, str]


class SampleRecords(Generic[Record, Joined]):
    """What an evaluator keeps of each image or clip, and what it makes of all of them together.

    Each process may take a share of the samples, without duplicates.

    Args:
        join: from the records of all samples, in the order of their ids, to what numbers are computed from; in a
            single process it is kept until a sample is added, so that resampling costs little.
    """

    def __init__(self, join: Callable[[list[Record]], Joined]) -> None:
        self._join = join
        self.clear()

    def clear(self) -> None:
        """Forget all samples."""
        self._own: list[tuple[_Key, Record]] = []
        self._joined: Joined | None = None

    def add(self, sample: Sample | ClipSample, record: Record) -> None:
        """Keep what remains of one sample."""
        self._own.append((_order(sample), record))
        self._joined = None

    def joined(self) -> Joined:
        """What all processes have added, joined; all of them must call it, and get the same."""
        if self._joined is None or _has_peers():
            keyed = sorted(gather(self._own), key=lambda one: one[0])
            self._joined = self._join([record for _, record in keyed])
        return self._joined


def gather(records: list[T]) -> list[T]:
    """Every process's records in the order of their ranks; the same list where there is one process.

    All processes must call it. The records travel over the CPU, whatever the backend of the training is: what is
    pickled of a whole set has no place in the memory of a GPU.
    """
    if not _has_peers():
        return list(records)
    group = distributed.new_group(backend="gloo")
    parts: list[list[T]] = [[] for _ in range(distributed.get_world_size(group))]
    distributed.all_gather_object(parts, records, group=group)
    distributed.destroy_process_group(group)
    return [record for part in parts for record in part]


def _has_peers() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _order(sample: Sample | ClipSample) -> _Key:
    """Samples with numbers as ids come in the order of these, as when files are scored; others by their text."""
    known = sample_id(sample)
    path = sample.frame_paths[0] if isinstance(sample, ClipSample) else sample.image_path
    return known if isinstance(known, int) else float("inf"), str(known), str(path)
