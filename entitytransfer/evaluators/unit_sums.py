"""Sums over images or videos that can be asked for any choice of them, as resampling does."""

import numpy as np


class UnitSums:
    """Keeps a sparse table of numbers for each unit, an image or a video, and adds up those of chosen units.

    Args:
        size: rows of a table, such as classes.
        columns: numbers in each row.
    """

    def __init__(self, size: int, columns: int) -> None:
        self._size, self._columns = size, columns
        self._num_units = 0
        self._units: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._values: list[np.ndarray] = []

    def append(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Add a unit: float64 [N,columns] for N different rows, int64; the other rows are 0."""
        self._units.append(np.full(rows.size, self._num_units))
        self._rows.append(rows)
        self._values.append(values)
        self._num_units += 1

    def append_dense(self, values: np.ndarray) -> None:
        """Add a unit: float64 [size,columns]; rows of zeros are not kept."""
        rows = np.flatnonzero(values.any(axis=1))
        self.append(rows, values[rows])

    def total(self, units: np.ndarray | None = None) -> np.ndarray:
        """The sum over units, float64 [size,columns].

        Args:
            units: indices, each once for every time it counts; all units if left out.
        """
        if not self._num_units:
            return np.zeros((self._size, self._columns))
        self._join()
        chosen = np.arange(self._num_units) if units is None else units
        times = np.bincount(chosen, minlength=self._num_units)[self._units[0]]
        values = self._values[0] * times[:, None]
        return np.stack([np.bincount(self._rows[0], column, minlength=self._size) for column in values.T], axis=1)

    def _join(self) -> None:
        """Many small arrays become one, which also takes less memory."""
        for columns in (self._units, self._rows, self._values):
            columns[:] = [np.concatenate(columns)]
