"""Maps of DIS5K as the official tools take them: ``NAME.png``, 8-bit grey; `readers.grey_maps` reads them back."""

from pathlib import Path

import numpy as np

from cropformer import InputError
from entitytransfer.predictions import ensure_writable, write_png


class MapWriter:
    """A folder of maps, one PNG for each image.

    Args:
        folder: made if needed.

    Raises:
        InputError: the folder takes no file.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = ensure_writable(folder)

    def write(self, image_id: str, prediction: np.ndarray) -> None:
        """Write the map of an image, replacing an older one.

        Args:
            image_id: the name of its ground truth without ending.
            prediction: uint8 [H,W], the size of the ground truth.

        Raises:
            InputError: the id is no file name, the array is no such map, or the file cannot be written.
        """
        if image_id[:1] in ("", ".") or Path(image_id).name != image_id:
            raise InputError(f"The image id {image_id!r} is no file name; give the name of its ground truth.")
        if prediction.dtype != np.uint8 or prediction.ndim != 2 or not prediction.size:
            shape = list(prediction.shape)
            raise InputError(f"The map of {image_id!r} is {prediction.dtype} {shape}, not uint8 [H,W]; convert it.")
        write_png(self._folder / f"{image_id}.png", prediction)
