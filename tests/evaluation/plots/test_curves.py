from __future__ import annotations

import numpy as np
import pytest
from report_examples import draw_predictions
from sklearn import metrics as sk

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation import curves, plots
from hemorrhage_tf.evaluation.metrics import binary_metrics
from hemorrhage_tf.evaluation.resampling import Resamples

PLOTS = (plots.plot_roc, plots.plot_precision_recall, plots.plot_decision_curve)


def line_of(axes, index: int = 0):
    """Return the line of a model: the ones in the legend, without chance."""
    handles, _ = axes.get_legend_handles_labels()
    return handles[index].get_xdata(), handles[index].get_ydata()


def band_of(axes, index: int = 0):
    """Return the corners of a band."""
    return axes.collections[index].get_paths()[0].vertices


class TestRoc:
    def test_draws_the_points_of_scikit_learn(self, axes):
        labels, repeats = draw_predictions(n=80)
        plots.plot_roc(labels, repeats[0], ax=axes)
        x, y, _ = sk.roc_curve(labels, repeats[0], drop_intermediate=False)
        drawn = line_of(axes)
        assert drawn[0] == pytest.approx(x) and drawn[1] == pytest.approx(y)

    def test_draws_the_band_and_the_intervals_of_the_metrics(self, axes):
        labels, repeats = draw_predictions(n=80)
        groups = np.arange(80) // 4
        plots.plot_roc(labels, repeats[0], threshold=0.4, groups=groups, ax=axes)
        curve = curves.roc_curve(labels, repeats, Resamples.make(80, groups, 500))
        corners = band_of(axes)
        for x, edge in ((curve.grid, curve.low), (curve.grid, curve.high)):
            for corner in np.stack([x, edge], axis=1)[::20]:
                assert np.isclose(corners, corner, atol=1e-9).all(1).any()
        metrics = binary_metrics(labels, list(repeats), 0.4, groups=groups)
        area = metrics["roc_auc"]
        [text] = axes.get_legend_handles_labels()[1]
        assert text == f"AUC {area['estimate']:.3f} ({area['low']:.3f} to {area['high']:.3f})"
        sensitivity, specificity = metrics["sensitivity"], metrics["specificity"]
        across, up = (each.get_segments()[0] for each in axes.containers[0][2])
        assert across[:, 0] == pytest.approx([1 - specificity["high"], 1 - specificity["low"]])
        assert up[:, 1] == pytest.approx([sensitivity["low"], sensitivity["high"]])

    def test_takes_two_models_in_different_lines(self, axes):
        labels, repeats = draw_predictions(n=60, repeats=2)
        plots.plot_roc(labels, {"first": repeats[0], "second $x$": repeats[1]}, ax=axes)
        first, second = axes.get_legend_handles_labels()[0]
        assert first.get_linestyle() != second.get_linestyle()
        assert first.get_color() != second.get_color()
        assert "second $x$: AUC" in axes.get_legend().get_texts()[1].get_text()
        assert not axes.get_legend().get_texts()[1].get_parse_math()

    def test_two_calls_draw_on_the_same_axes(self, axes):
        labels, repeats = draw_predictions(n=20)
        assert plots.plot_roc(labels, repeats, ax=axes) is axes
        assert plots.plot_roc(labels, 1 - repeats, ax=axes) is axes

    def test_a_new_figure_is_one_column_wide(self):
        axes = plots.plot_roc([0, 1, 0, 1], [0.1, 0.6, 0.4, 0.9])
        assert axes.figure.get_size_inches()[0] == 3.5


class TestPrecisionRecall:
    def test_draws_points_of_scikit_learn_and_the_area_of_the_metrics(self, axes):
        labels, repeats = draw_predictions(n=80)
        plots.plot_precision_recall(labels, repeats[0], ax=axes)
        precision, recall, _ = sk.precision_recall_curve(labels, repeats[0])
        points = set(zip(recall.round(9), precision.round(9), strict=True))
        x, y = line_of(axes)
        assert set(zip(x[1:].round(9), y[1:].round(9), strict=True)) <= points
        area = binary_metrics(labels, list(repeats))["pr_auc"]
        [text] = axes.get_legend_handles_labels()[1]
        assert text == f"AUC {area['estimate']:.3f} ({area['low']:.3f} to {area['high']:.3f})"

    def test_has_no_point_where_nothing_is_predicted_hemorrhage(self, axes):
        plots.plot_precision_recall([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], ax=axes)
        assert not axes.containers


class TestDecisionCurve:
    def test_draws_the_net_benefit_beside_both_extremes(self, axes):
        labels, repeats = draw_predictions(n=80)
        plots.plot_decision_curve(labels, repeats[0], ax=axes)
        curve = curves.decision_curve(labels, repeats, Resamples.make(80, None, 500))
        names = axes.get_legend_handles_labels()[1]
        assert names == ["model", "hemorrhage for all", "hemorrhage for none"]
        assert line_of(axes)[1] == pytest.approx(curve.benefit)
        assert line_of(axes, 1)[1] == pytest.approx(curve.treat_all)


@pytest.mark.parametrize("plot", PLOTS)
class TestInput:
    def test_two_slices_are_enough(self, plot, axes):
        plot([0, 1], [0.2, 0.7], ax=axes)
        assert axes.lines

    def test_constant_predictions_are_named(self, plot, axes):
        plot([0, 1, 0, 1], [0.25] * 4, ax=axes)
        assert axes.get_legend().get_title().get_text() == "every prediction is 0.25"

    @pytest.mark.parametrize(("label", "text"), [(0, "without"), (1, "with")])
    def test_one_class_is_an_error_without_a_figure(self, plot, label, text):
        from matplotlib import pyplot

        with pytest.raises(DataError, match=f"all 3 slices are {text}. Add slices with"):
            plot([label] * 3, [0.1, 0.2, 0.3])
        assert not pyplot.get_fignums()

    def test_no_slices_are_an_error(self, plot):
        with pytest.raises(DataError, match="no predictions to evaluate"):
            plot([], [])


@pytest.mark.slow
@pytest.mark.parametrize("plot", PLOTS)
def test_accepts_100_000_slices(plot, axes):
    labels, repeats = draw_predictions(n=100_000)
    plot(labels, repeats[0], ax=axes)
    assert axes.collections
