"""The exported page in Chromium: it predicts what the library predicts, alone and offline."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import JPEG_2000_LOSSLESS, compressed, encode, transcode
from PIL import Image

import hemorrhage_tf as htf
from hemorrhage_tf.imaging.windows import to_display_image

SLICES = 20

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(once, page) -> Path:
    def export(path: Path) -> None:
        htf.export("phantomnet", path, format="web", web_page=page, quiet=True)

    return once("web-site", export)


@pytest.fixture(scope="module")
def heads() -> np.ndarray:
    return np.stack([np.rint(htf.draw_phantom(11, i, size=256).hounsfield) for i in range(SLICES)])


@pytest.fixture(scope="module")
def inputs(heads, tmp_path_factory, write_series, write_nifti) -> dict[str, Path]:
    """Folders with the same phantoms as PNG, as a DICOM series and as a NIfTI volume."""
    import pydicom

    folder = tmp_path_factory.mktemp("inputs")
    for kind in ("png", "dicom", "bad"):
        (folder / kind).mkdir()
    for index, head in enumerate(heads):
        Image.fromarray(to_display_image(head)).save(folder / "png" / f"{index:02d}.png")
    files = write_series(folder / "dicom", list(heads))
    dataset = pydicom.dcmread(files[0])
    files[0].write_bytes(encode(compressed(dataset, JPEG_2000_LOSSLESS)))
    transcode(files[1], files[1], "JPEGLosslessProcess14_1")
    transcode(files[2], files[2], "JPEGLSLossless")
    write_nifti(folder / "head.nii.gz", heads)
    return {"png": folder / "png", "dicom": folder / "dicom", "nifti": folder / "head.nii.gz"}


@pytest.fixture(scope="module")
def bad(inputs, tmp_path_factory) -> list[Path]:
    """Damaged, huge, encrypted and foreign files."""
    import struct
    import zlib

    import pydicom

    folder = tmp_path_factory.mktemp("bad")
    whole = next(inputs["dicom"].iterdir()).read_bytes()
    (folder / "cut.dcm").write_bytes(whole[: len(whole) // 3])
    (folder / "cut.png").write_bytes((inputs["png"] / "00.png").read_bytes()[:2000])
    (folder / "note.txt").write_text("not an image")
    (folder / "empty.png").write_bytes(b"")
    (folder / "volume.nii.gz").write_bytes(inputs["nifti"].read_bytes()[:1000])
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    data = struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    dataset = pydicom.dcmread(sorted(inputs["dicom"].iterdir())[-1])
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(dataset, keyword)
    dataset.EncryptedAttributesSequence = [pydicom.Dataset()]
    dataset.SOPInstanceUID = "1.2.99"
    dataset.save_as(folder / "encrypted.dcm")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def seen(drive, site, inputs, bad) -> dict[str, Any]:
    """What happens on the page in one visit."""
    png = [str(path) for path in sorted(inputs["png"].iterdir())]
    return drive(
        site,
        [
            {"axe": True},
            {"files": png},
            {"folder": str(inputs["dicom"])},
            {"files": [str(inputs["nifti"])], "overlay": True},
            {"keyboard": True},
            {"axe": True},
            {"files": [*map(str, bad), png[0]]},
            {"offline": True},
            {"files": png[:3]},
        ],
    )


def rows_of(path: str) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def assert_like_the_library(step: dict[str, Any], site: Path, images: Any) -> None:
    model = htf.load(site / "model" / "model.tflite")
    expected = model.predict(images).to_rows()
    rows = rows_of(step["csv"])
    assert [Path(row["path"]).name for row in rows] == [Path(row["path"]).name for row in expected]
    assert list(rows[0]) == list(expected[0])
    for row, other in zip(rows, expected, strict=True):
        for name in ("probability", "probability_in_scan", "scan_probability"):
            if other[name] is None:
                assert row[name] == ""
            else:
                assert float(row[name]) == pytest.approx(other[name], abs=1e-3)
        for name in ("hemorrhage", "scan_hemorrhage", "place", "rank", "warning"):
            assert row[name] == ("" if other[name] is None else str(other[name])), name


class TestPredictions:
    def test_pngs_have_the_probabilities_of_the_library(self, seen, site, inputs):
        assert_like_the_library(seen["steps"][1], site, inputs["png"])

    def test_a_dicom_folder_is_a_scan_as_in_the_library(self, seen, site, inputs):
        assert_like_the_library(seen["steps"][2], site, inputs["dicom"])

    def test_a_volume_is_a_scan_as_in_the_library(self, seen, site, inputs):
        assert_like_the_library(seen["steps"][3], site, inputs["nifti"])

    def test_real_slices_have_the_probabilities_of_the_library(self, drive, site, shared):
        files = sorted((shared / "head_ct" / "head_ct").iterdir())
        (step,) = drive(site, [{"files": [str(path) for path in files]}])["steps"]
        assert_like_the_library(step, site, files)

    def test_the_decision_on_the_scan_is_on_top(self, seen, site, inputs):
        scan = htf.load(site / "model" / "model.tflite").predict(inputs["nifti"]).scans[0]
        text = seen["steps"][3]["decision"]
        assert ("No hemorrhage predicted" in text) != scan.is_hemorrhage
        assert f"{scan.probability:.3f}" in text and f"{scan.threshold:.3f}" in text

    def test_the_overlay_colors_what_the_decision_lies_on(self, seen):
        step = seen["steps"][3]
        assert step["coloredWithout"] == 0
        assert step["colored"] > 0


class TestThePage:
    def test_loads_within_five_megabytes(self, seen):
        assert seen["first"]["ready"]
        assert seen["wire"]["bytes"] < 5e6

    def test_requests_nothing_after_loading(self, seen):
        assert seen["foreign"] == []
        assert [seen["steps"][number]["requests"] for number in (1, 2, 3, 6)] == [0, 0, 0, 0]

    def test_raises_no_error(self, seen):
        assert seen["errors"] == []

    def test_has_no_violation_of_accessibility_and_fits_a_phone(self, seen):
        assert seen["steps"][0] == []
        assert seen["steps"][5] == []

    def test_arrow_keys_move_through_the_slices(self, seen):
        texts = [text.split(":")[0] for text in seen["steps"][4]]
        assert texts == ["Slice 1 of 20", "Slice 2 of 20", "Slice 20 of 20"]

    def test_bad_files_are_listed_and_the_others_predicted(self, seen, bad):
        step = seen["steps"][6]
        assert step["status"].startswith("Predicted 1 slice in ")
        lines = [line for line in step["problems"] if line.startswith("Not predicted: ")]
        assert sorted(line.split(": ")[1] for line in lines) == [path.name for path in bad]
        of_file = {line.split(": ")[1]: line for line in lines}
        assert "200000 x 200000 pixels" in of_file["huge.png"]
        assert "encrypted" in of_file["encrypted.dcm"]
        assert "not in a supported format" in of_file["note.txt"]
        assert "0 bytes" in of_file["empty.png"]
        for name in ("cut.dcm", "cut.png", "volume.nii.gz"):
            assert any(word in of_file[name] for word in ("truncated", "damaged", "cannot be dec"))

    def test_works_offline_after_the_first_visit(self, seen):
        offline, after, before = seen["steps"][7], seen["steps"][8], seen["steps"][1]
        assert offline["ready"] and "works offline" in offline["offline"]
        assert rows_of(after["csv"]) == rows_of(before["csv"])[:3]
