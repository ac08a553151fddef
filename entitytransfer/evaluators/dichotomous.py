"""The measures of dichotomous segmentation (DIS5K): a grey map for each image, compared with one mask."""

from dataclasses import dataclass

import numpy as np

from entitytransfer.evaluators.human_correction import EPSILON, RELAX, CorrectionEffort, human_correction_effort
from entitytransfer.evaluators.map_histograms import (
    adaptive_counts,
    count_values,
    e_measure,
    f_measure,
    mean_absolute_error,
    s_measure,
    stretched_values,
    threshold_counts,
)
from entitytransfer.evaluators.weighted_f import weighted_f
from entitytransfer.readers.label_png import FOREGROUND


@dataclass(frozen=True)
class MapMeasures:
    """What remains of an image once it is measured.

    Attributes:
        f_curve, e_curve: F and E at the grey thresholds 255, 254, ..., 0, float64 [256].
        adaptive_f, adaptive_e: at twice the mean of the map.
        weighted_f, s, absolute_error: one number each.
        effort: of correcting it by hand; None if that was not asked for.
    """

    f_curve: np.ndarray
    e_curve: np.ndarray
    adaptive_f: float
    adaptive_e: float
    weighted_f: float
    s: float
    absolute_error: float
    effort: CorrectionEffort | None


class DichotomousMeasures:
    """Collects image after image; their pixels are let go at once.

    Args:
        hce: whether the human correction effort is measured too.
        relax, epsilon: see `human_correction_effort`.
    """

    def __init__(self, *, hce: bool = True, relax: int = RELAX, epsilon: float = EPSILON) -> None:
        self._hce, self._relax, self._epsilon = hce, relax, epsilon
        self._images: list[MapMeasures] = []

    def update(self, prediction: np.ndarray, foreground: np.ndarray) -> None:
        """Measure one image and count it; see `measure` for the arguments."""
        self.add(self.measure(prediction, foreground))

    def measure(
        self, prediction: np.ndarray, foreground: np.ndarray, *, skeleton: np.ndarray | None = None
    ) -> MapMeasures:
        """Measure one image without counting it; threads may do that at the same time.

        Args:
            prediction: the map as it would be saved, uint8 [H,W].
            foreground: the mask, bool [H,W].
            skeleton: of the mask, bool [H,W], if it is known.

        Raises:
            ValueError: the arrays are not of these types, or not of one size.
        """
        check_map(prediction, foreground)
        if not self._hce:
            return measure_map(prediction, foreground)
        effort = human_correction_effort(
            prediction > FOREGROUND, foreground, skeleton=skeleton, relax=self._relax, epsilon=self._epsilon
        )
        return measure_map(prediction, foreground, effort=effort)

    def add(self, measures: MapMeasures) -> None:
        """Count one image."""
        self._images.append(measures)

    def compute(self, images: np.ndarray | None = None) -> dict[str, float]:
        """Average over images, then take the best or the mean threshold.

        Args:
            images: indices of the images to count, once for every time they are named; all if left out.

        Returns:
            maxF, wF, MAE, S, meanE in [0,1], HCE and its four parts in clicks per image if measured, and meanF, adpF,
            maxE, adpE in [0,1]; nan without an image.
        """
        chosen = self._images if images is None else [self._images[index] for index in images.tolist()]
        f_curve, e_curve = (_mean([getattr(one, name) for one in chosen]) for name in ("f_curve", "e_curve"))
        values = {"maxF": f_curve.max()}
        values |= {
            "wF": _mean([one.weighted_f for one in chosen]),
            "MAE": _mean([one.absolute_error for one in chosen]),
        }
        values |= {"S": _mean([one.s for one in chosen]), "meanE": e_curve.mean()}
        values |= _mean_efforts([one.effort for one in chosen]) if self._hce else {}
        values |= {"meanF": f_curve.mean(), "adpF": _mean([one.adaptive_f for one in chosen])}
        values |= {"maxE": e_curve.max(), "adpE": _mean([one.adaptive_e for one in chosen])}
        return {name: float(value) for name, value in values.items()}


def measure_map(
    prediction: np.ndarray, foreground: np.ndarray, *, effort: CorrectionEffort | None = None
) -> MapMeasures:
    """The five map measures of one image, with the effort of correcting it.

    Args:
        prediction: uint8 [H,W]; it is stretched to [0,1] unless it is of one grey.
        foreground: bool [H,W].
        effort: kept as it is.

    Raises:
        ValueError: the arrays are not of these types, or not of one size.
    """
    check_map(prediction, foreground)
    values = stretched_values(prediction)
    histograms = count_values(prediction, foreground, values)
    inside, pixels = int(np.count_nonzero(foreground)), foreground.size
    positives, adaptive = threshold_counts(histograms), adaptive_counts(histograms)
    return MapMeasures(
        f_curve=f_measure(positives, inside=inside),
        e_curve=e_measure(positives, inside=inside, pixels=pixels),
        adaptive_f=float(f_measure(adaptive, inside=inside)[0]),
        adaptive_e=float(e_measure(adaptive, inside=inside, pixels=pixels)[0]),
        weighted_f=weighted_f(values[prediction], foreground),
        s=s_measure(histograms),
        absolute_error=mean_absolute_error(histograms),
        effort=effort,
    )


def check_map(prediction: np.ndarray, foreground: np.ndarray) -> None:
    """Raise ValueError unless these are uint8 [H,W] and bool [H,W] of the same size, with pixels."""
    if prediction.dtype != np.uint8 or foreground.dtype != bool:
        raise ValueError(f"a map is uint8 and a mask bool, not {prediction.dtype} and {foreground.dtype}")
    if prediction.ndim != 2 or prediction.shape != foreground.shape or not prediction.size:
        raise ValueError(f"map and mask must have one size [H,W], not {prediction.shape} and {foreground.shape}")


def _mean(values: list[float] | list[np.ndarray]) -> np.ndarray:
    """Over images, [...]; nan without any."""
    return np.mean(values, axis=0) if values else np.array(np.nan)


def _mean_efforts(efforts: list[CorrectionEffort]) -> dict[str, float]:
    parts = {
        "HCE": [one.total for one in efforts],
        "HCE_FP_points": [one.false_positive_points for one in efforts],
        "HCE_FP_regions": [one.false_positive_regions for one in efforts],
        "HCE_FN_points": [one.false_negative_points for one in efforts],
        "HCE_FN_regions": [one.false_negative_regions for one in efforts],
    }
    return {name: _mean(counts) for name, counts in parts.items()}
