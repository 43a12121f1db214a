from __future__ import annotations

import pickle
import re
from dataclasses import replace

import pytest

import hemorrhage_tf as htf


@pytest.fixture
def predicted(model, series):
    return model.predict(series)


def test_shows_scans_slices_and_images_with_the_scale(predicted):
    html = predicted._repr_html_()
    assert html.count("<img ") == 3  # the slices to look at
    for place in predicted.scans[0].top_positions:
        assert f"place {place} of 5" in html
    for one in predicted:
        assert one.path in html and f"{one.final_probability:.3f}" in html
    assert "Evidence above the threshold" in html
    assert not re.search(r"<script|https?:", html)


def test_files_that_are_gone_are_named_instead_of_shown(predicted, series):
    for path in series:
        path.unlink()
    html = predicted._repr_html_()
    assert "<img " not in html and html.count("not available") == 3


def test_without_previews_there_is_a_table(predicted):
    plain = replace(predicted, previews=None)
    assert plain == predicted  # they are no part of the result
    html = plain._repr_html_()
    assert "<img " not in html and "not available" not in html and predicted[0].path in html


def test_a_pickled_prediction_leaves_the_model_behind(predicted):
    loaded = pickle.loads(pickle.dumps(predicted))
    assert loaded == predicted and loaded.previews is None


def test_names_are_escaped():
    name = "<script>alert(1)</script>"
    one = htf.SlicePrediction(name, probability=0.9, is_hemorrhage=True, warning="<b>")
    html = htf.Prediction(slices=(one,) * 30, scans=())._repr_html_()
    assert "<script" not in html and "<b>" not in html
    assert html.count("&lt;script&gt;") == 20 and "10 more slices" in html
