import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.models.scan_model import (
    SCAN_MODELS,
    build_scan_model,
    scan_geometry,
    set_scan_calibration,
    set_scan_inputs,
)

WIDTH = 6
RNG = np.random.default_rng(0)
KERNEL, BIAS = RNG.normal(size=(WIDTH, 1)).astype(np.float32), np.array([-0.5], np.float32)
AXES = RNG.normal(size=(WIDTH, 8)).astype(np.float32) / 4
FEATURES = RNG.normal(size=(12, WIDTH)).astype(np.float32)
POSITIONS = np.cumsum(RNG.uniform(2, 8, 12))


@pytest.fixture(scope="module", params=SCAN_MODELS)
def model(request, random_scan_model):
    """A scan model whose core has random weights."""
    built = random_scan_model(request.param, WIDTH)
    set_scan_inputs(built, KERNEL, BIAS, AXES)
    set_scan_calibration(built, (1.0, 0.0), (1.0, 0.0))
    return built


def run(model, features=FEATURES, positions=POSITIONS, padding: int = 0):
    count = len(features)
    inputs = {
        "features": np.zeros((1, count + padding, features.shape[1]), np.float32),
        "geometry": np.zeros((1, count + padding, 3), np.float32),
        "mask": np.zeros((1, count + padding), np.float32),
    }
    inputs["features"][0, :count] = features
    inputs["features"][0, count:] = 9  # must not matter
    inputs["geometry"][0, :count] = scan_geometry(positions)
    inputs["mask"][0, :count] = 1
    outputs = model(inputs, training=False)
    assert outputs["probability"].shape == (1, 1)
    assert outputs["slice_probability"].shape == (1, count + padding)
    return float(outputs["probability"][0, 0]), np.asarray(outputs["slice_probability"])[0, :count]


def test_geometry_by_hand():
    expected = [[0, 0.5, 1], [0.25, 0.5, 1], [0.5, 0.75, 1], [1, 1, 1]]
    assert scan_geometry(np.array([-10.0, -5, 0, 10])) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("positions", [[np.nan] * 3, [1.0, np.nan, 7.0]])
def test_unknown_positions_count_as_equally_spaced(positions):
    expected = [[0, 0, 0], [0.5, 0, 0], [1, 0, 0]]
    geometry = scan_geometry(np.array(positions))
    assert geometry[:, 0].tolist() == [0, 0.5, 1] and geometry.tolist() == expected


def test_geometry_of_a_single_slice_and_of_slices_at_one_position():
    assert scan_geometry(np.array([40.0])).tolist() == [[0.5, 0, 0]]
    assert scan_geometry(np.full(3, 40.0))[:, 0].tolist() == [0, 0.5, 1]


@given(st.lists(st.floats(-500, 500), min_size=2, max_size=30))
def test_geometry_is_relative_and_does_not_depend_on_the_origin(positions):
    positions = np.sort(positions)
    geometry = scan_geometry(positions)
    assert geometry.dtype == np.float32 and np.isfinite(geometry).all()
    assert geometry[0, 0] == 0 and geometry[-1, 0] == 1 and (np.diff(geometry[:, 0]) >= 0).all()
    assert scan_geometry(positions + 100)[:, 1] == pytest.approx(geometry[:, 1], abs=1e-4)


def test_padding_does_not_matter(model):
    scan, slices = run(model)
    padded_scan, padded_slices = run(model, padding=7)
    assert padded_scan == pytest.approx(scan, abs=1e-6)
    assert padded_slices == pytest.approx(slices, abs=1e-6)


def test_order_matters_only_through_the_places(model):
    """Reversing slices and places gives other results; the model knows neck from vertex."""
    _, slices = run(model)
    _, reversed_slices = run(model, FEATURES[::-1], 100 - POSITIONS[::-1])
    assert np.abs(reversed_slices[::-1] - slices).max() > 1e-4


def test_one_slice_is_a_scan(model):
    scan, slices = run(model, FEATURES[:1], POSITIONS[:1])
    assert 0 < scan < 1 and 0 < slices[0] < 1


def test_saved_and_loaded_in_safe_mode(model, tmp_path):
    import keras

    model.save(tmp_path / "scan_model.keras")
    loaded = keras.saving.load_model(tmp_path / "scan_model.keras", safe_mode=True)
    assert run(loaded)[0] == run(model)[0]


def test_calibration_is_temperature_and_offset(model):
    scan, slices = run(model)
    set_scan_calibration(model, (2.0, 0.5), (4.0, -1.0))
    calibrated = run(model)
    set_scan_calibration(model, (1.0, 0.0), (1.0, 0.0))
    assert logit(calibrated[0]) == pytest.approx(logit(scan) / 2 + 0.5, abs=1e-4)
    assert calibrated[1] == pytest.approx(expit(logit(slices) / 4 - 1), abs=1e-4)


@pytest.mark.parametrize("kind", SCAN_MODELS)
def test_an_untrained_model_averages_the_slice_head_over_neighbors(kind):
    model = build_scan_model(kind, WIDTH)
    set_scan_inputs(model, KERNEL, BIAS, AXES)
    scan, slices = run(model)
    place = (POSITIONS - POSITIONS[0]) / np.ptp(POSITIONS)
    weights = softmax(-0.5 * (np.subtract.outer(place, place) / 0.03) ** 2, axis=1)
    alone = (FEATURES @ KERNEL + BIAS)[:, 0]
    expected = 0.4 * alone + 0.6 * weights @ alone
    assert slices == pytest.approx(expit(expected), abs=1e-5)
    assert scan == pytest.approx(expit(softmax(expected) @ expected), abs=1e-5)


def test_in_a_scan_of_30_slices_the_neighbors_count_about_a_fifth():
    model = build_scan_model("pooling", 1)
    set_scan_inputs(model, np.ones((1, 1), "f"), np.zeros(1, "f"), np.zeros((1, 8), "f"))
    one = np.zeros((30, 1), np.float32)
    one[15] = 1
    _, slices = run(model, one, np.arange(30) * 5.0)
    assert logit(slices[14:17]) == pytest.approx([0.2, 0.6, 0.2], abs=0.1)
    assert logit(slices).sum() == pytest.approx(1, abs=1e-3)


def test_an_unknown_kind_is_an_error():
    with pytest.raises(OptionError, match=r"--scan-model lstm: unknown\. Pass one of auto, none"):
        build_scan_model("lstm", WIDTH)
