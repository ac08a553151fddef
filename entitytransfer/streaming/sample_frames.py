"""A clip of a dataset as a stream of frames, like that of a file that `VideoReader` reads."""

from collections.abc import Iterator

from cropformer import InputError
from entitytransfer.clip_sample import ClipSample
from entitytransfer.readers.clip import Frame, Range
from entitytransfer.readers.image_folder import FOLDER_FPS


class SampleFrames:
    """Context manager and iterable of `Frame`; arguments and attributes are those of `VideoReader`.

    A frame that cannot be read raises: the results of a dataset have every frame.

    Raises:
        InputError: the range holds no frame.
    """

    fps = FOLDER_FPS
    warning: str | None = None
    tally: tuple[int, float | None] = (0, None)

    def __init__(
        self, sample: ClipSample, *, stride: int = 1, start_frame: int = 0, end_frame: int | None = None
    ) -> None:
        wanted = Range(start_frame, end_frame, stride=stride)
        self._sample = sample
        self._indices = range(len(sample.frame_paths))[wanted.start_frame : wanted.end_frame : wanted.stride]
        if not self._indices:
            raise InputError(
                f"Clip {sample.clip_id} has {len(sample.frame_paths)} frames and none in the range from {start_frame} "
                f"to {end_frame}; choose others."
            )
        self.size_hw = sample.size_hw
        self.expected_frames = len(self._indices)

    def __enter__(self) -> "SampleFrames":
        """Give the frames themselves."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Nothing is open."""

    def __iter__(self) -> Iterator[Frame]:
        """Decode the frames of the range in order."""
        return self.frames_from(0)

    def frames_from(self, index: int) -> Iterator[Frame]:
        """See `VideoReader.frames_from`."""
        for number in (number for number in self._indices if number >= index):
            yield Frame(number, number / self.fps, self._sample.read_frame(number))
