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
