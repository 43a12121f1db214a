from __future__ import annotations

import matplotlib
import pytest

from hemorrhage_tf.evaluation.plots.style import axes_to_draw_on, plot_style


@pytest.fixture(autouse=True)
def settings_stay():
    with matplotlib.rc_context():
        yield


def test_settings_of_the_user_come_back():
    matplotlib.rcParams["font.size"] = 17
    with plot_style({"font.size": 5}):
        assert matplotlib.rcParams["font.size"] == 5
    assert matplotlib.rcParams["font.size"] == 17


def test_a_backend_that_turns_interactive_drawing_on_keeps_it_on():
    matplotlib.interactive(False)
    with axes_to_draw_on(None):
        matplotlib.interactive(True)  # as that of notebooks does at the first figure
    assert matplotlib.is_interactive()


def test_settings_come_back_after_an_error():
    matplotlib.interactive(True)
    with pytest.raises(ValueError), plot_style():
        raise ValueError
    assert matplotlib.is_interactive()
