"""TODO docstring."""

from __future__ import annotations

from collections.abc import Callable

from hemorrhage_tf.core.errors import DataError, OptionError

POSITIVE_NAMES = frozenset(
    {"hemorrhage", "hemorrhagic", "haemorrhage", "haemorrhagic", "bleed", "ich", "positive"}
)


NEGATIVE_NAMES = frozenset({"normal", "no_hemorrhage", "negative", "healthy", "none"})


def _label_parser(names: set[str], positive: str | None) -> Callable[[str], int]:
    """Makes the function from a label as written to 0 or 1; it raises ValueError on others."""
    if positive is not None:
        if positive not in names:
            raise OptionError(
                f"--positive {positive}: no such class. Received: {', '.join(sorted(names))}"
            )
        negatives = names - {positive}
        if len(negatives) > 1:
            raise DataError(
                "there must be two classes. Received: " + ", ".join(sorted(names)) + ". "
                "Leave the others out of the data."
            )

        def to_named_label(text: str) -> int:
            return int(text == positive)

        return to_named_label

    lowered = {name.lower() for name in names}
    if not any(
        _binary(name) is not None or name in POSITIVE_NAMES | NEGATIVE_NAMES for name in lowered
    ):
        raise OptionError(
            f"the classes are {', '.join(sorted(names)) or 'missing'}: say which one means "
            "hemorrhage with --positive NAME"
        )

    def to_label(text: str) -> int:
        lower = text.lower()
        binary = _binary(lower)
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


def _binary(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value in (0.0, 1.0) else None
