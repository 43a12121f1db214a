"""What a terminal can show: colors, or plain text only."""

from __future__ import annotations

import os
from typing import Literal


def color_system() -> Literal["auto"] | None:
    """Return the colors that output may have, as rich names them; None for plain text.

    The output is plain for a dumb terminal, and wherever the variable NO_COLOR is set; files and
    pipes are plain in any case.

    Reference:
        https://no-color.org
    """
    is_dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return None if is_dumb or os.environ.get("NO_COLOR") else "auto"
