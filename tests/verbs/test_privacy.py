"""Nothing that identifies a patient is in a run, its export or its evaluation."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import zipfile
from collections import Counter

import pytest

import hemorrhage_tf as htf

IDENTIFYING = {
    "PatientName": "Mustermann^Erika",
    "PatientBirthDate": "19640812",
    "PatientAddress": "Heidestrasse 17",
    "OtherPatientIDs": "OLD-4711",
    "AccessionNumber": "ACC7788",
    "ReferringPhysicianName": "Doktor^Brinkmann",
    "InstitutionName": "Schwarzwaldklinik",
    "StudyInstanceUID": "1.2.826.99.1",
    "StudyDate": "20190417",
}
SECRETS = (
    "Mustermann",
    "Erika",
    "19640812",
    "Heidestrasse",
    "OLD-4711",
    "ACC7788",
    "Brinkmann",
    "Schwarzwaldklinik",
    "1.2.826.99",
    "20190417",
    "PAT08",
)


def contents(folder):
    """Yield every file of a folder, and every member of the archives among them."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        yield path.name, path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield f"{path.name}: {name}", archive.read(name)


def leaks(folder):
    return [
        (name, secret)
        for name, content in contents(folder)
        for secret in SECRETS
        if secret.lower().encode() in content.lower()
    ]


def patients_of(rows):
    return {row["patient"] for row in rows}


@pytest.fixture(scope="module")
def named(once, head, write_dicom):
    """DICOM files whose tags, folders and names all name the patients."""

    def create(root):
        for index in range(12):
            patient = f"PAT08{index:02d}"
            folder = root / ("hemorrhage" if index % 2 else "normal")
            for number in range(2):
                place = f"{patient} Mustermann, Erika {index}/1964-{patient}-{number}.dcm"
                write_dicom(
                    folder / place,
                    head(2 * index + number, index % 2),
                    5 * number,
                    PatientID=patient,
                    SeriesInstanceUID=f"1.2.826.99.2.{index}",
                    SOPInstanceUID=f"1.2.826.99.3.{index}.{number}",
                    **IDENTIFYING,
                )

    return once("named-patients", create)


@pytest.fixture(scope="module")
def run_and_cache(named, tmp_path_factory, quick):
    folder = tmp_path_factory.mktemp("private")
    return htf.fit(named, out=folder / "run", cache=folder / "cache", **quick), folder / "cache"


@pytest.fixture(scope="module")
def run(run_and_cache):
    return run_and_cache[0]


def test_run_folder_and_cache_identify_no_patient(run_and_cache, fit_once, named):
    run, cache = run_and_cache
    names = [name for name, _ in contents(run.path)]
    assert "model.keras: model.weights.h5" in names and "split.csv" in names
    assert any(name.endswith(".npz") for name, _ in contents(cache))
    for folder in (run.path, cache, fit_once(named, folds=2)):
        assert leaks(folder) == []
    assert run.config["data"]["patients"] == 12
    assert run.config["data"]["root"] == str(named.resolve())


def test_the_split_still_shows_which_slices_are_of_one_patient(run, read_rows):
    split = read_rows(run.path / "split.csv")
    assert len({row["path"] for row in split}) == 24
    assert all(re.fullmatch("[0-9a-f]{16}", row["patient"]) for row in split)
    assert sorted(Counter(row["patient"] for row in split).values()) == [2] * 12


def test_hashes_of_patients_cannot_be_guessed_from_the_run(run, fit_once, named, read_rows):
    written = patients_of(read_rows(run.path / "split.csv"))
    data_hash = run.config["data"]["hash"]
    keys = [b"", data_hash.encode(), bytes.fromhex(data_hash)]
    for index in range(12):
        for key in keys:
            guess = hashlib.blake2b(f"PAT08{index:02d}".encode(), digest_size=8, key=key)
            assert guess.hexdigest() not in written
    # They are the same in every run on these slices.
    assert patients_of(read_rows(fit_once(named, folds=2) / "split.csv")) == written


def test_a_folder_named_after_a_patient_and_hashes_of_another_run(
    named, run, tmp_path, quick, read_rows
):
    moved = shutil.copytree(named, tmp_path / "Mustermann")
    next(moved.rglob("*-0.dcm")).unlink()
    other = htf.fit(moved, out=tmp_path / "run", calibration="none", **quick)
    assert leaks(other.path) == []
    assert other.config["data"]["root"] is None
    # Patients of two runs on different slices cannot be matched.
    hashes = [patients_of(read_rows(one.path / "split.csv")) for one in (run, other)]
    assert len(hashes[1]) == 12 and not hashes[0] & hashes[1]


def test_the_checkpoint_of_a_stopped_fit_identifies_no_patient(
    named, tmp_path, quick, stop_after, cache
):
    moved = shutil.copytree(named, tmp_path / "Mustermann")
    stop_after(1, moved, out=tmp_path / "run", **quick)
    checkpoint = tmp_path / "run.checkpoint"
    assert json.loads((checkpoint / "fit.json").read_text())["options"]["data"] is None
    assert leaks(checkpoint) == []


@pytest.mark.parametrize("name", ["a.tflite", pytest.param("saved", marks=pytest.mark.slow)])
def test_an_export_identifies_no_patient(run, named, tmp_path, name):
    htf.export(run, tmp_path / "exports" / name, verify=named, quiet=True)
    assert leaks(tmp_path / "exports") == []


def test_an_evaluation_numbers_the_slices(run, named):
    evaluation = htf.evaluate(named, model=run, quiet=True)
    names = [one.path for one in evaluation.predictions]
    assert not any(secret in name for name in names for secret in SECRETS)


def test_without_anonymization_ids_and_paths_are_written(named, tmp_path, quick, read_rows):
    settings = {**quick, "anonymize": False, "calibration": "none"}
    run = htf.fit(named, out=tmp_path / "run", **settings)
    split = read_rows(run.path / "split.csv")
    assert patients_of(split) == {f"PAT08{index:02d}" for index in range(12)}
    assert all((named / row["path"]).is_file() for row in split)
    # The other tags are never written.
    text = "".join(path.read_text() for path in run.path.glob("*.[cj]s*"))
    for secret in ("Heidestrasse", "Brinkmann", "Schwarzwaldklinik", "1.2.826", "20190417"):
        assert secret not in text


def test_patients_of_a_table_are_kept_together_and_not_written(
    kaggle_once, tmp_path, quick, read_rows
):
    manifest = tmp_path / "manifest.csv"
    lines = ["path,label,patient"]
    for index in range(24):
        path = kaggle_once / "head_ct" / "head_ct" / f"{index:03d}.png"
        lines.append(f"{path},{index % 2},Erika Mustermann {index // 2}")
    manifest.write_text("\n".join(lines))
    run = htf.fit(manifest, out=tmp_path / "run", folds=2, **quick)
    split = read_rows(run.path / "split.csv")
    for index in range(0, 24, 2):
        assert split[index]["repeat_1"] == split[index + 1]["repeat_1"]
    assert leaks(run.path) == []


def test_dicom_results_alone_name_the_patient(named, run, tmp_path):
    folder = next(path.parent for path in named.rglob("*.dcm"))
    out = tmp_path / "out"
    options = {"model": run, "quiet": True}
    htf.predict(folder, dicom_out=out, log_json=out / "log.jsonl", **options)
    found = leaks(out)
    assert found and all(name.endswith(".dcm") for name, _ in found)
    names = " ".join(path.as_posix() for path in out.rglob("*"))
    assert not any(secret in names for secret in SECRETS)
    anonymous = tmp_path / "anonymous"
    htf.predict(
        folder, dicom_out=anonymous, anonymize=True, log_json=anonymous / "log.jsonl", **options
    )
    assert len(list(anonymous.rglob("*.dcm"))) >= 2 and leaks(anonymous) == []
