import pytest
from recorder import Recorder

from hemorrhage_tf.core.errors import DataError, Problem
from hemorrhage_tf.datasets.invalid_files import raise_or_skip_invalid


def problems(count):
    return [Problem(f"{number}.png", "is broken") for number in range(count)]


def test_does_nothing_without_problems():
    progress = Recorder()
    raise_or_skip_invalid([], progress, skip_invalid=False)
    assert progress.warnings == []


def test_raises_one_error_that_also_lists_input_warnings():
    with pytest.raises(DataError) as caught:
        raise_or_skip_invalid(problems(2), Recorder(), False, [Problem("a.dcm", "is a chest")])
    assert str(caught.value).splitlines() == [
        "These files or rows cannot be used (2):",
        "  0.png: is broken",
        "  1.png: is broken",
        "Fix or remove them, or pass --skip-invalid (skip_invalid=True) to continue without them.",
        "These may not be slices of a head CT (1):",
        "  a.dcm: is a chest",
    ]


def test_warns_and_continues_on_request():
    progress = Recorder()
    raise_or_skip_invalid(problems(3), progress, True, problems(25))
    skipped, unlikely = progress.warnings
    assert skipped == "skipped 3 invalid files or rows (--skip-invalid)."
    assert "(25)" in unlikely and "19.png" in unlikely and "20.png" not in unlikely
    assert unlikely.endswith("and 5 more")
