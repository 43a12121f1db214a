import numpy as np
import pytest
from PIL import Image
from plain_phantoms import draw_phantom

from hemorrhage_tf.core.errors import DataError
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.unlabeled_slices import index_unlabeled_slices

QUIET = Progress(quiet=True)


@pytest.fixture
def folder(tmp_path, head, write_series, write_nifti):
    write_series(tmp_path / "b series", [head(index) for index in range(4)])
    write_nifti(tmp_path / "c.nii.gz", np.stack([head(index) for index in range(4, 7)]))
    Image.fromarray(draw_phantom(0, 8, 0)).save(tmp_path / "a.png")
    return tmp_path


def test_slices_of_a_scan_are_consecutive_from_the_neck_up(folder):
    index = index_unlabeled_slices(folder, QUIET)
    series, volume = str(folder / "b series"), str(folder / "c.nii.gz")
    assert len(index) == 8
    assert index.scans == (None, *[series] * 4, *[volume] * 3)
    assert index.is_hounsfield.tolist() == [False] + [True] * 7
    names = [ref.path.name for ref in index.slices[1:5]]
    assert [name[1:3] for name in names] == ["00", "01", "02", "03"] and names != sorted(names)
    assert [ref.frame for ref in index.slices[5:]] == [0, 1, 2]


def test_takes_one_argument_or_several_in_their_order(folder):
    both = index_unlabeled_slices([folder / "c.nii.gz", f"{folder}/*.png"], QUIET)
    assert both.scans == (*[str(folder / "c.nii.gz")] * 3, None)
    assert index_unlabeled_slices(str(folder / "a.png"), QUIET).scans == (None,)


def test_lists_unusable_files_in_one_message_or_skips_them(folder):
    first = sorted((folder / "b series").iterdir())[0]
    first.write_bytes(first.read_bytes()[:-500])  # detected only when the pixels are read
    (folder / "d.nii").write_bytes(b"nonsense")
    (folder / "e.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"\(3\):(?s:.*)d\.nii(?s:.*)\.dcm(?s:.*)e\.jpg"):
        index_unlabeled_slices(folder, QUIET)
    index = index_unlabeled_slices(folder, QUIET, skip_invalid=True)
    assert len(index) == 7 and index.scans.count(str(folder / "b series")) == 3


def test_warns_about_gaps_and_slices_without_a_head(tmp_path, head, write_dicom, capsys):
    for index, z in enumerate([0, 5, 10, 25, 30, 35]):
        write_dicom(tmp_path / f"{index}.dcm", head(index), z)
    write_dicom(tmp_path / "x" / "empty.dcm", np.full((64, 64), -1000.0))
    index = index_unlabeled_slices(tmp_path, Progress())
    assert [warning is None for warning in index.warnings] == [True] * 6 + [False]
    printed = " ".join(capsys.readouterr().err.split())
    assert "slices seem to be missing: 15.0 mm between 2.dcm and 3.dcm" in printed
    assert "empty.dcm: " in printed


def test_fails_if_no_slice_is_left(tmp_path):
    (tmp_path / "a.png").write_text("text")
    with pytest.raises(DataError, match="no usable slice is left"):
        index_unlabeled_slices(tmp_path / "a.png", QUIET, skip_invalid=True)


def test_fails_if_an_argument_names_no_slice(tmp_path):
    with pytest.raises(DataError, match="These arguments contain no slices"):
        index_unlabeled_slices(tmp_path / "gone.png", QUIET)
