"""Pictures by torchcodec (extra ``torchcodec``), which needs FFmpeg's own libraries on the machine."""

from typing import TYPE_CHECKING

import numpy as np

from cropformer import InputError
from entitytransfer.readers.orientation import is_mirrored
from entitytransfer.readers.video_file import VideoFile

if TYPE_CHECKING:
    from torchcodec.decoders import VideoDecoder

_LOADING = "libtorchcodec"  # the import succeeds even where the library cannot be loaded; the first use tells


class TorchcodecSource:
    """A file opened by torchcodec, which turns pictures but does not mirror them.

    Raises:
        InputError: torchcodec is not installed or does not find FFmpeg, or the file wants its pictures mirrored.
    """

    def __init__(self, file: VideoFile) -> None:
        if is_mirrored(file.display_matrix):
            raise InputError(f"{file.path} is filmed in a mirror, which torchcodec does not undo; use pyav.")
        try:
            self._decoder = _open(file)
        except (ImportError, OSError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and _LOADING not in str(error):
                raise  # about the file
            raise InputError(
                'torchcodec is missing or finds no FFmpeg; install it with pip install "cropformer[torchcodec]", and '
                "FFmpeg with the system's package manager."
            ) from error

    def read(self, number: int) -> np.ndarray:
        """See `PictureSource.read`."""
        return self._decoder.get_frame_at(number).data.numpy()


def _open(file: VideoFile) -> "VideoDecoder":
    from torchcodec.decoders import VideoDecoder

    return VideoDecoder(str(file.path), stream_index=file.stream_index, dimension_order="NHWC", num_ffmpeg_threads=0)
