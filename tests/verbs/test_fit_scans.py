"""Fits of data with scans."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, OptionError
from hemorrhage_tf.inference.loading import load
from hemorrhage_tf.models.run_files import SCAN_MODEL_FILE, SCANS_FILE
from hemorrhage_tf.models.scan_model import scan_geometry
from hemorrhage_tf.training import scan_loop
from hemorrhage_tf.training.scan_trainer import ScanTrainer

SCANS, SLICES = 16, 4
SETTINGS = {"scan_model": "pooling", "folds": 2}


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_loop, "STEPS", 20)
        yield


@pytest.fixture(scope="module")
def scan_set(once) -> Path:
    """A folder of 16 scans; `slices.csv` has labels of slices, `scans.csv` only those of scans."""

    def create(folder: Path) -> None:
        folder.mkdir()
        rows = []
        for scan in range(SCANS):
            for number in range(SLICES):
                label = scan % 2 if number in (1, 2) else 0
                name = f"{scan:02d}-{number}.png"
                pixels = draw_phantom(5, scan * SLICES + number, label)
                Image.fromarray(pixels).save(folder / name)
                row = {"path": name, "patient": f"p{scan}", "scan": f"scan{scan:02d}"}
                rows.append({**row, "position": 5 * number, "label": label, "of_scan": scan % 2})
        for name, label in (("slices", "label"), ("scans", "of_scan")):
            with open(folder / f"{name}.csv", "w", newline="") as file:
                column = "label" if name == "slices" else "scan_label"
                writer = csv.writer(file)
                writer.writerow(["path", "patient", "scan", "position", column])
                for row in rows:
                    values = [row[key] for key in ("path", "patient", "scan", "position", label)]
                    writer.writerow(values)

    return once("scan-set", create)


@pytest.fixture(scope="module")
def run(few_steps, fit_once, scan_set) -> Path:
    return fit_once(data=scan_set / "slices.csv", **SETTINGS)


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def read_json(path: Path):
    return json.loads(path.read_text())


def test_every_scan_is_predicted_out_of_fold(run):
    rows = read_rows(run / SCANS_FILE)
    assert sorted(row["scan"] for row in rows) == [f"scan{scan:02d}" for scan in range(SCANS)]
    split = {row["scan"]: row["repeat_1"] for row in read_rows(run / "split.csv")}
    for row in rows:
        assert row["slices"] == str(SLICES) and row["fold"] == split[row["scan"]]
        assert row["label"] == str(int(row["scan"][-2:]) % 2)
        assert 0 <= float(row["probability"]) <= 1 and row["hemorrhage"] in "01"
    metrics = read_json(run / "metrics.json")["scans"]
    assert metrics["n_positive"] == SCANS // 2
    right = np.mean([row["label"] == row["hemorrhage"] for row in rows])
    assert metrics["accuracy"]["estimate"] == pytest.approx(right)


def test_every_slice_has_a_probability_in_its_scan(run):
    rows = read_rows(run / "predictions.csv")
    in_scan = [float(row["probability_in_scan"]) for row in rows]
    assert len(rows) == SCANS * SLICES and all(0 <= value <= 1 for value in in_scan)
    assert in_scan != [float(row["probability"]) for row in rows]
    metrics = read_json(run / "metrics.json")["slices_in_scans"]
    brier = np.mean([(float(row["label"]) - p) ** 2 for row, p in zip(rows, in_scan, strict=True)])
    assert metrics["brier"]["estimate"] == pytest.approx(brier, rel=1e-4)


def test_the_model_knows_its_scan_model_and_thresholds(run):
    metadata, metrics = read_json(run / "config.json")["model"], read_json(run / "metrics.json")
    assert metadata["scan_model"] == "pooling"
    assert metadata["scan_threshold"] == metrics["scans"]["operating_point"]["threshold"]
    assert metadata["scan_operating_point"] == "balanced"
    in_scans = metrics["slices_in_scans"]["operating_point"]
    assert metadata["slice_in_scan_threshold"] == in_scans["threshold"]


def test_the_run_folder_loads_with_its_scan_model(run):
    model = load(run)
    width = model.run_with_features(np.zeros((1, 32, 32, 3), np.float32))[1].shape[1]
    output = model.run_scan(np.zeros((5, width), np.float32), scan_geometry(np.arange(5) * 5.0))
    assert model.has_scan_model and 0 < output.probability < 1
    assert output.slice_probabilities.shape == (5,)


@pytest.mark.slow
def test_slices_alone_are_the_same_without_a_scan_model(run, fit_once, scan_set):
    other = fit_once(data=scan_set / "slices.csv", **{**SETTINGS, "scan_model": "none"})
    assert not (other / SCAN_MODEL_FILE).exists() and not (other / SCANS_FILE).exists()
    assert read_json(other / "config.json")["model"]["scan_model"] is None
    tables = (read_rows(each / "predictions.csv") for each in (run, other))
    for one, two in zip(*tables, strict=True):
        assert one.pop("probability_in_scan") and one == two
    before, after = (read_json(each / "metrics.json") for each in (run, other))
    assert before["roc_auc"] == after["roc_auc"]
    assert after["slices_in_scans"] is None and after["scans"] is not None


@pytest.mark.slow
def test_a_stopped_fit_is_resumed_to_the_same_bytes(run, scan_set, quick, tmp_path, monkeypatch):
    train, trained = ScanTrainer.train, []

    def stop(self, *arguments):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(train(self, *arguments))
        return trained[-1]

    monkeypatch.setattr(ScanTrainer, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        htf.fit(scan_set / "slices.csv", out=tmp_path / "run", **{**quick, **SETTINGS})
    monkeypatch.setattr(ScanTrainer, "train", train)
    resumed = htf.fit(resume=tmp_path / "run", quiet=True).path
    for name in (SCANS_FILE, "predictions.csv", "metrics.json"):
        assert (resumed / name).read_bytes() == (run / name).read_bytes()
    for one, two in zip(read_weights(resumed), read_weights(run), strict=True):
        assert one.tobytes() == two.tobytes()


def read_weights(run: Path) -> list[np.ndarray]:
    import keras

    return keras.saving.load_model(run / SCAN_MODEL_FILE).get_weights()


@pytest.mark.slow
def test_scans_without_labels_of_their_slices(fit_once, scan_set):
    run = fit_once(data=scan_set / "scans.csv", **SETTINGS)
    metrics = read_json(run / "metrics.json")
    assert metrics["level"] == "scan" and metrics["slices_in_scans"] is None
    assert metrics["scans"]["n_positive"] == SCANS // 2
    assert len(read_rows(run / SCANS_FILE)) == SCANS


@pytest.mark.slow
def test_a_single_split_is_calibrated_on_its_training_part(fit_once, scan_set):
    run = fit_once(data=scan_set / "slices.csv", **{**SETTINGS, "folds": 0, "test_fraction": 0.25})
    metrics = read_json(run / "metrics.json")
    tested = {row["scan"] for row in read_rows(run / "split.csv") if row["part"] == "test"}
    assert {row["scan"] for row in read_rows(run / SCANS_FILE)} == tested
    assert metrics["scans"]["evaluated_on"] == f"the test part, {len(tested)} of {SCANS} scans"
    chosen_on = metrics["scans"]["operating_point"]["chosen_on"]
    assert chosen_on["n_positive"] + chosen_on["n_negative"] == SCANS - len(tested)


def test_few_scans_get_no_scan_model_unless_one_is_named(scan_set, tmp_path, capsys):
    rows = (scan_set / "slices.csv").read_text().splitlines()
    for path in scan_set.glob("0[0-5]-*.png"):
        shutil.copy(path, tmp_path)
    (tmp_path / "few.csv").write_text("\n".join(rows[: 1 + 6 * SLICES]))
    options = {"backbone": "tiny", "image_size": 32, "views": 1, "audit": False}
    options["out"] = tmp_path / "run"
    with pytest.raises(DataError, match="--scan-model gru: needs at least 4 scans of each class"):
        htf.fit(tmp_path / "few.csv", scan_model="gru", folds=2, quiet=True, **options)
    htf.fit(tmp_path / "few.csv", folds=2, **options)
    assert not (tmp_path / "run" / SCAN_MODEL_FILE).exists()
    assert "3 scans with hemorrhage and 3 without" in " ".join(capsys.readouterr().err.split())


def test_a_scan_model_needs_cached_features():
    with pytest.raises(OptionError, match="--scan-model gru: a scan model is trained on cached"):
        htf.FitSettings(scan_model="gru", feature_cache=False)
    with pytest.raises(OptionError, match="--scan-model lstm: unknown"):
        htf.FitSettings(scan_model="lstm")
