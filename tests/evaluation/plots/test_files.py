from __future__ import annotations

import re
import subprocess
import sys

import pytest
from PIL import Image

from hemorrhage_tf.core.errors import OptionError, OutputError
from hemorrhage_tf.evaluation import plots
from hemorrhage_tf.evaluation.plots.files import (
    FORMATS,
    check_format,
    draw_figure,
    figure_bytes,
    write_figure,
)
from hemorrhage_tf.evaluation.plots.style import MODEL_STYLES


def draw(axes):
    plots.plot_score_histogram([0, 1], {"a": [0.1, 0.9], "b": [0.2, 0.8]}, ax=axes)


@pytest.mark.parametrize("form", FORMATS)
def test_same_content_has_the_same_bytes(form):
    first, again = (figure_bytes(draw_figure(draw, (2, 2)), form) for _ in range(2))
    assert first == again
    assert not re.search(rb"date|20[2-9]\d-", first, re.IGNORECASE)


def test_does_not_depend_on_the_settings_of_the_user():
    import matplotlib

    plain = figure_bytes(draw_figure(draw, (2, 2)), "svg")
    with matplotlib.rc_context({"font.size": 20, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert figure_bytes(draw_figure(draw, (2, 2)), "svg") == plain


def test_writes_an_image_of_600_dots_per_inch(tmp_path):
    path = tmp_path / "new" / "a.png"
    write_figure(path, draw_figure(draw, (2, 1)))
    with Image.open(path) as image:
        assert image.size == (1200, 600)
    assert list(path.parent.iterdir()) == [path]


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_figure(tmp_path / "file" / "a.png", draw_figure(draw, (2, 1)))


def test_an_unknown_format_is_an_error():
    with pytest.raises(OptionError, match="--format jpg: unknown. Pass png, pdf, svg."):
        check_format("jpg")


def test_models_differ_in_more_than_color():
    for part in ("color", "line", "marker", "hatch"):
        assert len({getattr(style, part) for style in MODEL_STYLES}) == len(MODEL_STYLES)


def test_importing_the_plots_does_not_import_matplotlib():
    code = "import hemorrhage_tf as htf, sys; htf.plots.plot_roc; htf.plots.plot_scan"
    code += "; assert not {'matplotlib', 'tensorflow'} & sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
