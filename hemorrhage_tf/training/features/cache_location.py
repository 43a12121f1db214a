"""Where the feature cache is, and how large it may be."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hemorrhage_tf.core.errors import OptionError

CACHE_VARIABLE = "HEMORRHAGE_TF_CACHE"


LIMIT_VARIABLE = "HEMORRHAGE_TF_CACHE_LIMIT"


DEFAULT_LIMIT = "20GB"


_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def cache_folder(given: str | Path | None = None) -> Path:
    """Finds the cache: as given, else `$HEMORRHAGE_TF_CACHE`, else the system's own place.

    The system's own place is `$XDG_CACHE_HOME/hemorrhage_tf` on Linux.
    """
    if given is not None:
        return Path(given)
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    import platformdirs

    return platformdirs.user_cache_path("hemorrhage_tf", appauthor=False)


def parse_size(text: str, option: str = "--cache-limit") -> int | None:
    """Reads a size such as "20GB" or "500 MB".

    Args:
        text: a number with B, KB, MB, GB or TB (powers of ten); "none" for no limit.
        option: what the error names.

    Returns:
        Bytes, or None for no limit.

    Raises:
        OptionError: it is something else.
    """
    cleaned = str(text).strip().upper().replace(" ", "")
    if cleaned == "NONE":
        return None
    for unit in sorted(_UNITS, key=len, reverse=True):
        number = cleaned.removesuffix(unit)
        if number != cleaned:
            with suppress(ValueError):
                size = float(number) * _UNITS[unit]
                if 0 <= size < 1e18:
                    return int(size)
            break
    raise OptionError(f"{option} {text}: accepted is a size such as 20GB or 500MB, or none")


def cache_limit(given: str | None = None) -> int | None:
    """Finds the size limit in bytes: as given, else `$HEMORRHAGE_TF_CACHE_LIMIT`, else 20 GB."""
    if given is not None:
        return parse_size(given)
    named = os.environ.get(LIMIT_VARIABLE)
    return parse_size(named, f"${LIMIT_VARIABLE}") if named else parse_size(DEFAULT_LIMIT)
