"""A progress whose warnings tests look at."""

from __future__ import annotations

from hemorrhage_tf.core.progress import Progress


class Recorder(Progress):
    """Prints nothing, and keeps the warnings."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.warnings: list[str] = []

    def warn(self, text: str, names: str = "") -> None:
        self.warnings.append(text + names)
