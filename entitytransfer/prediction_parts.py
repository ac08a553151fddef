"""Predictions of a set, shard by shard: a file that a killed run goes on with, and the joining of all shards.

A shard is one file of JSON lines: what the predictions were made with, then one line for each image. A line that was
being written when the run was killed is cut off by the next run.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cropformer import Entities, InputError, atomic_path

ImageId = int | str


@dataclass(frozen=True)
class PredictionPart:
    """The predictions of one shard on disk.

    Attributes:
        folder: where the shards are.
        shard: (i, n), the i-th of n; i counts from 1.
        protocol: what the predictions depend on, as JSON; predictions of another protocol are refused.
    """

    folder: Path
    shard: tuple[int, int]
    protocol: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / f"part-{self.shard[0]}-of-{self.shard[1]}.jsonl"

    def siblings(self) -> "list[PredictionPart]":
        """All shards of the set, this one among them."""
        count = self.shard[1]
        return [PredictionPart(self.folder, (index, count), self.protocol) for index in range(1, count + 1)]

    def resume(self) -> set[ImageId]:
        """Make the file ready to be added to, and give the ids of the images that it has.

        Raises:
            InputError: the file is damaged, or was made with another protocol.
        """
        if self.path.exists():
            _cut_torn_line(self.path)
        if not self.path.exists() or not self.path.stat().st_size:
            self._append(self.protocol)
        return self.image_ids()

    def add(self, image_id: ImageId, entities: Entities) -> None:
        """Add one image's entities; they are on disk when this returns."""
        self._append({"image_id": image_id, "results": entities.to_coco(image_id)})

    def image_ids(self) -> set[ImageId]:
        """Ids of the images that the file has; none if there is no file. Errors as in ``resume``."""
        return {image_id for image_id, _ in self.images()} if self.path.exists() else set()

    def images(self) -> Iterator[tuple[ImageId, list[dict]]]:
        """Id and COCO results of each image, in the order of the file; an image that is there twice is given once.

        A torn last line is passed over. Errors as in ``resume``.
        """
        seen: set[ImageId] = set()
        with self.path.open("rb") as file:
            lines = (line for line in file if line.endswith(b"\n"))
            for number, line in enumerate(lines, start=1):
                content = _parsed(line, self.path, number)
                if number == 1:
                    self._refuse_another(content)
                elif content["image_id"] not in seen:
                    seen.add(content["image_id"])
                    yield content["image_id"], content["results"]

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


def missing_shards(parts: Sequence[PredictionPart], image_ids: Sequence[ImageId]) -> list[str]:
    """The shards that lack an image, each as ``i/n``; shard i has every n-th image from the i-th on.

    Raises:
        InputError: a file is damaged, was made with another protocol, or holds an image that it should not.
    """
    missing = []
    for part in parts:
        index, count = part.shard
        wanted, found = set(image_ids[index - 1 :: count]), part.image_ids()
        if found - wanted:
            raise InputError(
                f"{part.path} holds image {min(map(str, found - wanted))}, which is not of this shard of the set; "
                "choose another out=, or delete it."
            )
        if found != wanted:
            missing.append(f"{index}/{count}")
    return missing


def merge_parts(parts: Sequence[PredictionPart], path: Path) -> None:
    """Write the results of all shards as one COCO results file, image by image."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        separator = "["
        for part in parts:
            for _, results in part.images():
                for result in results:
                    file.write(separator + json.dumps(result))
                    separator = ",\n"
        file.write("[]" if separator == "[" else "]")


def entities_of(results: Sequence[Mapping[str, Any]], size_hw: tuple[int, int]) -> Entities:
    """The entities of an image of this size from its COCO results: the inverse of ``Entities.to_coco``."""
    rles = [result["segmentation"] for result in results]
    scores = [result["score"] for result in results]
    labels = [result["category_id"] - 1 for result in results]
    return Entities.from_rles(size_hw, rles, scores, labels, sort=False)


def _parsed(line: bytes, path: Path, number: int) -> dict:
    try:
        return json.loads(line)
    except ValueError as error:
        raise InputError(f"Line {number} of {path} is damaged; delete the file and run it again.") from error


def _cut_torn_line(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))
