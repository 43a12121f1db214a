from __future__ import annotations

import math

import pytest

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.evaluation import plots
from hemorrhage_tf.evaluation.plots.history import final_values, group_trainings, has_line

ROWS = [
    {"repeat": "1", "fold": fold, "stage": stage, "loss": f"{loss}", "validation_loss": ""}
    for fold in "12"
    for stage, loss in (("head", 0.9), ("head", 0.5), ("fine_tune", 0.4))
]


def test_draws_one_line_per_training_and_marks_stages(axes):
    plots.plot_history(ROWS, ax=axes)
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert [list(line.get_ydata()) for line in lines] == [[0.9, 0.5, 0.4]] * 2
    assert [text.get_text() for text in axes.texts] == [" fine-tune"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training"]


def test_accepts_the_history_of_keras(axes):
    class History:
        history = {"loss": [0.7, 0.5], "val_loss": [0.8, 0.6]}

    plots.plot_history(History(), ax=axes)
    assert [list(line.get_ydata()) for line in axes.lines] == [[0.7, 0.5], [0.8, 0.6]]
    assert axes.lines[1].get_linestyle() == "--"


def test_two_models_have_different_lines(axes):
    plots.plot_history({"a": {"loss": [2, 1]}, "b": {"loss": [3, 1]}}, ax=axes)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "a, training",
        "b, training",
    ]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()


def test_skips_missing_values(axes):
    rows = [{"loss": "0.5"}, {"loss": ""}, {"loss": math.nan}, {"loss": "0.25"}]
    plots.plot_history(rows, ax=axes)
    assert list(axes.lines[0].get_xdata()) == [1, 4]
    assert final_values(rows, "loss") == {"training": 0.25}


@pytest.mark.parametrize("rows", [[], [{"loss": 1.0}], [{"accuracy": 1}, {"accuracy": 2}]])
def test_an_error_names_the_columns(rows):
    assert not has_line(rows, "loss")
    with pytest.raises(DataError, match="no training has two epochs with it. The history has"):
        plots.plot_history(rows)


def test_something_else_is_an_error():
    with pytest.raises(DataError, match="int: has no history of epochs"):
        plots.plot_history(3)


def test_groups_epochs_by_repeat_and_fold():
    rows = [{"repeat": "1", "fold": fold, "epoch": epoch} for epoch in (1, 2) for fold in "12"]
    assert [[row["fold"] for row in one] for one in group_trainings(rows)] == [
        ["1", "1"],
        ["2", "2"],
    ]
