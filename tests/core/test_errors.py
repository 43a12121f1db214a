from __future__ import annotations

from hemorrhage_tf.core.errors import DataError, OptionError, Problem, SliceError


def test_one_error_lists_all_problems():
    problems = [Problem("a.png", "is empty"), SliceError("b.dcm", "has no pixels").problem]
    error = DataError.of_problems("2 files cannot be read:", problems, "Pass --skip-invalid.")
    assert str(error).splitlines() == [
        "2 files cannot be read:",
        "  a.png: is empty",
        "  b.dcm: has no pixels",
        "Pass --skip-invalid.",
    ]


def test_exit_codes_separate_options_from_data():
    assert (OptionError.exit_code, DataError.exit_code, SliceError.exit_code) == (2, 1, 1)
