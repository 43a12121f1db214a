"""What a plot is made from: the predictions of one model or several, given in any form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation.areas import repeated_areas, roc_area
from hemorrhage_tf.evaluation.calibration import reliability_curve
from hemorrhage_tf.evaluation.intervals import plain_interval
from hemorrhage_tf.evaluation.labeled_predictions import DEFAULT_THRESHOLD, LabeledPredictions
from hemorrhage_tf.evaluation.metrics import confusion, decision_metrics, number_of_resamples
from hemorrhage_tf.evaluation.plots.style import MODEL_STYLES, ModelStyle
from hemorrhage_tf.evaluation.resampling import BOOTSTRAPS, Resamples
from hemorrhage_tf.evaluation.scan_metrics import main_level, metrics_by_level

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND_RESAMPLES = 500  # bootstrap resamples of a band


@runtime_checkable
class Evaluated(Protocol):
    """A `Run`, an `Evaluation`, or anything else with predictions and their metrics.

    Attributes:
        levels: The labeled predictions by level, "slices", "slices_in_scans" and "scans".
        metrics: As `Evaluation.metrics`.
    """

    @property
    def levels(self) -> Mapping[str, LabeledPredictions]:
        """The labeled predictions by level."""

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics of all levels."""


# A Run, an Evaluation, LabeledPredictions or labels; or several of them by the name of the model.
Data = Any


@dataclass(frozen=True, eq=False)
class PlottedModel:
    """One model of a plot.

    Attributes:
        name: In the legend; empty for the only model.
        predictions: Its labels and probabilities.
        known: Metrics that were computed before, as `metrics.binary_metrics` returns them; the
            others are computed when a plot needs them. Defaults to none.
    """

    name: str
    predictions: LabeledPredictions
    known: Mapping[str, Any] | None = None

    @cached_property
    def _checked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.predictions.check()

    @property
    def labels(self) -> np.ndarray:
        """int64 `(n,)`, 0 or 1."""
        return self._checked[0]

    @property
    def scores(self) -> np.ndarray:
        """float64 `(repeats, n)`, the probabilities."""
        return self._checked[1]

    @property
    def unit(self) -> str:
        """What the n are, "slices" or "scans"."""
        return self.predictions.unit

    @property
    def note(self) -> str | None:
        """A sentence for predictions that are all the same, or None."""
        scores = self.scores
        if scores.min() < scores.max():
            return None
        of = f" of {self.name}" if self.name else ""
        return f"every prediction{of} is {scores.flat[0]:.3g}"

    def resamples(self, most: int) -> Resamples:
        """Return at most so many resamples; large sets get fewer, as in their metrics."""
        n = len(self.labels)
        drawn = number_of_resamples(n, most)
        return Resamples.make(n, self.predictions.groups, drawn, unit=self.unit)

    @property
    def band_resamples(self) -> Resamples:
        """The resamples of a band."""
        return self.resamples(BAND_RESAMPLES)

    def metric(self, name: str) -> Mapping[str, Any] | None:
        """Return a metric with its interval, equal to that of `metrics.binary_metrics`.

        Args:
            name: "roc_auc", "pr_auc", "accuracy", "sensitivity", "specificity", "ppv" or "npv".

        Returns:
            Estimate, low, high and n; None where the metric is not defined.
        """
        if self.known is not None:
            return self.known.get(name)
        return self._metrics[name] if name not in ("roc_auc", "pr_auc") else self._areas(name)

    @cached_property
    def _metrics(self) -> dict[str, Any]:
        labels, _, predicted = self._checked
        intervals = decision_metrics(labels, predicted, self.resamples(BOOTSTRAPS))
        return {name: plain_interval(interval) for name, interval in intervals.items()}

    def _areas(self, name: str) -> Mapping[str, Any] | None:
        resamples = self.resamples(BOOTSTRAPS)
        if name == "roc_auc":
            return plain_interval(roc_area(self.labels, self.scores, resamples))
        return plain_interval(repeated_areas(self.labels, self.scores, resamples).pr_auc)

    @cached_property
    def confusion(self) -> Mapping[str, float]:
        """The counts of the four outcomes, means over the repeats."""
        if self.known is not None:
            counts: Mapping[str, float] = self.known["confusion"]
            return counts
        labels, _, predicted = self._checked
        each = [confusion(labels, repeat) for repeat in predicted]
        return {name: float(np.mean([one[name] for one in each])) for name in each[0]}

    @cached_property
    def reliability(self) -> Sequence[Mapping[str, Any]]:
        """The bins of `calibration.reliability_curve`."""
        if self.known is not None:
            bins: Sequence[Mapping[str, Any]] = self.known["calibration"]["reliability"]
            return bins
        return reliability_curve(self.labels, self.scores, self.resamples(BOOTSTRAPS))


def models_to_plot(
    data: Data,
    probabilities: Any = None,
    *,
    threshold: float | None = None,
    groups: Any = None,
    level: str | None = None,
) -> list[PlottedModel]:
    """Return the models that a plot is asked for.

    Args:
        data: A `Run`, an `Evaluation`, `LabeledPredictions`, or a mapping of names to these; or
            labels `(n,)`.
        probabilities: For labels `(n,)`, or `(repeats, n)`, in [0, 1]; or a mapping of names to
            these. Defaults to None.
        threshold: Of labels with probabilities. Defaults to 0.5.
        groups: `(n,)`, equal for slices of one patient, of labels with probabilities. Defaults to
            None.
        level: "slices", "slices_in_scans" or "scans" of a `Run` or `Evaluation`. Defaults to the
            level of its main metrics.

    Raises:
        DataError: Something else was passed, or the level is not there.
    """
    if probabilities is not None:
        named = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
        labels = np.asarray(data)
        return _checked(
            {
                name: PlottedModel(
                    str(name),
                    LabeledPredictions(
                        labels,
                        list(np.atleast_2d(np.asarray(scores, np.float64))),
                        DEFAULT_THRESHOLD if threshold is None else threshold,
                        groups=None if groups is None else np.asarray(groups),
                    ),
                )
                for name, scores in named.items()
            }
        )
    if threshold is not None or groups is not None:
        raise DataError(
            "threshold and groups belong to labels with probabilities, and none were passed. "
            "Leave them out: the model has its own."
        )
    models = data if isinstance(data, Mapping) else {"": data}
    return _checked({name: _model(str(name), one, level) for name, one in models.items()})


def _model(name: str, data: Data, level: str | None) -> PlottedModel:
    if isinstance(data, PlottedModel):
        return data
    if isinstance(data, LabeledPredictions):
        return PlottedModel(name, data)
    if not isinstance(data, Evaluated):
        raise DataError(
            f"{type(data).__name__}: cannot be plotted. Pass a Run, an Evaluation, or labels with "
            "probabilities."
        )
    metrics, levels = data.metrics, data.levels
    wanted = level or main_level(metrics)
    if wanted not in levels:
        raise DataError(
            f"level {wanted!r}: there are no predictions of it. Pass one of "
            f"{', '.join(map(repr, levels)) or 'none'}."
        )
    return PlottedModel(name, levels[wanted], metrics_by_level(metrics).get(wanted))


def _checked(models: Mapping[Any, PlottedModel]) -> list[PlottedModel]:
    if not 1 <= len(models) <= len(MODEL_STYLES):
        raise DataError(
            f"{len(models)} models: a plot shows 1 to {len(MODEL_STYLES)}, which can be told "
            "apart. Draw several plots."
        )
    for model in models.values():
        _ = model.labels  # checks the predictions before a figure is made
    return list(models.values())


def require_both_classes(models: Sequence[PlottedModel], plot: str) -> None:
    """Raise a DataError for labels of one class.

    Args:
        models: To be plotted.
        plot: What needs both, such as "A ROC curve".
    """
    for model in models:
        labels, unit = model.labels, model.unit
        if labels.min() == labels.max():
            present, missing = ("with", "without") if labels[0] else ("without", "with")
            raise DataError(
                f"{plot} needs {unit} with and without hemorrhage, and all {len(labels)} {unit} "
                f"are {present}. Add {unit} {missing} hemorrhage."
            )


def styled(models: Sequence[PlottedModel]) -> Iterator[tuple[PlottedModel, ModelStyle]]:
    """Yield each model with its style."""
    yield from zip(models, MODEL_STYLES, strict=False)


def describe(model: PlottedModel, name: str, metric: Mapping[str, Any] | None) -> str:
    """Return the legend of a model: "first: AUC 0.93 (0.88 to 0.96)"."""
    prefix = f"{model.name}: " if model.name else ""
    if metric is None:
        return f"{prefix}{name} not available"
    low, high = metric["low"], metric["high"]
    return f"{prefix}{name} {metric['estimate']:.3f} ({low:.3f} to {high:.3f})"


def join_notes(models: Sequence[PlottedModel]) -> str:
    """Return what a reader must know of the predictions; empty for ordinary ones."""
    return "; ".join(model.note for model in models if model.note)


def add_legend(
    axes: Axes,
    place: Literal["best", "lower left", "lower right", "upper right"],
    models: Sequence[PlottedModel],
) -> None:
    """Add the legend, with what a reader must know of the predictions as its title.

    Args:
        axes: With the plot.
        place: As matplotlib names it.
        models: That are plotted.
    """
    # Without these two, matplotlib warns where no line has a label.
    handles, names = axes.get_legend_handles_labels()
    title = join_notes(models) or None
    axes.legend(handles, names, loc=place, title=title, title_fontsize="small")
