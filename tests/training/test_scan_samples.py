import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hemorrhage_tf.models.scan_core import DIRECTIONS
from hemorrhage_tf.training.scan_samples import (
    BATCH_SCANS,
    ScanSamples,
    evaluation_batches,
    training_batches,
)


def make_samples(lengths, seed: int = 0, views: int = 2, scan_labels_only=()) -> ScanSamples:
    """Make scans whose logit is the number of the slice, plus 1000 for view 1."""
    rng = np.random.default_rng(seed)
    count = int(np.sum(lengths))
    inputs = np.zeros((count, views, 1 + DIRECTIONS), np.float32)
    inputs[:, :, 0] = np.arange(count)[:, np.newaxis] + 1000 * np.arange(views)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    labels = rng.integers(0, 2, count) * np.repeat(np.arange(len(lengths)) % 2, lengths)
    scan_labels = np.array(
        [labels[a:b].max() for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    )
    is_known = ~np.isin(np.repeat(np.arange(len(lengths)), lengths), scan_labels_only)
    return ScanSamples(
        inputs=inputs,
        offsets=offsets,
        positions=np.concatenate([np.arange(length) * 5.0 for length in lengths]),
        labels=labels,
        is_known=is_known | (labels == 0) & (np.repeat(scan_labels, lengths) == 0),
        scan_labels=scan_labels,
    )


@settings(max_examples=20)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=150))
def test_evaluation_holds_every_slice_once_and_unchanged(lengths):
    samples = make_samples(lengths)
    seen = []
    for batch in evaluation_batches(samples):
        assert len(batch.rows) <= BATCH_SCANS
        assert batch.inputs["mask"].sum(axis=1).tolist() == [len(rows) for rows in batch.rows]
        for number, rows in enumerate(batch.rows):
            assert batch.inputs["logit"][number, : len(rows), 0].tolist() == rows.tolist()
            assert (batch.inputs["logit"][number, len(rows) :] == 0).all()
            seen.extend(rows)
    assert sorted(seen) == list(range(sum(lengths)))


def test_each_epoch_holds_every_scan_once():
    samples = make_samples([10] * 100)
    batches = list(training_batches(samples, seed=0, count=4))
    for epoch in (batches[:2], batches[2:]):
        scans = [rows[0] // 10 for batch in epoch for rows in batch.rows]
        assert sorted(scans) == list(range(100))
    first, second = ([rows[0] for rows in batch.rows] for batch in (batches[0], batches[2]))
    assert first != second


def test_batches_are_the_same_for_one_seed_only():
    samples = make_samples([10, 20, 30])

    def draw(seed):
        [batch] = training_batches(samples, seed, 1)
        return {name: value.tobytes() for name, value in batch.inputs.items()}

    assert draw(1) == draw(1) != draw(2)


def test_augmented_scans_are_runs_of_slices_in_order_with_labels_of_what_is_left():
    samples = make_samples([40] * 30)
    kept, steps, views = [], set(), set()
    for batch in training_batches(samples, seed=0, count=10):
        for number, rows in enumerate(batch.rows):
            [step] = set(np.diff(rows))
            steps.add(int(step))
            kept.append(len(rows) * int(step) / 40)
            values = batch.inputs["logit"][number, : len(rows), 0] - rows
            [view] = set(values.tolist())
            views.add(view)
            assert batch.scan_labels[number, 0] == samples.labels[rows].max()
            assert batch.labels[number, : len(rows)].tolist() == samples.labels[rows].tolist()
            place = batch.inputs["geometry"][number, : len(rows), 0]
            assert place[0] == 0 and place[-1] == 1
    assert steps == {1, 2} and views == {0, 1000}
    assert min(kept) >= 0.7 and max(kept) == 1 and len(set(kept)) > 4


def test_scans_without_labels_of_their_slices_are_left_whole_and_unknown():
    samples = make_samples([40] * 10, scan_labels_only=range(10))
    for batch in training_batches(samples, seed=0, count=10):
        for number, rows in enumerate(batch.rows):
            scan = rows[0] // 40
            assert batch.scan_labels[number, 0] == samples.scan_labels[scan]
            if samples.scan_labels[scan]:
                assert len(rows) == 40
                assert batch.is_known[number].sum() == 0 and batch.labels[number].sum() == 0
