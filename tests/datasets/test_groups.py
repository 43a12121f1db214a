import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hemorrhage_tf.datasets.groups import merge_groups


def flood_fill(count, pairs, keys):
    def joined(i, j):
        return (i, j) in pairs or (j, i) in pairs or (keys[i] is not None and keys[i] == keys[j])

    numbers = [None] * count
    following = 0
    for start in range(count):
        if numbers[start] is not None:
            continue
        front = [start]
        while front:
            current = front.pop()
            numbers[current] = following
            front += [
                other for other in range(count) if numbers[other] is None and joined(current, other)
            ]
        following += 1
    return numbers


class TestMergeGroups:
    @settings(max_examples=40, deadline=None)
    @given(data=st.data(), count=st.integers(1, 12))
    def test_equals_a_flood_fill(self, data, count):
        index = st.integers(0, count - 1)
        pairs = data.draw(st.lists(st.tuples(index, index), max_size=8))
        key = st.sampled_from([None, "a", "b", "c"])
        keys = data.draw(st.lists(key, min_size=count, max_size=count))
        groups = merge_groups(count, pairs, [keys])
        assert groups.dtype == np.int64
        assert groups.tolist() == flood_fill(count, set(pairs), keys)

    def test_chains_through_pairs_and_keys(self):
        groups = merge_groups(6, [(0, 1), (1, 2)], [["p", None, None, "p", None, None]])
        assert groups.tolist() == [0, 0, 0, 0, 1, 2]

    def test_none_joins_nothing(self):
        assert merge_groups(3, [], [[None, None, None]]).tolist() == [0, 1, 2]

    def test_several_sequences_of_keys(self):
        assert merge_groups(3, [], [["a", "a", "b"], [1, 2, 2]]).tolist() == [0, 0, 0]

    def test_takes_pairs_from_a_generator(self):
        assert merge_groups(2, (pair for pair in [(1, 0)])).tolist() == [0, 0]
