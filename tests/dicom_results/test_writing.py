"""The DICOM objects of a prediction, read back by pydicom and highdicom."""

from __future__ import annotations

import json
import os
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from predicted_series import SIZE, STUDY, CenterModel, slice_with, write_predicted_series
from pydicom.sr.codedict import codes

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import DataError, OptionError

PROBABILITIES = (0.1, 0.2, 0.7, 0.9, 0.3)


@pytest.fixture
def model(tmp_path):
    return CenterModel(tmp_path / "model")


@pytest.fixture(scope="module")
def series(once, write_dicom):
    return once(
        "predicted-series", lambda path: write_predicted_series(write_dicom, path, PROBABILITIES)
    )


@pytest.fixture(scope="module")
def result(series, tmp_path_factory):
    """The prediction, its objects and their folder, for tests that do not change them."""
    folder = tmp_path_factory.mktemp("result")
    model = CenterModel(folder / "model")
    return *run(series, model, folder / "out", log_json=folder / "log.jsonl"), folder / "out"


def run(series, model, out, **options):
    """Predicts a series, and returns the prediction and the objects by the name of the file."""
    prediction = htf.predict(series, model=model, dicom_out=out, quiet=True, **options)
    files = sorted(out.glob("scan-*/*.dcm"))
    return prediction, {path.name: pydicom.dcmread(path) for path in files}


def read_report(folder):
    [path] = folder.glob("scan-*/report.dcm")
    return highdicom.sr.srread(path)


def value_of(group, name):
    [measurement] = group.get_measurements(name)
    assert measurement.unit == codes.UCUM.NoUnits
    return measurement.value


def test_the_report_says_what_was_predicted(result):
    prediction, _, folder = result
    report = read_report(folder)
    assert type(report) is highdicom.sr.Comprehensive3DSR
    flags = report.VerificationFlag, report.CompletionFlag, report.PreliminaryFlag
    assert flags == ("UNVERIFIED", "PARTIAL", "PRELIMINARY")
    assert "Not a diagnosis" in report.CompletionFlagDescription
    content = report.content
    assert isinstance(content, highdicom.sr.MeasurementReport)
    scan, *slices = content.get_image_measurement_groups()
    assert scan.finding_type == codes.SCT.IntracranialHemorrhage
    assert [one.referenced_sop_instance_uid for one in scan.source_images] == [
        f"1.2.826.0.1.77.1.2.{number}" for number in range(1, 6)
    ]
    assert value_of(scan, codes.DCM.Probability) == pytest.approx(
        prediction.scans[0].probability, abs=1e-6
    )
    assert value_of(scan, codes.DCM.ThresholdValue) == 0.5
    [presence] = scan.get_qualitative_evaluations(codes.DCM.PresenceOfProperty)
    assert presence.value == codes.cid240.Present
    jumps = [[one.referenced_sop_instance_uid for one in group.source_images] for group in slices]
    assert jumps == [["1.2.826.0.1.77.1.2.3"], ["1.2.826.0.1.77.1.2.4"]]
    found = [value_of(group, codes.DCM.Probability) for group in slices]
    assert found == pytest.approx([0.7, 0.9], abs=0.01)


def test_the_report_names_algorithm_operating_point_and_disclaimer(result):
    texts = {
        (item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue)
        for item in items_of(read_report(result[-1]))
        if item.ValueType == "TEXT"
    }
    by_name = dict(texts)
    assert by_name["Algorithm Name"] == "center"
    assert by_name["Algorithm Version"].startswith(f"{htf.__version__}, model ")
    assert len(by_name["Device Observer Serial Number"]) == 64
    parameters = [text for name, text in texts if name == "Algorithm Parameters"]
    assert any("sensitivity=0.95" in text for text in parameters)
    assert "not a medical device" in by_name["Comment"]


def items_of(dataset):
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from items_of(item)


def test_key_objects_are_the_flagged_slices(result):
    _, objects, _ = result
    document = highdicom.ko.KeyObjectSelectionDocument.from_dataset(objects["key-slices.dcm"])
    references = document.content.get_references()
    assert [one.referenced_sop_instance_uid for one in references] == [
        "1.2.826.0.1.77.1.2.3",
        "1.2.826.0.1.77.1.2.4",
    ]
    [observer] = document.content.get_observer_contexts()
    assert observer.observer_identifying_attributes.name == "center"


def test_captures_show_the_slice_with_its_overlay(result):
    _, objects, _ = result
    assert sorted(objects) == [
        "key-slices.dcm",
        "report.dcm",
        "slice-0003.dcm",
        "slice-0004.dcm",
        "summary.dcm",
    ]
    capture = objects["slice-0004.dcm"]
    pixels = capture.pixel_array.astype(int)
    assert pixels.shape == (SIZE, SIZE, 3)
    assert capture.PhotometricInterpretation == "RGB"
    # The middle has evidence, so it has a color; the corner is outside of the head.
    assert np.ptp(pixels[SIZE // 2, SIZE // 2]) > 2
    assert np.ptp(pixels[SIZE // 2, 0]) == 0
    assert capture.BurnedInAnnotation == "YES"
    assert capture.FrameOfReferenceUID == STUDY["FrameOfReferenceUID"]
    [source] = capture.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == "1.2.826.0.1.77.1.2.4"
    summary = objects["summary.dcm"]
    assert (summary.Rows, summary.Columns) == (768, 1024) and summary.pixel_array.std() > 10
    assert summary.SeriesInstanceUID == capture.SeriesInstanceUID


def test_a_scan_without_flagged_slices_has_no_key_objects(write_dicom, model, tmp_path):
    folder = write_predicted_series(write_dicom, tmp_path / "series", (0.1, 0.2))
    _, objects = run(folder, model, tmp_path / "out")
    assert sorted(objects) == ["report.dcm", "summary.dcm"]
    [group] = read_report(tmp_path / "out").content.get_image_measurement_groups()
    [presence] = group.get_qualitative_evaluations(codes.DCM.PresenceOfProperty)
    assert presence.value == codes.cid240.Absent


def test_patient_and_study_are_those_of_the_source(result):
    _, objects, _ = result
    for dataset in objects.values():
        for keyword in set(STUDY) - {"SeriesInstanceUID", "SeriesNumber", "SliceThickness"}:
            if keyword != "FrameOfReferenceUID":
                assert str(dataset[keyword].value) == STUDY[keyword], keyword
    assert len({one.SOPInstanceUID for one in objects.values()}) == len(objects)
    assert len({one.SeriesInstanceUID for one in objects.values()}) == 3


@pytest.mark.slow
def test_names_in_any_character_set_are_kept(write_dicom, model, tmp_path):
    name = "Yamada^Tarou=山田^太郎"
    folder = write_predicted_series(
        write_dicom,
        tmp_path / "series",
        (0.1, 0.9),
        PatientName=name,
        SpecificCharacterSet=["ISO 2022 IR 6", "ISO 2022 IR 87"],
    )
    _, objects = run(folder, model, tmp_path / "out")
    assert {str(one.PatientName) for one in objects.values()} == {name}


@pytest.mark.slow
def test_subtypes_are_measured_with_declared_codes(series, tmp_path):
    model = CenterModel(tmp_path / "model", subtypes=("subdural", "epidural"))
    run(series, model, tmp_path / "out")
    report = read_report(tmp_path / "out")
    _, first, _ = report.content.get_image_measurement_groups()
    measured = {one.name.meaning: one.value for one in first.get_measurements()}
    assert measured["Probability of subdural hemorrhage"] == pytest.approx(0.35, abs=0.01)
    [scheme] = report.CodingSchemeIdentificationSequence
    assert {one.name.scheme_designator for one in first.get_measurements()} == {
        "DCM",
        scheme.CodingSchemeDesignator,
    }


@pytest.mark.slow
def test_a_file_of_several_frames_is_referred_to_by_frame(write_dicom, model, tmp_path):
    volume = np.stack([slice_with(one) for one in PROBABILITIES])
    write_dicom(
        tmp_path / "volume.dcm",
        volume,
        [5.0 * index for index in range(5)],
        **(STUDY | {"SOPInstanceUID": "1.2.826.0.1.77.1.2.1"}),
    )
    _, objects = run(tmp_path / "volume.dcm", model, tmp_path / "out")
    _, *slices = read_report(tmp_path / "out").content.get_image_measurement_groups()
    frames = [one.source_images[0].referenced_frame_numbers for one in slices]
    assert frames == [[3], [4]]
    items = items_of(objects["key-slices.dcm"])
    [image] = [one for one in items if one.ValueType == "IMAGE"]
    assert image.ReferencedSOPSequence[0].ReferencedFrameNumber == [3, 4]
    assert objects["slice-0003.dcm"].SourceImageSequence[0].ReferencedFrameNumber == 3


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.dcm")
    }


def test_the_same_prediction_writes_the_same_bytes(result, series, model, tmp_path):
    first = contents(result[-1])
    run(series, model, tmp_path / "first")
    assert len(first) == 5 and contents(tmp_path / "first") == first
    # Another model, here another threshold, gives other objects, beside the earlier ones.
    run(series, CenterModel(tmp_path / "other", threshold=0.8), tmp_path / "first")
    folders = sorted((tmp_path / "first").iterdir())
    assert len(folders) == 2
    uids = [
        {pydicom.dcmread(path).SOPInstanceUID for path in folder.iterdir()} for folder in folders
    ]
    assert not uids[0] & uids[1]


def test_anonymous_results_name_nobody_and_agree_with_each_other(series, model, tmp_path):
    _, objects = run(series, model, tmp_path / "out", anonymize=True)
    secrets = [
        "Mustermann",
        "PAT0815",
        "19640812",
        "20190417",
        "ACC7788",
        "Brinkmann",
        "Schwarzwald",
    ]
    for content in contents(tmp_path / "out").values():
        assert not [one for one in [*secrets, "1.2.826.0.1.77"] if one.encode() in content]
    assert len({one.StudyInstanceUID for one in objects.values()}) == 1
    assert len({one.PatientID for one in objects.values()}) == 1
    for one in objects.values():
        assert one.PatientIdentityRemoved == "YES"
        [method] = one.DeidentificationMethodCodeSequence
        assert (method.CodeValue, method.CodingSchemeDesignator) == ("113100", "DCM")
    key = [one for one in items_of(objects["key-slices.dcm"]) if one.ValueType == "IMAGE"]
    assert (
        key[1].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        == objects["slice-0004.dcm"].SourceImageSequence[0].ReferencedSOPInstanceUID
    )
    assert objects["slice-0004.dcm"].BurnedInAnnotation == "NO"


def test_the_audit_trail_names_nobody(result, series, model, tmp_path):
    prediction, objects, folder = result
    text = folder.with_name("log.jsonl").read_text()
    for secret in ["Mustermann", "PAT0815", "ACC7788", "1.2.826.0.1.77", str(series)]:
        assert secret not in text
    events = [json.loads(line) for line in text.splitlines()]
    [scan] = [one for one in events if one["event"] == "scan"]
    assert scan["probability"] == round(prediction.scans[0].probability, 6)
    assert (scan["hemorrhage"], scan["slices"], scan["flagged"]) == (1, 5, 2)
    assert scan["model"] == "center" and len(scan["model_hash"]) == 64
    assert set(scan["objects"]) == {one.SOPInstanceUID for one in objects.values()}
    assert events[-1]["event"] == "result"
    # Who has the study finds it in the trail: its UIDs are those of the anonymous results.
    log = tmp_path / "log.jsonl"
    _, anonymous = run(series, model, tmp_path / "out", anonymize=True, log_json=log)
    assert scan["study"] == anonymous["report.dcm"].StudyInstanceUID
    other = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["study"] for one in other if one["event"] == "scan"] == [scan["study"]]


BAD_SERIES = [
    ({"StudyInstanceUID": None}, "it has no Study Instance UID to refer to"),
    ({"StudyInstanceUID": "1.2.03"}, "its Study Instance UID is not a valid UID"),
    ({"SOPClassUID": "abc"}, "its SOP Class UID is not a valid UID"),
    ({"SOPClassUID": "1.2.3"}, "its SOP class 1.2.3 is not an image of current DICOM"),
    ({"PatientName": "A" * 65}, "its Patient's Name does not fit"),
    ({"PatientID": "B" * 70}, "its Patient ID does not fit"),
]


@pytest.mark.parametrize(("tags", "message"), BAD_SERIES)
def test_scans_that_results_cannot_refer_to(tags, message, write_dicom, model, tmp_path):
    folder = write_predicted_series(write_dicom, tmp_path / "series", (0.1, 0.9), **tags)
    with pytest.raises(DataError, match=message):
        run(folder, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(htf.predict(folder, model=model, quiet=True).scans) == 1


@pytest.mark.slow
def test_undecodable_names_and_what_anonymous_results_accept(write_dicom, model, tmp_path):
    folder = write_predicted_series(
        write_dicom,
        tmp_path / "series",
        (0.1, 0.9),
        SpecificCharacterSet="ISO_IR 192",
        StudyInstanceUID="1.2.03",
    )
    for path in folder.iterdir():
        name = b"M\xfcst\xe9rmann^Erika"
        path.write_bytes(path.read_bytes().replace(b"Mustermann^Erika", name))
    with pytest.raises(DataError, match="must not name another patient"):
        run(folder, model, tmp_path / "out")
    _, objects = run(folder, model, tmp_path / "out", anonymize=True)
    assert len(objects) == 4


@pytest.mark.slow
def test_missing_identity_and_dates_are_empty(write_dicom, model, tmp_path):
    missing = dict.fromkeys(
        ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "SeriesNumber")
    )
    folder = write_predicted_series(write_dicom, tmp_path / "series", (0.1, 0.9), **missing)
    _, objects = run(folder, model, tmp_path / "out")
    report = objects["report.dcm"]
    assert (str(report.PatientName), report.PatientID, report.StudyDate) == ("", "", "")
    assert report.ContentDate == "19000101"


def test_empty_names_are_not_taken_for_unreadable_ones(write_dicom, model, tmp_path, capsys):
    names = {"PatientName": "", "ReferringPhysicianName": ""}
    folder = write_predicted_series(write_dicom, tmp_path / "series", (0.1, 0.9), **names)
    htf.predict(folder, model=model, dicom_out=tmp_path / "out")
    [path] = (tmp_path / "out").glob("*/report.dcm")
    report = pydicom.dcmread(path)
    assert (report.PatientName, report.ReferringPhysicianName) == ("", "")
    assert "Left empty" not in capsys.readouterr().err


@pytest.mark.slow
def test_values_that_dicom_does_not_allow_are_left_empty(write_dicom, model, tmp_path, capsys):
    folder = write_predicted_series(
        write_dicom, tmp_path / "series", (0.1, 0.9), PatientSex="X", AccessionNumber="C" * 17
    )
    htf.predict(folder, model=model, dicom_out=tmp_path / "out")
    [path] = (tmp_path / "out").glob("*/report.dcm")
    report = pydicom.dcmread(path)
    assert (report.PatientSex, report.AccessionNumber) == ("", "")
    assert (
        "Left empty, because DICOM does not allow their values: AccessionNumber, PatientSex."
        in (capsys.readouterr().err)
    )


@pytest.mark.slow
def test_files_of_one_series_that_contradict_each_other(write_dicom, model, tmp_path):
    folder = write_predicted_series(write_dicom, tmp_path / "series", (0.1, 0.9, 0.2))
    for name, tags, message in (
        ("study", {"StudyInstanceUID": "1.2.3.4"}, "its files are of different studies"),
        ("patient", {"PatientName": "Other"}, "its files name different patients"),
        (
            "orientation",
            {"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]},
            "its slices have different orientations",
        ),
    ):
        path = folder / f"{name}.dcm"
        write_dicom(path, slice_with(0.5), 20.0, **(STUDY | {"SOPInstanceUID": "1.2.9"} | tags))
        with pytest.raises(DataError, match=message):
            run(folder, model, tmp_path / "out")
        path.unlink()


@pytest.mark.slow
def test_invalid_scans_are_skipped_on_request(write_dicom, write_nifti, model, tmp_path, capsys):
    folder = write_predicted_series(write_dicom, tmp_path / "series", (0.1, 0.9))
    volume = write_nifti(tmp_path / "volume.nii", np.stack([slice_with(0.9)] * 3))
    with pytest.raises(DataError, match="volume.nii: not DICOM, so it has no study to refer to"):
        run([folder, volume], model, tmp_path / "out")
    prediction = htf.predict(
        [folder, volume], model=model, dicom_out=tmp_path / "out", skip_invalid=True
    )
    assert len(prediction.scans) == 2 and len(list((tmp_path / "out").iterdir())) == 1
    assert "cannot have DICOM results (1)" in capsys.readouterr().err


def test_a_series_without_a_head_gets_no_result(write_dicom, model, tmp_path):
    folder = tmp_path / "series"
    for index in range(3):
        tags = STUDY | {"SOPInstanceUID": f"1.2.826.{index + 1}"}
        write_dicom(folder / f"{index}.dcm", np.full((64, 64), -900.0), 5.0 * index, **tags)
    with pytest.raises(DataError, match="no slice looks like a head CT"):
        run(folder, model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_single_slices_have_no_results(write_dicom, model, tmp_path):
    folder = write_predicted_series(write_dicom, tmp_path / "series", (0.9,))
    with pytest.raises(DataError, match="there is no scan, only single slices"):
        run(folder, model, tmp_path / "out")


def test_texts_in_pixels_cannot_be_made_anonymous(write_dicom, model, tmp_path):
    folder = write_predicted_series(
        write_dicom, tmp_path / "series", (0.1, 0.9), BurnedInAnnotation="YES"
    )
    with pytest.raises(DataError, match="texts in its pixels may name the patient"):
        run(folder, model, tmp_path / "out", anonymize=True)


def test_anonymize_alone_is_an_error(series, model):
    with pytest.raises(OptionError, match="Pass --dicom-out DIR as well"):
        htf.predict(series, model=model, anonymize=True, quiet=True)


def test_a_missing_package_is_named(series, model, tmp_path, monkeypatch):
    monkeypatch.setattr("hemorrhage_tf.verbs.predicted_scans.find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"pip install 'hemorrhage_tf\[dicom\]'"):
        run(series, model, tmp_path / "out")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(series, model, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(htf.HemorrhageError, match="cannot be written"):
        run(series, model, Path(tmp_path / "locked" / "out"))


def test_a_file_in_the_place_of_the_folder(series, model, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(htf.HemorrhageError, match="--dicom-out .*: cannot be written"):
        run(series, model, tmp_path / "out")
