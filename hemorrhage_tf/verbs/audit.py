"""TODO docstring."""

from __future__ import annotations

from pathlib import Path

from hemorrhage_tf.auditing import audit as auditor
from hemorrhage_tf.auditing.audit_result import Audit
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.manifest import read_manifest
from hemorrhage_tf.datasets.records import Manifest
from hemorrhage_tf.reports.html_report import write_audit


def audit(
    data: str | Path | Manifest,
    *,
    positive: str | None = None,
    target: str | None = None,
    html: str | Path | None = None,
    quiet: bool = False,
) -> Audit:
    """Finds what is wrong with labeled slices, and what tells the classes apart beside anatomy.

    Bad files, duplicates and contradicting labels are findings here, not errors.

    Args:
        data: labeled slices, as `fit` takes them.
        positive: the class name that means hemorrhage, where it is not a known one.
        target: the column to take as label, where there are several.
        html: a page to write for someone who would rather look than read; None for none.
        quiet: print no progress. Default False.

    Returns:
        The audit.

    Raises:
        HemorrhageError: there is no data there, or its layout is none of the accepted ones.
    """
    progress = Progress(quiet=quiet)
    manifest = read_manifest(data, positive, target, progress=progress)
    found = auditor.audit(manifest, progress)
    if html is not None:
        write_audit(html, manifest.root.name or "slices", found.to_dict())
    return found
