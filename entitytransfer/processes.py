"""Processes that torchrun, Slurm or `launch` started together: which share of the work, and which GPU, each takes."""

import os

import torch


def process_shard() -> tuple[int, int]:
    """The shard of this process among those that torchrun or Slurm started together; (1, 1) if it is alone."""
    return int(os.environ.get("RANK", 0)) + 1, int(os.environ.get("WORLD_SIZE", 1))


def process_device(device: str) -> str:
    """The device that this process takes: "auto" and "cuda" give each process of a machine a GPU of its own."""
    if device not in ("auto", "cuda") or not torch.cuda.is_available():
        return device
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"
