"""Draw the pictures of the docs: `pip install '.[docs]' && python docs/draw_plots.py [NAME...]`.

Each function below writes the picture of its name into the folder `images`. Slices are phantoms.
`report` needs Chromium.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sandbox import write_volume
from scipy.stats import binomtest

import hemorrhage_tf as htf
from hemorrhage_tf.evaluation.plots.style import plot_style
from hemorrhage_tf.imaging.windows import WINDOWS
from hemorrhage_tf.synthesis.draw import draw_phantom
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES

HERE = Path(__file__).parent
IMAGES = HERE / "images"
WORK = tempfile.TemporaryDirectory()
PHANTOMS = 160  # that the metrics are computed on
SCREEN = {"figure.dpi": 100, "font.size": 8}


def save(figure: plt.Figure, name: str) -> None:
    """Write a picture, which is the same in the dark theme."""
    figure.savefig(IMAGES / f"{name}.png", dpi=150, bbox_inches="tight", facecolor="white")
    plt.close(figure)


@functools.cache
def site() -> Path:
    """Draw the labeled phantoms that the metrics are computed on."""
    return htf.phantoms(Path(WORK.name, "site"), count=PHANTOMS, seed=11, size=256)


@functools.cache
def evaluation() -> htf.Evaluation:
    """Evaluate PhantomNet on `site`."""
    return htf.evaluate(site(), quiet=True)


@functools.cache
def scan_prediction() -> htf.Prediction:
    """Predict a phantom scan, with overlays."""
    path = Path(WORK.name, "volume.nii.gz")
    scan = htf.draw_phantom_scan(30, 1, 1, count=22, size=320)
    write_volume(path, scan, spacing=0.7)
    return htf.predict([path], cam=Path(WORK.name, "overlays"), quiet=True)


def phantoms() -> None:
    """Draw a row of heads from the neck to the vertex, and two rows of the subtypes."""
    heads = [draw_phantom(2, index, 0, size=256) for index in range(40)]
    heads.sort(key=lambda phantom: phantom.level)
    rows = [
        [(heads[at], f"level {heads[at].level:.2f}") for at in (1, 4, 10, 20, 33)],
        [(draw_phantom(4, 1, 1, size=256, subtype=name), name) for name in SUBTYPES],
        [(draw_phantom(4, 7, 1, size=256, subtype=name), name) for name in SUBTYPES],
    ]
    figure, axes = plt.subplots(3, 5, figsize=(12.5, 7.9))
    for row, panels in zip(rows, axes, strict=True):
        for (phantom, title), panel in zip(row, panels, strict=True):
            panel.imshow(WINDOWS["brain"].apply(phantom.hounsfield), "gray", vmin=0, vmax=255)
            if phantom.label:
                panel.contour(phantom.mask(), [0.5], colors="tab:red", linewidths=0.7)
            panel.set_title(title, fontsize=10)
            panel.axis("off")
    figure.tight_layout()
    figure.savefig(IMAGES / "phantoms.png", dpi=75)
    plt.close(figure)


def intervals() -> None:
    """Draw Wilson's interval of an accuracy of 95 % for sets of several sizes."""
    sizes = np.array([20, 40, 100, 200, 500, 2000])
    ends = [binomtest(round(0.95 * n), int(n)).proportion_ci(method="wilson") for n in sizes]
    shares = np.round(0.95 * sizes) / sizes
    with plot_style(SCREEN):
        figure, axes = plt.subplots(figsize=(7.1, 2.6))
        below = shares - [each.low for each in ends]
        above = [each.high for each in ends] - shares
        axes.errorbar(range(len(sizes)), shares, [below, above], fmt="o", capsize=4)
        for place, each in enumerate(ends):
            axes.annotate(f"{each.low:.0%} to {each.high:.0%}", (place, each.low), (0, -12),
                          textcoords="offset points", ha="center", fontsize=7)  # fmt: skip
        axes.set_xticks(range(len(sizes)), [f"{n:,}" for n in sizes])
        axes.set(xlabel="test slices", ylabel="accuracy", ylim=(0.7, 1.01), xlim=(-0.5, 5.5))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        save(figure, "intervals")


def scan() -> None:
    """Draw a scan of a phantom above the probabilities of its slices."""
    with plot_style(SCREEN):
        save(htf.plots.plot_scan(scan_prediction()).figure, "scan")


def banner() -> None:
    """Draw the scan beside the ROC curve of PhantomNet on phantoms."""
    with plot_style(SCREEN):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(10.6, 3.1), width_ratios=(2.6, 1), layout="constrained"
        )
        htf.plots.plot_scan(scan_prediction(), ax=left)
        htf.plots.plot_roc(evaluation(), ax=right).set_title(f"{PHANTOMS} phantoms")
        save(figure, "banner")


def roc() -> None:
    """Draw the ROC curve with its band."""
    save(htf.plots.plot_roc(evaluation()).figure, "roc")


def precision_recall() -> None:
    """Draw the precision-recall curve with its band."""
    save(htf.plots.plot_precision_recall(evaluation()).figure, "precision_recall")


def calibration() -> None:
    """Draw the reliability curve."""
    save(htf.plots.plot_calibration(evaluation()).figure, "calibration")


def score_histogram() -> None:
    """Draw the probabilities of both classes."""
    save(htf.plots.plot_score_histogram(evaluation()).figure, "score_histogram")


def confusion() -> None:
    """Draw the confusion matrix."""
    save(htf.plots.plot_confusion(evaluation()).figure, "confusion")


def decision_curve() -> None:
    """Draw the net benefit."""
    save(htf.plots.plot_decision_curve(evaluation()).figure, "decision_curve")


def slices() -> None:
    """Draw the slices of the scan with overlays."""
    save(htf.plots.plot_slices(list(scan_prediction())[6:18]).figure, "slices")


def report() -> None:
    """Take a screenshot of the top of a report."""
    page = Path(WORK.name, "report.html")
    htf.evaluate(site(), report=page, quiet=True)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("report.png needs Chromium: apt-get install chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    picture = IMAGES / "report.png"
    subprocess.run(
        [browser, *options, "--window-size=1100,900", f"--screenshot={picture}", page.as_uri()],
        check=True,
        capture_output=True,
    )


PICTURES: dict[str, Callable[[], None]] = {
    draw.__name__: draw
    for draw in (
        banner,
        scan,
        slices,
        roc,
        precision_recall,
        calibration,
        score_histogram,
        confusion,
        decision_curve,
        intervals,
        phantoms,
        report,
    )
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        PICTURES[name]()
        print(name, flush=True)
