"""Finished runs of ``evaluate``, read back: what comparisons and galleries are made of."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropformer import InputError
from entitytransfer.adapter import Result, Sample
from entitytransfer.clip_sample import ClipSample, sample_id
from entitytransfer.evaluation.prediction_parts import PARTS, PredictionPart, missing_shards, read_results
from entitytransfer.readers.json_file import read_json
from entitytransfer.set_source import SetSource

METRICS = "metrics.json"


@dataclass(frozen=True)
class SavedRun:
    """A run that ``evaluate`` has finished.

    Attributes:
        out: its folder.
        source: the set, as it was named then.
        metrics: name → value, None where undefined.
        protocol: what the numbers depend on.
        shards: how many there were.
    """

    out: Path
    source: SetSource
    metrics: dict[str, float | None]
    protocol: dict[str, Any]
    shards: int

    @property
    def kind(self) -> str:
        """What the set consists of: "images" or "clips"."""
        return "clips" if "num_clips" in self.protocol else "images"


def open_run(out: Path) -> SavedRun:
    """What a folder that ``evaluate`` wrote says about itself.

    Raises:
        InputError: there is no finished run in it.
    """
    path = out / METRICS
    if not path.is_file():
        raise InputError(f"{out} holds no finished run: there is no {METRICS}; run entitytransfer evaluate out={out}.")
    content = read_json(path)
    try:
        source = SetSource(**content["source"])
        return SavedRun(out, source, content["metrics"], content["protocol"], content["shards"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{path} was not written by evaluate; run entitytransfer evaluate out={out} again.") from error


def saved_results(out: Path, samples: Sequence[Sample | ClipSample]) -> Iterator[tuple[Sample | ClipSample, Result]]:
    """Every sample with what a finished run has found in it, in the order of the samples.

    Args:
        out: folder of the run.
        samples: the set that it was evaluated on, ``open_set(open_run(out).source)``.

    Raises:
        InputError: there is no finished run, it lacks a sample or holds one that the set has not, or it is damaged.
    """
    run = open_run(out)
    parts = PredictionPart(out, (1, run.shards), run.protocol).siblings()
    if missing_shards(parts, [sample_id(sample) for sample in samples]):
        raise InputError(f"{out / PARTS} lacks samples of the set; run entitytransfer evaluate out={out} again.")
    return read_results(parts, samples)
