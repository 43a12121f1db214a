import pytest
from hypothesis import given
from hypothesis import strategies as st

from hemorrhage_tf.core.lookahead import results_in_order


@given(count=st.integers(0, 20), ahead=st.integers(0, 25))
def test_results_come_in_order_and_only_some_tasks_are_started_ahead(count, ahead):
    started = []

    def tasks():
        for number in range(count):
            started.append(number)
            yield lambda number=number: number

    for position, result in enumerate(results_in_order(tasks(), ahead)):
        assert result == position
        assert len(started) == min(count, position + ahead + 1)
    assert len(started) == count


def test_an_error_is_raised_in_its_turn():
    def fail():
        raise OSError("full")

    results = results_in_order(iter([lambda: 1, fail, lambda: 3]), ahead=2)
    assert next(results) == 1
    with pytest.raises(OSError, match="full"):
        next(results)
