"""The distributions of a dataset as plots: resolutions and entities per image (Figure 3), convexity, simplicity."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cropformer import InputError, atomic_path
from entitytransfer.stats import SetMeasures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTS_NAME = "stats.png"
_BINS = 40
_COLOR = "#3b6ea5"


def require_matplotlib() -> None:
    """Prove, before any work is done, that plots can be drawn.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError("The plots need matplotlib; run `pip install 'cropformer[plots]'`.") from error


def draw_distributions(measures: SetMeasures, path: Path, *, title: str) -> None:
    """Draw four histograms into one PNG, a dashed line at the mean of each.

    Raises:
        InputError: matplotlib is not installed, or the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    shares = np.linspace(0, 1, _BINS + 1)
    sides = np.linspace(0, measures.resolutions.max(), _BINS + 1)
    counts = np.arange(measures.entities.max() + 2) - 0.5  # one bar for each number of entities
    figure = Figure(figsize=(9, 6), layout="constrained")
    figure.suptitle(f"{title}: {len(measures.entities)} images, {len(measures.convexities)} entities")
    (resolution, number), (convexity, simplicity) = figure.subplots(2, 2)
    _draw(resolution, measures.resolutions, sides, label="image resolution, sqrt(height x width) in pixels")
    _draw(number, measures.entities, counts, label="entities per image")
    _draw(convexity, measures.convexities, shares, label="convexity of entities (complexity in Table 2)")
    _draw(simplicity, measures.simplicities, shares, label="simplicity of entities")
    for panel in (resolution, number):
        panel.set_ylabel("share of images")
    for panel in (convexity, simplicity):
        panel.set_ylabel("share of entities")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)


def _draw(panel: "Axes", values: np.ndarray, bins: np.ndarray, *, label: str) -> None:
    mean = float(values.mean(dtype=np.float64))
    panel.hist(values, bins=bins, weights=np.full(len(values), 1 / len(values)), color=_COLOR)
    panel.axvline(mean, color="black", linestyle="--", linewidth=1, label=f"mean {mean:.4g}")
    panel.set_xlabel(label)
    panel.legend(frameon=False)
    panel.spines[["top", "right"]].set_visible(False)
