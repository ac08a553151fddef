"""In which precision the network calculates: what may be chosen, and what stays in fp32 whatever was chosen."""

from typing import Literal, get_args

import torch

from .errors import InputError

Precision = Literal["fp32", "bf16"]
"""Of the matrix products of the network; sums, positions and masks are in fp32 with both."""


def check_precision(precision: str) -> None:
    """Nothing, if there is such a precision.

    Raises:
        InputError: if there is none of that name.
    """
    if precision not in get_args(Precision):
        raise InputError(f"there is no precision {precision!r}; use {' or '.join(get_args(Precision))}")


def in_precision(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which matrix products on a device are in ``precision``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def full_precision(device: torch.device) -> torch.autocast:
    """A context in which autocast is off: for the little that decides much."""
    return torch.autocast(device.type, enabled=False)
