"""Predictions of a set, shard by shard: a file that a killed run goes on with, and the reading back of all shards.

A shard is one file of JSON lines: what the predictions were made with, then one line for each image or clip. A line
that was being written when the run was killed is cut off by the next run. A grey map has a PNG of its own, where the
official tools look for it; its line follows once the PNG is whole.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropformer import Entities, InputError
from entitytransfer.adapter import Result, Sample
from entitytransfer.clip_result import ClipResult
from entitytransfer.clip_sample import ClipSample, sample_id
from entitytransfer.readers.grey_maps import read_map
from entitytransfer.writers.result_files import write_map

SampleId = int | str

PARTS = "predictions"
_IMAGE, _CLIP = "image_id", "clip_id"


@dataclass(frozen=True)
class PredictionPart:
    """The predictions of one shard on disk.

    Attributes:
        out: folder of the run: shards are in ``predictions``, grey maps in ``maps``.
        shard: (i, n), the i-th of n; i counts from 1.
        protocol: what the predictions depend on, as JSON; predictions of another protocol are refused.
    """

    out: Path
    shard: tuple[int, int]
    protocol: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file."""
        return self.out / PARTS / f"part-{self.shard[0]}-of-{self.shard[1]}.jsonl"

    def siblings(self) -> "list[PredictionPart]":
        """All shards of the set, this one among them."""
        count = self.shard[1]
        return [PredictionPart(self.out, (index, count), self.protocol) for index in range(1, count + 1)]

    def resume(self) -> set[SampleId]:
        """Make the file ready to be added to, and give the ids of the images or clips that it has.

        Raises:
            InputError: the file is damaged, or was made with another protocol.
        """
        if self.path.exists():
            _cut_torn_line(self.path)
        if not self.path.exists() or not self.path.stat().st_size:
            self._append(self.protocol)
        return set(self.places())

    def add(self, identifier: SampleId, result: Result) -> None:
        """Add what was found in one image or clip; it is on disk when this returns.

        Raises:
            InputError: it cannot be written, or the id of an image with a map is no file name.
        """
        if isinstance(result, ClipResult):
            self._append({_CLIP: identifier, "tracks": _track_records(result)})
        elif isinstance(result, Entities):
            self._append({_IMAGE: identifier, "entities": _records(result)})
        else:
            self._append({_IMAGE: identifier, "map": str(write_map(self.out, identifier, result))})

    def places(self) -> dict[SampleId, int]:
        """Where in the file each image or clip is, in bytes; of one that is there twice the first; none without a file.

        A torn last line is passed over. Errors as in ``resume``.
        """
        places: dict[SampleId, int] = {}
        start = 0
        for number, line in enumerate(self._lines(), start=1):
            content = _parsed(line, self.path, number)
            if number == 1:
                self._refuse_another(content)
            else:
                places.setdefault(content[_CLIP if _CLIP in content else _IMAGE], start)
            start += len(line)
        return places

    def read(self, place: int, size_hw: tuple[int, int]) -> Result:
        """The result that stands at a place of the file, of an image or a clip of this size.

        Raises:
            InputError: its map cannot be read.
        """
        with self.path.open("rb") as file:
            file.seek(place)
            content = json.loads(file.readline())
        if "tracks" in content:
            return _tracks(content["tracks"])
        return read_map(self.out / content["map"]) if "map" in content else _entities(content["entities"], size_hw)

    def _lines(self) -> Iterator[bytes]:
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from (line for line in file if line.endswith(b"\n"))

    def _append(self, content: Mapping[str, Any]) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(json.dumps(dict(content)).encode() + b"\n")
        except OSError as error:
            raise InputError(
                f"Cannot write {self.path}: {error.strerror}; the images before are kept, free some space or choose "
                "another out= and run it again."
            ) from error

    def _refuse_another(self, protocol: Mapping[str, Any]) -> None:
        wanted = json.loads(json.dumps(dict(self.protocol)))
        for name in {**wanted, **protocol}:
            here, there = wanted.get(name), protocol.get(name)
            if here != there:
                raise InputError(
                    f"{self.path} was made with {name}={there}, not {here}; choose another out=, or delete it."
                )


def missing_shards(parts: Sequence[PredictionPart], sample_ids: Sequence[SampleId]) -> list[str]:
    """The shards that lack a sample, each as ``i/n``; shard i has every n-th sample from the i-th on.

    Raises:
        InputError: a file is damaged, was made with another protocol, or holds a sample that it should not.
    """
    missing = []
    for part in parts:
        index, count = part.shard
        wanted, found = set(sample_ids[index - 1 :: count]), part.places().keys()
        if found - wanted:
            raise InputError(
                f"{part.path} holds {min(map(str, found - wanted))}, which is not of this shard of the set; "
                "choose another out=, or delete it."
            )
        if found != wanted:
            missing.append(f"{index}/{count}")
    return missing


def read_results(
    parts: Sequence[PredictionPart], samples: Sequence[Sample | ClipSample]
) -> Iterator[tuple[Sample | ClipSample, Result]]:
    """Every sample with its saved result, in the order of the samples, whichever shards they are in.

    Args:
        parts: all shards; none lacks a sample, see ``missing_shards``.
        samples: the set.

    Raises:
        InputError: a file is damaged, or was made with another protocol.
    """
    places = [part.places() for part in parts]
    for number, sample in enumerate(samples):
        shard = number % len(parts)
        yield sample, parts[shard].read(places[shard][sample_id(sample)], sample.size_hw)


def _records(entities: Entities) -> list[dict[str, Any]]:
    """The inverse of ``_entities``."""
    columns = entities.labels.tolist(), entities.scores.tolist(), entities.rles
    return [{"label": label, "score": score, "segmentation": encoded} for label, score, encoded in zip(*columns)]


def _entities(records: Sequence[Mapping[str, Any]], size_hw: tuple[int, int]) -> Entities:
    """The entities of an image from their records, in the order of these."""
    labels, scores, rles = ([record[name] for record in records] for name in ("label", "score", "segmentation"))
    return Entities.from_rles(size_hw, rles, scores, labels, sort=False)


def _track_records(result: ClipResult) -> list[dict[str, Any]]:
    """The inverse of ``_tracks``."""
    columns = (column.tolist() for column in (result.track_ids, result.labels, result.scores))
    names = ("track_id", "label", "score", "segmentations")
    return [dict(zip(names, row)) for row in zip(*columns, result.rles, strict=True)]


def _tracks(records: Sequence[Mapping[str, Any]]) -> ClipResult:
    """The tracks of a clip from their records, in the order of these."""
    names = ("segmentations", "track_id", "label", "score")
    rles, track_ids, labels, scores = ([record[name] for record in records] for name in names)
    return ClipResult.of(rles, track_ids=track_ids, labels=labels, scores=scores)


def _parsed(line: bytes, path: Path, number: int) -> dict:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InputError(f"Line {number} of {path} is damaged; delete the file and run it again.") from error


def _cut_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))
