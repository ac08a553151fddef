"""The result of scoring: metrics, the protocol card that says how they came about, and confidence intervals."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from cropformer import InputError
from entitytransfer.predictions import write_json

Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """What a task gives back.

    Attributes:
        metrics: name → value as the official tools compute it before multiplying by 100; nan or None = undefined.
        protocol: every choice behind the numbers, name → JSON value.
        intervals: name → lower and upper bound of the 95 % confidence interval, if resampling was asked for.
        in_percent: whether the field prints these numbers times 100.
    """

    metrics: Mapping[str, float | None]
    protocol: Mapping[str, Any]
    intervals: Mapping[str, Interval | None] | None = None
    in_percent: bool = True

    def values(self) -> dict[str, float | None]:
        """The metrics with None wherever a value is undefined."""
        return {name: _defined(value) for name, value in self.metrics.items()}

    def save(self, path: str | Path) -> None:
        """Write ``{"metrics": {...}, "protocol": {...}}``, and "intervals" if there are any, as JSON."""
        content: dict[str, Any] = {"metrics": self.values(), "protocol": dict(self.protocol)}
        if self.intervals is not None:
            content["intervals"] = {name: None if pair is None else list(pair) for name, pair in self.intervals.items()}
        write_json(path, content)

    def table(self) -> str:
        """The lines to print: the metrics, then the protocol card."""
        width = max(map(len, [*self.metrics, *self.protocol]), default=0)
        lines = [
            f"{name:<{width}}  {self._show(value)}{self._show_interval(name)}" for name, value in self.metrics.items()
        ]
        card = [f"{name:<{width}}  {_show_choice(choice)}" for name, choice in self.protocol.items()]
        return "\n".join([*lines, "", "protocol", *card])

    def _show(self, value: float | None) -> str:
        defined = _defined(value)
        if defined is None:
            return f"{'-':>8}"
        return f"{100 * defined:8.2f}" if self.in_percent else f"{defined:8.3f}"

    def _show_interval(self, name: str) -> str:
        pair = (self.intervals or {}).get(name)
        return "" if pair is None else f"  [{self._show(pair[0]).strip()}, {self._show(pair[1]).strip()}]"


def check_choice(option: str, choice: str, *, choices: Collection[str]) -> None:
    """Raise `InputError` unless an option has one of its possible values."""
    if choice not in choices:
        raise InputError(f"The option {option!r} must be one of {', '.join(choices)}, not {choice!r}.")


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def _show_choice(choice: Any) -> str:
    if isinstance(choice, (list, tuple)):
        return ", ".join(map(str, choice))
    return "-" if choice is None else str(choice)
