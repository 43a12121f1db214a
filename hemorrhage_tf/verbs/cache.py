"""The verbs of the feature cache: `cache_info`, `cache_prune` and `cache_clear`."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.training.features import cache_limits
from hemorrhage_tf.training.features.cache_limits import CacheInfo, PruneResult
from hemorrhage_tf.training.features.cache_location import cache_folder, cache_limit


def cache_info(cache: str | Path | None = None) -> CacheInfo:
    """Return a summary of the feature cache.

    Args:
        cache: Its folder. None for `$HEMORRHAGE_TF_CACHE`, or else the cache folder of the system.

    Returns:
        Its entries with their sizes, the most recently used first.

    Example:
        >>> import hemorrhage_tf as htf
        >>> htf.cache_info("empty_cache").entries
        ()
    """
    return cache_limits.inspect(cache_folder(cache), cache_limit(None))


def cache_prune(
    cache: str | Path | None = None,
    limit: str | None = None,
    older_than_days: float | None = None,
) -> PruneResult:
    """Remove the least recently used features, and leftovers of killed processes.

    Features that a process is using stay.

    Args:
        cache: Folder of the cache; see `cache_info`.
        limit: Size to prune to, such as "20GB", or "none". None for
            `$HEMORRHAGE_TF_CACHE_LIMIT`, or else 20 GB.
        older_than_days: Also remove features that were not used for so many days. Defaults to
            None.

    Returns:
        What was removed.

    Raises:
        OptionError: The limit is not a size.

    Example:
        >>> import hemorrhage_tf as htf
        >>> htf.cache_prune("empty_cache", limit="1GB").removed
        ()
    """
    return cache_limits.prune(cache_folder(cache), cache_limit(limit), older_than_days)


def cache_clear(cache: str | Path | None = None) -> PruneResult:
    """Remove all features that no process is using, stored phantoms, models and slice indices.

    Args:
        cache: Folder of the cache; see `cache_info`.

    Returns:
        What was removed.

    Example:
        >>> import hemorrhage_tf as htf
        >>> htf.cache_clear("empty_cache").bytes
        0
    """
    return cache_limits.clear(cache_folder(cache))
