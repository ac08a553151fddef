"""What the ``evaluate`` command can be told."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cropformer import InputError, TestSettings, parse_memory


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """How clips are cut into windows, see `VideoSegmenter`.

    Attributes:
        window: frames that the model sees at once; None = the whole clip.
        overlap: frames that consecutive windows share.
        memory: windows that an entity may be out of sight and still get its id back.
    """

    window: int | None = 4
    overlap: int = 1
    memory: int = 10


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How to predict, and where to write; None leaves a number to the weights' own test settings.

    Attributes:
        out: folder for predictions and metrics.
        weights: "nano", a published name, an ``hf://`` address, or a path; with a peer, where its own are.
        peer: a published method in place of our weights, see ``peers.open_peer``; None for ours.
        peer_options: of its own.
        device: "auto" (CUDA where there is one, else CPU), or a name that torch knows.
        precision: of the network's matrix products.
        max_memory: bound on the memory of network and fusion, such as "2GB"; the result does not depend on it.
        workers: threads that read photos.
        crops: crops beside the full view, 0 for none.
        short_side: pixels of the shorter side of a view.
        max_side: bound on its longer side.
        crop_ratio: side of a crop over the side of the image.
        head: options of the dataset's head by name, such as min_score; None and those left out are the head's own.
            The weights' own bound of scores is for looking at results, and is not taken.
        shard: (i, n), predict every n-th image or clip from the i-th on.
        clip: of sets of clips.

    Raises:
        InputError: an impossible shard, bound or number of workers.
    """

    out: Path
    weights: str = "nano"
    peer: str | None = None
    peer_options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    max_memory: str | int | None = None
    workers: int = 2
    crops: int | None = None
    short_side: int | None = None
    max_side: int | None = None
    crop_ratio: float | None = None
    head: Mapping[str, Any] = field(default_factory=dict)
    shard: tuple[int, int] = (1, 1)
    clip: ClipOptions = ClipOptions()

    def __post_init__(self) -> None:
        """Refuse what no set could make sense of."""
        parse_memory(self.max_memory)
        index, count = self.shard
        if not 1 <= index <= count:
            raise InputError(f"There is no shard {index}/{count}; give i/n with i from 1 to n.")
        if self.workers < 1:
            raise InputError(f"workers={self.workers} leaves nobody to read photos; give at least 1.")

    def sizes(self, of_weights: TestSettings) -> dict[str, Any]:
        """Crops and sizes of the views: the weights' own, with those that are given here in their place."""
        names = ("crops", "short_side", "max_side", "crop_ratio")
        given = {name: getattr(self, name) for name in names}
        return {name: getattr(of_weights, name) if value is None else value for name, value in given.items()}
