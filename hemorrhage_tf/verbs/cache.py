"""TODO docstring."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.training.features import cache_limits
from hemorrhage_tf.training.features.cache_limits import CacheInfo, Pruned
from hemorrhage_tf.training.features.cache_location import cache_folder
from hemorrhage_tf.training.features.cache_location import cache_limit as cache_limit_of


def cache_info(cache: str | Path | None = None) -> CacheInfo:
    """Says what the feature cache holds.

    Args:
        cache: its folder; None for `$HEMORRHAGE_TF_CACHE`, else the system's own place.

    Returns:
        Its features, the most recently used first, with sizes; see `CacheInfo`.
    """
    return cache_limits.inspect(cache_folder(cache), cache_limit_of(None))


def cache_prune(
    cache: str | Path | None = None,
    limit: str | None = None,
    older_than_days: float | None = None,
) -> Pruned:
    """Removes the features that were used longest ago, and what killed processes left behind.

    What a process uses stays.

    Args:
        cache: the cache's folder, see `cache_info`.
        limit: what may stay, such as "20GB", or "none"; None for `$HEMORRHAGE_TF_CACHE_LIMIT`, else
            20 GB.
        older_than_days: remove what was not used for so long, too; None for no such limit.

    Returns:
        What was removed.
    """
    return cache_limits.prune(cache_folder(cache), cache_limit_of(limit), older_than_days)


def cache_clear(cache: str | Path | None = None) -> Pruned:
    """Removes all computed features that no process uses, and drawn phantoms.

    Args:
        cache: the cache's folder, see `cache_info`.

    Returns:
        What was removed.
    """
    return cache_limits.clear(cache_folder(cache))
