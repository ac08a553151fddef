"""What the ``segment`` command can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from cropformer import InputError, parse_memory
from entitytransfer.readers.clip import Range
from entitytransfer.readers.video import Backend
from entitytransfer.writers.formats import FORMATS, PANOPTIC_FORMATS

HeadName: TypeAlias = Literal["entity", "instance", "panoptic"]


@dataclass(frozen=True, kw_only=True)
class SegmentOptions:
    """How to segment and what to write; None leaves a number to the weights' own default.

    Attributes:
        out_dir: folder for the outputs, made if needed.
        formats: any of `FORMATS`; a photo and a clip take those that exist for them; `PANOPTIC_FORMATS` only with a
            panoptic head.
        weights: "nano", a published name, an ``hf://`` address, or a path.
        device: "auto" (CUDA where there is one, else CPU), or a name that torch knows.
        compile: compile the backbone first, which pays for many inputs of few sizes.
        crops: crops of a photo, 0 for its full view alone, which is usual for the frames of a clip.
        short_side: pixels that the shorter side of a view is resized to.
        max_side: bound on its longer side.
        min_score: entities below it are left out.
        batch_size: photos of one canvas that go through the model at once.
        max_memory: bound on the memory that a photo or the frames of a window take in network and fusion, such as
            "2GB" or a number of bytes.
        precision: of the network's matrix products.
        stride: every so-many-th frame of a clip.
        start_frame: first frame of a clip.
        end_frame: the frame before which to stop.
        start_s: the time in a clip before which no frame is taken.
        end_s: the time at which to stop.
        frames: the images of a folder are the frames of one clip, not photos.
        backend: what decodes video files.
        head: what the queries of the model mean in a clip, see `clip_heads`.
        window: frames of a clip that the model sees at once; None = all of a short clip.
        overlap: frames that consecutive windows share.
        memory: windows that an entity may be out of sight and keep its id.
        shard: (i, n), do the i-th of n equal parts; i counts from 1, and 0 means n.
        resume: skip inputs whose outputs all exist, whatever options made them, and go on with a clip after the last
            window of a run that was stopped.

    Raises:
        InputError: an unknown format or one that the head does not give, a range of frames that no clip can have, or an
            impossible shard.
    """

    out_dir: Path
    formats: frozenset[str] = frozenset(FORMATS) - PANOPTIC_FORMATS
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
    frames: bool = False
    backend: Backend = "pyav"
    head: HeadName = "entity"
    window: int | None = 4
    overlap: int = 1
    memory: int = 10
    shard: tuple[int, int] = (1, 1)
    resume: bool = False

    def __post_init__(self) -> None:
        """Refuse what no input could make sense of."""
        unknown = sorted(self.formats - set(FORMATS))
        if unknown:
            raise InputError(f"There is no format {unknown[0]!r}; choose from {', '.join(FORMATS)}.")
        refused = sorted(self.formats & PANOPTIC_FORMATS)
        if refused and self.head != "panoptic":
            raise InputError(f"The format {refused[0]} needs whole frames in regions; add --head panoptic.")
        parse_memory(self.max_memory)
        Range(self.start_frame, self.end_frame, self.start_s, self.end_s, self.stride)
        index, parts = self.shard
        if not 0 <= index <= parts or parts < 1:
            raise InputError(f"There is no shard {index}/{parts}; give i/n with i from 1 to n.")
