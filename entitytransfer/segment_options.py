"""What the ``segment`` command can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cropformer import InputError, parse_memory
from entitytransfer.inputs import FORMATS
from entitytransfer.readers.video import Backend


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How to segment and what to write; None leaves a number to the weights' own default.

    Attributes:
        out_dir: folder for the outputs, made if needed.
        formats: any of `FORMATS`; a photo and a clip take those that exist for them.
        weights: "nano", a published name, an ``hf://`` address, or a path.
        device: "auto" (CUDA where there is one, else CPU), or a name that torch knows.
        compile: compile the backbone first, which pays for many inputs of few sizes.
        crops: crops of a photo, 0 for its full view alone.
        short_side: pixels that the shorter side of a view is resized to.
        max_side: bound on its longer side.
        min_score: entities below it are left out.
        batch_size: photos of one canvas that go through the model at once.
        max_memory: bound on the memory that a photo takes in network and fusion, such as "2GB" or a number of bytes.
        precision: of the network's matrix products for photos.
        stride: every so-many-th frame of a clip.
        start_frame: first frame of a clip.
        end_frame: the frame before which to stop.
        start_s: the time in a clip before which no frame is taken.
        end_s: the time at which to stop.
        backend: what decodes video files.
        shard: (i, n), do the i-th of n equal parts; i counts from 1, and 0 means n.
        resume: skip inputs whose outputs all exist, whatever options made them.

    Raises:
        InputError: an unknown format, or an impossible shard.
    """

    out_dir: Path
    formats: frozenset[str] = frozenset(FORMATS)
    weights: str = "nano"
    device: str = "auto"
    compile: bool = False
    crops: int | None = None
    short_side: int | None = None
    max_side: int | None = None
    min_score: float | None = None
    batch_size: int = 1
    max_memory: str | int | None = None
    precision: Literal["fp32", "bf16"] = "fp32"
    stride: int = 1
    start_frame: int = 0
    end_frame: int | None = None
    start_s: float = 0.0
    end_s: float | None = None
    backend: Backend = "pyav"
    shard: tuple[int, int] = (1, 1)
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse what no input could make sense of."""
        unknown = sorted(self.formats - set(FORMATS))
        if unknown:
            raise InputError(f"There is no format {unknown[0]!r}; choose from {', '.join(FORMATS)}.")
        parse_memory(self.max_memory)
        index, parts = self.shard
        if not 0 <= index <= parts or parts < 1:
            raise InputError(f"There is no shard {index}/{parts}; give i/n with i from 1 to n.")
