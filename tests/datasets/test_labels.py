import pytest

from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.datasets.labels import label_parser, parse_binary


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("normal", "hemorrhage"),
        ("Normal", "Hemorrhage"),
        ("0", "1"),
        ("0.0", "1.0"),
        ("no_hemorrhage", "ich"),
        ("healthy", "subdural"),
        ("other", "bleed"),
    ],
)
def test_known_names(negative, positive):
    to_label = label_parser({negative, positive})
    assert (to_label(negative), to_label(positive)) == (0, 1)


@pytest.mark.parametrize("positive", ["cats", "normal"])
def test_positive_overrides_names(positive):
    to_label = label_parser({positive, "hemorrhage"}, positive)
    assert (to_label("hemorrhage"), to_label(positive)) == (0, 1)


@pytest.mark.parametrize("label", ["2", "maybe", "", "nan", "-1"])
def test_rejects_labels_outside_the_classes(label):
    with pytest.raises(ValueError, match="outside the two classes, 0 and 1"):
        label_parser({"0", "1", label})(label)


def test_unknown_names_need_positive():
    with pytest.raises(OptionError, match="classes .cats, dogs. has a name.* --positive NAME"):
        label_parser({"cats", "dogs"})


def test_rejects_a_positive_class_that_does_not_occur():
    with pytest.raises(OptionError, match="--positive cows: no such class. Pass one of cats, dogs"):
        label_parser({"cats", "dogs"}, "cows")


def test_rejects_a_third_class_in_addition_to_positive():
    with pytest.raises(DataError, match="clear, sah, tumor.: there must be two"):
        label_parser({"sah", "clear", "tumor"}, "sah")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1", 1), ("1.0", 1), ("2", None), ("", None), ("nan", None), ("yes", None)],
)
def test_parse_binary(text, value):
    assert parse_binary(text) == value
