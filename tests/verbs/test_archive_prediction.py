"""Prediction of the studies of an archive, with a DICOMweb server on the loopback."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from fake_archive import running_archive
from predicted_series import STUDY, CenterModel, write_predicted_series

import hemorrhage_tf as htf
from hemorrhage_tf.core.errors import ArchiveError, OptionError
from hemorrhage_tf.dicom_results.archive import Archive
from hemorrhage_tf.dicom_results.watch_record import RECORD_FILE, WatchRecord
from hemorrhage_tf.verbs import archive_prediction

UID = STUDY["StudyInstanceUID"]
SERIES = [
    {
        "0020000D": {"vr": "UI", "Value": [UID]},
        "0020000E": {"vr": "UI", "Value": [STUDY["SeriesInstanceUID"]]},
        "00080060": {"vr": "CS", "Value": ["CT"]},
    }
]


@pytest.fixture(scope="module")
def series(once, write_dicom):
    return once(
        "archived-series", lambda path: write_predicted_series(write_dicom, path, (0.1, 0.9, 0.2))
    )


@pytest.fixture
def archive(series, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running_archive() as archive:
        archive.load(series)
        yield archive


@pytest.fixture
def model(tmp_path):
    return CenterModel(tmp_path / "model")


def run(archive, model, tmp_path, **options):
    options = {"dicomweb": archive.url, "study": UID, "quiet": True} | options
    return htf.predict(model=model, dicom_out=tmp_path / "out", **options)


def test_results_are_stored_beside_the_images(archive, model, series, tmp_path):
    prediction = run(archive, model, tmp_path)
    assert archive.modalities() == ["CT", "KO", "OT", "SR"]
    assert {study for study, _, _ in archive.instances} == {UID}
    stored = {instance for _, _, instance in archive.instances}
    assert len(stored) == 3 + 4
    assert [one.path for one in prediction] == [f"series-3/{index:05d}.dcm" for index in range(3)]
    expected = htf.predict(series, model=model, quiet=True)
    assert [one.probability for one in prediction] == [one.probability for one in expected]
    assert prediction.scans[0].top_slices[0] == "series-3/00001.dcm"
    # Once more: the results of the first run are neither read nor stored twice.
    run(archive, model, tmp_path)
    assert {instance for _, _, instance in archive.instances} == stored


@pytest.mark.slow
def test_what_the_archive_has_already_is_no_error(archive, model, tmp_path):
    archive.rejects = 0x0111
    run(archive, model, tmp_path)
    archive.rejects = 0xA700
    with pytest.raises(ArchiveError, match="did not accept 4 of 4 objects"):
        run(archive, model, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (503, r"not able to answer now \(503\). Try again later"),
        (401, "Pass a valid token with --token FILE"),
        (404, r"no such study or service \(404\)"),
        (400, r"refused the request \(400\)"),
    ],
)
def test_an_archive_that_refuses(status, message, archive, model, tmp_path):
    archive.status = {"GET": status}
    with pytest.raises(ArchiveError, match=message):
        run(archive, model, tmp_path)
    archive.status = {"POST": status}
    with pytest.raises(ArchiveError, match=message) as raised:
        run(archive, model, tmp_path)
    # The results of a study that was fetched are not lost.
    [folder] = (tmp_path / "out").iterdir()
    assert f"The results were written to {folder}." in str(raised.value)
    assert (folder / "report.dcm").is_file()
    assert UID not in str(raised.value)


@pytest.mark.slow
def test_an_archive_that_dies(archive, model, tmp_path):
    archive.breaks_off = True
    with pytest.raises(ArchiveError, match="the connection to the archive failed, or broke"):
        run(archive, model, tmp_path)
    # Nothing of the fetched images is left.
    assert list((tmp_path / "out").iterdir()) == []
    with pytest.raises(ArchiveError, match="Check the URL and that the archive runs"):
        run(archive, model, tmp_path, dicomweb="http://127.0.0.1:9/dicom-web")


@pytest.mark.slow
def test_an_archive_that_sends_nonsense(archive, model, tmp_path):
    for nonsense in (b"<html>", b'[{"0020000E": 3}]', b'{"a": 1}', b"[7]"):
        archive.nonsense = nonsense
        with pytest.raises(ArchiveError, match=r"what is not DICOM|failed, or broke|no CT images"):
            run(archive, model, tmp_path)
    archive.nonsense = None
    first = next(iter(archive.instances))
    archive.instances[first] = archive.instances[first][:90]
    archive.series = lambda study=None: SERIES
    with pytest.raises(ArchiveError, match="what is not DICOM"):
        run(archive, model, tmp_path)


@pytest.mark.slow
def test_a_study_that_is_not_there(archive, model, tmp_path):
    with pytest.raises(ArchiveError, match="the archive has no CT images of this study"):
        run(archive, model, tmp_path, study="1.2.3")


@pytest.mark.slow
def test_a_token(archive, model, tmp_path):
    archive.token = "abc.DEF"
    token = tmp_path / "token"
    token.write_text("abc.DEF\n")
    assert len(run(archive, model, tmp_path, token=token)) == 3
    with pytest.raises(ArchiveError, match="refused access"):
        run(archive, model, tmp_path)
    for content, message in (("", "not one token"), ("two words", "not one token")):
        token.write_text(content)
        with pytest.raises(OptionError, match=message):
            run(archive, model, tmp_path, token=token)
    with pytest.raises(OptionError, match="cannot be read"):
        run(archive, model, tmp_path, token=tmp_path / "absent")
    token.write_text("abc")
    with pytest.raises(OptionError, match="must not be sent unencrypted"):
        run(archive, model, tmp_path, token=token, dicomweb="http://archive.example/dicom-web")


@pytest.mark.slow
def test_a_certificate(series, model, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    key, certificate, both = (tmp_path / name for name in ("key.pem", "cert.pem", "both.pem"))
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    subprocess.run(
        [
            *command.split(),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    both.write_text(key.read_text() + certificate.read_text())
    with running_archive(both) as archive:
        archive.load(series)
        with pytest.raises(ArchiveError, match="is not trusted. Pass the certificates"):
            run(archive, model, tmp_path)
        assert len(run(archive, model, tmp_path, ca=certificate)) == 3
        (tmp_path / "empty.pem").write_text("nothing")
        with pytest.raises(OptionError, match="no certificates can be read"):
            run(archive, model, tmp_path, ca=tmp_path / "empty.pem")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"study": None}, "pass --study UID for one study, or --watch"),
        ({"watch": True}, "pass --study UID for one study, or --watch"),
        ({"anonymize": True}, "and no --anonymize"),
        ({"dicom_out": None}, "pass --dicom-out DIR"),
        ({"images": ["slice.png"]}, "Leave out IMAGES"),
        ({"dicomweb": "archive"}, "not a URL of DICOMweb services"),
        ({"dicomweb": None}, "--study is about an archive. Pass --dicomweb URL as well."),
    ],
)
def test_options_that_contradict_each_other(options, message, model, tmp_path):
    given = {"dicomweb": "http://127.0.0.1:9", "study": UID, "dicom_out": tmp_path / "out"}
    with pytest.raises(OptionError, match=message):
        htf.predict(**(given | {"model": model, "quiet": True} | options))


class _Enough(Exception):
    """Ends a watch."""


@pytest.fixture
def watch(archive, model, tmp_path, monkeypatch):
    """Watch the archive for some queries, without waiting between them."""

    def watch(queries, **options):
        left = iter(range(queries))

        def wait(seconds):
            if next(left, None) is None:
                raise _Enough

        monkeypatch.setattr(archive_prediction, "_wait", wait)
        with pytest.raises(_Enough):
            run(archive, model, tmp_path, study=None, watch=True, **options)
        path = tmp_path / "out" / RECORD_FILE
        return [json.loads(line) for line in path.read_text().splitlines() if line]

    return watch


@pytest.mark.slow
def test_a_watched_archive_is_predicted_study_by_study(archive, watch, write_dicom, tmp_path):
    other = {"StudyInstanceUID": "1.2.826.7", "SeriesInstanceUID": "1.2.826.7.1"}
    archive.load(write_predicted_series(write_dicom, tmp_path / "other", (0.9, 0.8), **other))
    log = tmp_path / "log.jsonl"
    left_behind = tmp_path / "out" / ".study.killed.part"
    left_behind.mkdir(parents=True)
    record = watch(3, log_json=log)
    assert not left_behind.exists()
    assert [one["state"] for one in record] == ["done", "done"]
    assert [one["instances"] for one in record] == [3, 2]
    assert archive.modalities() == ["CT", "CT", "KO", "KO", "OT", "OT", "SR", "SR"]
    text = (tmp_path / "out" / RECORD_FILE).read_text() + log.read_text()
    for secret in (UID, "1.2.826.7", "Mustermann", "PAT0815", "127.0.0.1"):
        assert secret not in text
    scans = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(one["event"] == "scan" for one in scans) == 2
    # A second watch continues where this one was, and sees a study that grows.
    assert len(watch(3)) == 2
    more = write_predicted_series(write_dicom, tmp_path / "more", (0.9,) * 3, **other)
    archive.load(more)
    record = watch(3)
    assert len(record) == 3 and record[-1]["instances"] == 3


@pytest.mark.slow
def test_a_failed_study_is_set_aside_and_tried_again(archive, watch, monkeypatch, capsys):
    archive.status = {"POST": 503}
    record = watch(4)
    # The next try waits for half a minute, so later queries leave the study alone.
    assert [(one["state"], one["tries"]) for one in record] == [("failed", 1)]
    archive.status = {}
    monkeypatch.setattr("time.time", lambda: record[0]["at"] + 31)
    record = watch(3)
    assert [one["state"] for one in record] == ["failed", "done"]
    assert "SR" in archive.modalities()


@pytest.mark.slow
def test_a_study_without_a_head_waits_for_further_images(archive, watch, write_dicom, tmp_path):
    archive.instances.clear()
    folder = tmp_path / "chest"
    for index in range(2):
        tags = STUDY | {"SOPInstanceUID": f"1.2.826.5.{index + 1}"}
        write_dicom(folder / f"{index}.dcm", np.full((64, 64), -900.0), 5.0 * index, **tags)
    archive.load(folder)
    record = watch(5)
    assert [one["state"] for one in record] == ["unusable"]
    assert archive.modalities() == ["CT"]


@pytest.mark.slow
def test_an_archive_that_is_away_for_a_while(archive, watch, monkeypatch):
    archive.status = {"GET": 503}
    find_studies, calls = Archive.find_studies, []

    def recover(self):
        calls.append(self)
        if len(calls) == 3:
            archive.status = {}
        return find_studies(self)

    monkeypatch.setattr(Archive, "find_studies", recover)
    assert [one["state"] for one in watch(6)] == ["done"]


def test_the_record_survives_an_incomplete_line(tmp_path):
    record = WatchRecord(tmp_path)
    record.add("2.25.1", "done", 3)
    with open(tmp_path / RECORD_FILE, "a") as file:
        file.write('{"study": "2.25.2", "sta')
    again = WatchRecord(tmp_path)
    assert not again.is_due("2.25.1", 3) and again.is_due("2.25.1", 4)
    assert again.is_due("2.25.2", 1)
    again.add("2.25.2", "failed", 1)
    assert not WatchRecord(tmp_path).is_due("2.25.2", 1)
