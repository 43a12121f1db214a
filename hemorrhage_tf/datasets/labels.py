"""Class labels as text, and their conversion to 0 and 1."""

from __future__ import annotations

from collections.abc import Callable

from hemorrhage_tf.core.errors import DataError, OptionError

POSITIVE_NAMES = frozenset(
    {"hemorrhage", "hemorrhagic", "haemorrhage", "haemorrhagic", "bleed", "ich", "positive"}
)
NEGATIVE_NAMES = frozenset({"normal", "no_hemorrhage", "negative", "healthy", "none"})


def label_parser(names: set[str], positive: str | None = None) -> Callable[[str], int]:
    """Return the function that converts a label to 0 or 1.

    Args:
        names: All labels that occur.
        positive: The label that means hemorrhage, if it is not a known name. Defaults to None.

    Returns:
        A function of the label's text. It raises ValueError for a label outside the two classes.

    Raises:
        DataError: There are more than two classes although `positive` is given.
        OptionError: `positive` is not among the names, or is needed.
    """
    if positive is not None:
        if positive not in names:
            raise OptionError(
                f"--positive {positive}: no such class. Pass one of {', '.join(sorted(names))}."
            )
        if len(names) > 2:
            raise DataError(
                f"{len(names)} classes ({', '.join(sorted(names))}): there must be two. Leave the "
                "others out of the data."
            )
        return lambda text: int(text == positive)

    lowered = {name.lower() for name in names}
    known = POSITIVE_NAMES | NEGATIVE_NAMES
    if not any(parse_binary(name) is not None or name in known for name in lowered):
        raise OptionError(
            f"none of the classes ({', '.join(sorted(names)) or 'none'}) has a name that is known "
            "to mean hemorrhage. Pass --positive NAME to name the positive class."
        )

    def to_label(text: str) -> int:
        lower = text.lower()
        binary = parse_binary(lower)
        if binary is not None:
            return binary
        if lower in POSITIVE_NAMES:
            return 1
        if lower in NEGATIVE_NAMES or (len(lowered) == 2 and lowered & POSITIVE_NAMES):
            return 0
        if len(lowered) == 2 and lowered & NEGATIVE_NAMES:
            return 1
        raise ValueError(f"the label {text!r} is outside the two classes, 0 and 1")

    return to_label


def parse_binary(text: str) -> int | None:
    """Return 0 or 1 for text such as "0", "1" or "1.0", None for any other."""
    if text in ("0", "1"):
        return int(text)
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value in (0.0, 1.0) else None
