"""Fixtures of the audit: quick shortcut baselines, and a set without shortcuts."""

from __future__ import annotations

import numpy as np
import pytest
from audit_sets import draw_textured_head, write_set

import hemorrhage_tf as htf
from hemorrhage_tf.auditing import shortcuts


# Not for the package: without `__init__.py` that is the whole session, with the pages of the docs.
@pytest.fixture(scope="module", autouse=True)
def small_forests():
    """Use small forests, so that the tests are fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcuts, "TREES", 10)
        patch.setattr(shortcuts, "REPEATS", 1)
        yield


@pytest.fixture(scope="session")
def clean(tmp_path_factory):
    """Write 60 slices whose labels are independent of everything else."""
    labels = np.random.default_rng(3).permutation(np.arange(60) % 2)
    sizes = np.random.default_rng(4).integers(60, 90, 60)
    images = [draw_textured_head(index, int(size)) for index, size in enumerate(sizes)]
    return write_set(tmp_path_factory.mktemp("clean"), images, labels)


@pytest.fixture(scope="session")
def clean_audit(clean, tmp_path_factory):
    """Audit the set without shortcuts, with a cache folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEMORRHAGE_TF_CACHE", str(tmp_path_factory.mktemp("cache")))
        return htf.audit(clean, quiet=True)
