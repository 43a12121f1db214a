from __future__ import annotations

import numpy as np
import pytest
from report_examples import draw_predictions

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation import plots
from hemorrhage_tf.evaluation.metrics import binary_metrics

PLOTS = (plots.plot_calibration, plots.plot_score_histogram, plots.plot_confusion)


class TestCalibration:
    def test_draws_the_bins_and_intervals_of_the_metrics(self, axes):
        labels, repeats = draw_predictions(n=80)
        groups = np.arange(80) // 4
        plots.plot_calibration(labels, repeats[0], groups=groups, ax=axes)
        bins = binary_metrics(labels, list(repeats), groups=groups)["calibration"]["reliability"]
        line, _, (bars,) = axes.containers[0]
        assert line.get_xdata() == pytest.approx([each["predicted"] for each in bins])
        assert line.get_ydata() == pytest.approx([each["observed"]["estimate"] for each in bins])
        for segment, each in zip(bars.get_segments(), bins, strict=True):
            observed = each["observed"]
            assert segment[:, 1] == pytest.approx([observed["low"], observed["high"]])

    def test_bars_are_as_high_as_the_bins_are_large(self, axes):
        plots.plot_calibration([0, 0, 1, 1, 0, 1], [0.11, 0.12, 0.13, 0.14, 0.8, 0.9], ax=axes)
        heights = [patch.get_height() for patch in axes.patches]
        assert np.array(heights) / max(heights) == pytest.approx([1, 0.25, 0.25])

    def test_bars_of_two_models_do_not_overlap(self, axes):
        plots.plot_calibration([0, 1], {"a": [0.1, 0.9], "b": [0.12, 0.92]}, ax=axes)
        spans = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches)
        assert all(one[1] <= other[0] for one, other in zip(spans, spans[1:], strict=False))


class TestHistogram:
    @pytest.mark.parametrize("n", [2, 50, 100_000])
    def test_counts_every_slice(self, n, axes):
        labels, repeats = draw_predictions(n=n, repeats=2)
        plots.plot_score_histogram(labels, repeats, threshold=0.9, ax=axes)
        counts = [patch.get_data().values.sum() for patch in axes.patches]
        assert counts == pytest.approx([labels.sum(), labels.sum() - n])
        assert any(0.9 in line.get_xdata() for line in axes.lines)

    def test_axis_counts_downward_without_a_sign(self, axes):
        plots.plot_score_histogram([0, 1], [0.1, 0.9], ax=axes)
        assert axes.yaxis.get_major_formatter()(-5, 0) == "5"

    def test_names_two_models(self, axes):
        plots.plot_score_histogram([0, 1], {"a": [0.1, 0.9], "b": [0.2, 0.8]}, ax=axes)
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


class TestConfusion:
    def test_writes_counts_and_shares_of_rows(self, axes):
        labels, scores = [1] * 4 + [0] * 5, [0.9, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1]
        plots.plot_confusion(labels, scores, ax=axes)
        texts = [text.get_text() for text in axes.texts]
        assert texts == [
            "3\ndetected\n75%",
            "1\nmissed\n25%",
            "1\nfalse alarm\n20%",
            "4\ncorrect\n80%",
        ]

    def test_counts_are_means_over_repeats(self, axes):
        plots.plot_confusion([1, 0], [[0.9, 0.1], [0.1, 0.1]], ax=axes)
        assert axes.texts[0].get_text() == "0.5\ndetected\n50%"

    def test_matrices_of_two_models_stand_side_by_side(self, axes):
        plots.plot_confusion([1, 0], {"a": [0.9, 0.1], "b": [0.1, 0.1]}, ax=axes)
        names = {text.get_text(): text.get_position()[0] for text in axes.texts}
        assert names["a"] + 2 < names["b"]


@pytest.mark.parametrize("plot", PLOTS)
class TestInput:
    @pytest.mark.parametrize("label", [0, 1])
    def test_one_class_and_one_value_are_drawn(self, plot, label, axes):
        plot([label] * 3, [0.25] * 3, ax=axes)
        assert axes.patches

    def test_no_slices_are_an_error(self, plot):
        with pytest.raises(DataError, match="no predictions to evaluate"):
            plot([], [])

    def test_logits_are_an_error(self, plot):
        with pytest.raises(DataError, match="outside"):
            plot([0, 1], [-3.0, 2.0])


@pytest.mark.parametrize("plot", [plots.plot_calibration, plots.plot_score_histogram])
def test_constant_predictions_are_named(plot, axes):
    plot([0, 1, 0, 1], [0.25] * 4, ax=axes)
    assert axes.get_legend().get_title().get_text() == "every prediction is 0.25"
