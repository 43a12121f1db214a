"""Groups: slices that must stay on one side of a split."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np


def merge_groups(
    count: int,
    pairs: Iterable[tuple[int, int]] | np.ndarray,
    shared: Sequence[Sequence[Hashable | None]] = (),
) -> np.ndarray:
    """Group slices that belong together, directly or through others.

    Args:
        count: The number of slices.
        pairs: Pairs of indices of slices that belong together, `(k, 2)`.
        shared: Sequences of `count` keys each, such as patients. Slices with equal keys belong
            together; None joins nothing. Defaults to none.

    Returns:
        int64 `(count,)`: group numbers from 0, in the order of first appearance.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not isinstance(pairs, np.ndarray):
        pairs = np.array(list(pairs), np.int64)
    edges = [pairs.reshape(-1, 2)]
    for keys in shared:
        first: dict[Hashable, int] = {}
        # A slice without a key is joined with itself.
        partners = (
            index if key is None else first.setdefault(key, index) for index, key in enumerate(keys)
        )
        joined = np.fromiter(partners, np.int64, count)
        edges.append(np.stack([joined, np.arange(count)], axis=1))
    rows, columns = np.concatenate(edges).T
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first_index, inverse = np.unique(component, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first_index))
    return order[inverse].astype(np.int64)


def merge_with_patients(
    exact: np.ndarray,
    near: np.ndarray,
    patients: Sequence[str | None],
    scans: Sequence[str | None] = (),
) -> np.ndarray:
    """Group slices of which patients may be known.

    The slices of a patient, those of a scan and exact duplicates are together in any case.
    Near-duplicates join two slices that both have a patient, or none. Slices without one also join
    the patient that one of them resembles most, but no second one, since slices of one level of two
    heads look alike.

    Args:
        exact: int `(k, 2)`: pairs of exact duplicates.
        near: Structured array with the fields `first`, `second` and `correlation`, see
            `near_duplicates.PAIR`.
        patients: The patient of each slice, None if unknown.
        scans: The scan of each slice, None outside of scans. Defaults to none.

    Returns:
        int64 `(n,)`: group numbers from 0, in the order of first appearance.
    """
    count = len(patients)
    shared = [patients, scans] if len(scans) else [patients]
    named = np.array([bool(patient) for patient in patients], bool)
    pairs = np.stack([near["first"], near["second"]], axis=1)
    half_named = named[pairs[:, 0]] != named[pairs[:, 1]]
    certain = np.concatenate([exact, pairs[~half_named]])
    groups = merge_groups(count, certain, shared=shared)
    if not half_named.any():
        return groups
    has_patient = np.zeros(count, bool)
    has_patient[groups[named]] = True
    links, correlations = pairs[half_named], near["correlation"][half_named]
    unnamed = np.where(named[links[:, 0]], links[:, 1], links[:, 0])
    order = np.lexsort((links[:, 1], links[:, 0], -correlations))
    order = order[~has_patient[groups[unnamed[order]]]]
    _, best = np.unique(groups[unnamed[order]], return_index=True)
    return merge_groups(count, np.concatenate([certain, links[order[best]]]), shared=shared)
