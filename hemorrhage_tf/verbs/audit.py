"""The verb `audit`."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.auditing import audit as auditor
from hemorrhage_tf.auditing.audit_result import Audit
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.kept_readings import SLICE_INDEX
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.reports.html_report import write_audit_page
from hemorrhage_tf.training.features.cache_location import cache_folder
from hemorrhage_tf.verbs.arguments import check_data


def audit(
    data: str | Path | Manifest,
    *,
    positive: str | None = None,
    target: str | None = None,
    html: str | Path | None = None,
    quiet: bool = False,
) -> Audit:
    """Check labeled slices for errors, duplicates and shortcut features.

    Unreadable files, duplicates and contradicting labels are results here, not errors. What was
    read of each file is kept in the cache folder, so that the next audit reads only files that have
    changed.

    Args:
        data: Labeled slices, as `fit` accepts them.
        positive: Name of the positive class, where it is not a known one.
        target: Column to use as label, where there are several.
        html: HTML file to write the audit to. Defaults to None.
        quiet: Print no progress. Defaults to False.

    Returns:
        The audit.

    Raises:
        DataError: There is no data at that path, or its layout is not known.
        OutputError: The HTML file cannot be written.

    Example:
        >>> import hemorrhage_tf as htf
        >>> htf.audit("head_ct", quiet=True).slices
        24
    """
    progress = Progress(quiet=quiet)
    manifest = read_manifest(check_data(data), positive, target, progress=progress)
    keep_in = cache_folder() / SLICE_INDEX
    result = auditor.audit_manifest(manifest, progress, keep_in=keep_in)
    if html is not None:
        write_audit_page(html, manifest.root.name or "slices", result.to_dict())
    return result
