"""Draw the plots in the folder `images`: `pip install matplotlib && python docs/draw_plots.py`.

`phantoms.png` shows phantoms at several levels and of the five subtypes; `pretraining.png` shows
the curves of `pretraining.csv`.
"""

import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from hemorrhage_tf.imaging.windows import WINDOWS
from hemorrhage_tf.synthesis.draw import draw_phantom
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES

HERE = Path(__file__).parent
IMAGES = HERE / "images"


def draw_phantoms() -> None:
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


def draw_curves() -> None:
    """Draw losses and accuracy over the steps of the pretraining."""
    with open(HERE / "pretraining.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    steps = np.array([int(row["step"]) for row in rows])
    figure, panels = plt.subplots(1, 3, figsize=(12.5, 3.2))
    titles = {
        "label_loss": "loss of the label",
        "map_loss": "loss of the maps",
        "accuracy": "accuracy on augmented training phantoms",
    }
    for (name, title), panel in zip(titles.items(), panels, strict=True):
        panel.plot(steps, [float(row[name]) for row in rows], linewidth=1)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("step of 32 phantoms")
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(IMAGES / "pretraining.png", dpi=75)


if __name__ == "__main__":
    draw_phantoms()
    if (HERE / "pretraining.csv").is_file():
        draw_curves()
