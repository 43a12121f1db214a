"""Where the feature cache is, and how large it may be."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hemorrhage_tf.core.errors import OptionError

CACHE_VARIABLE = "HEMORRHAGE_TF_CACHE"
LIMIT_VARIABLE = "HEMORRHAGE_TF_CACHE_LIMIT"
DEFAULT_LIMIT = "20GB"
MODELS = "models"  # the folder of `training.kept_models` in the cache

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def cache_folder(folder: str | Path | None = None) -> Path:
    """Return the folder of the feature cache.

    Args:
        folder: The folder, or None for `$HEMORRHAGE_TF_CACHE`, or else the system's cache folder:
            `$XDG_CACHE_HOME/hemorrhage_tf` on Linux. Defaults to None.
    """
    if folder is not None:
        return Path(folder)
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    import platformdirs

    return platformdirs.user_cache_path("hemorrhage_tf", appauthor=False)


def parse_size(text: str, option: str = "--cache-limit") -> int | None:
    """Parse a size such as "20GB" or "500 MB".

    Args:
        text: A number with B, KB, MB, GB or TB (powers of ten), or "none" for no limit.
        option: The option that an error names. Defaults to "--cache-limit".

    Returns:
        Bytes, or None for no limit.

    Raises:
        OptionError: The text is not a size.
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
    raise OptionError(f"{option} {text}: is not a size. Pass one such as 20GB or 500MB, or none.")


def cache_limit(limit: str | None = None) -> int | None:
    """Return the size limit of the feature cache in bytes, or None for no limit.

    Args:
        limit: The limit, see `parse_size`; None for `$HEMORRHAGE_TF_CACHE_LIMIT`, or else 20 GB.
            Defaults to None.

    Raises:
        OptionError: The limit is not a size.
    """
    if limit is not None:
        return parse_size(limit)
    variable = os.environ.get(LIMIT_VARIABLE)
    return parse_size(variable, f"${LIMIT_VARIABLE}") if variable else parse_size(DEFAULT_LIMIT)
