"""A folder of overlays, which are drawn once their slices are decided on."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from hemorrhage_tf.core.errors import OutputError
from hemorrhage_tf.imaging.readers import SliceRef
from hemorrhage_tf.inference.evidence import Decision, locate_evidence
from hemorrhage_tf.inference.overlay import SliceView, draw_color_bar

COLOR_BAR = "color_bar.png"


@dataclass(frozen=True)
class _Pending:
    """An overlay that is not drawn yet."""

    name: str
    view: SliceView
    cam: np.ndarray


class OverlayFolder:
    """A folder of overlays that appear all together, or not at all where an error ends the block.

    The slices of a scan are decided on together, when all of them are known; until then their
    images are kept in memory.

    Args:
        folder: Where the overlays go; created if missing. An overlay is named after its slice,
            `NAME.cam.png`, and numbered where a file in another folder has the same name. Their
            color bar is `color_bar.png`.
        contours: Draw contours instead of colors. Defaults to False.

    Raises:
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: Path, contours: bool = False) -> None:
        self._folder = folder
        self._contours = contours
        self._names: set[str] = set()
        self._pending: dict[int, _Pending] = {}
        self._partial: Path | None = None

    def add(self, index: int, ref: SliceRef, view: SliceView, cam: np.ndarray) -> str:
        """Add an overlay, and return the path that it will have.

        Args:
            index: Number of the slice.
            ref: Where the slice is; the overlay is named after it.
            view: The slice.
            cam: float32 `(h, w)`, its class activation map.
        """
        name = self._new_name(ref)
        self._pending[index] = _Pending(name, view, cam)
        return str(self._folder / name)

    def draw_decided(self, decide: Callable[[int], Decision | None]) -> None:
        """Draw and store the overlays of the slices that are decided on.

        Args:
            decide: Returns the decision on a slice, by its number; None if it is still open.
        """
        for index in list(self._pending):
            decision = decide(index)
            if decision is not None:
                self._write(self._pending.pop(index), decision)

    def _write(self, one: _Pending, decision: Decision) -> None:
        assert self._partial is not None
        overlay = one.view.draw(locate_evidence(one.cam, decision), self._contours)
        try:
            overlay.save(self._partial / one.name, "PNG")
        except OSError as error:
            raise self._error(error) from None

    def _new_name(self, ref: SliceRef) -> str:
        stem = ref.path.name if ref.frame is None else f"{ref.path.name}.{ref.frame:04d}"
        name, number = f"{stem}.cam.png", 1
        while name in self._names:
            number += 1
            name = f"{stem}.{number}.cam.png"
        self._names.add(name)
        return name

    def __enter__(self) -> OverlayFolder:
        place = self._folder
        while not place.exists() and place != place.parent:
            place = place.parent
        try:
            self._partial = Path(tempfile.mkdtemp(prefix=".overlays.", suffix=".part", dir=place))
        except OSError as error:
            raise self._error(error) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._partial is not None
        try:
            if kind is None:
                draw_color_bar(self._contours).save(self._partial / COLOR_BAR, "PNG")
                self._folder.mkdir(parents=True, exist_ok=True)
                for name in sorted(os.listdir(self._partial)):
                    os.replace(self._partial / name, self._folder / name)
        except OSError as failure:
            raise self._error(failure) from None
        finally:
            shutil.rmtree(self._partial, ignore_errors=True)

    def _error(self, error: OSError) -> OutputError:
        return OutputError(
            f"--cam {self._folder}: cannot be written ({error.strerror or error}). "
            "Name a folder that can be written."
        )
