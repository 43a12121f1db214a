from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hemorrhage_tf.data.manifest import (
    LAYOUTS,
    Manifest,
    Record,
    expand_images,
    find_images,
    read_manifest,
)
from hemorrhage_tf.errors import DataError, OptionError


def add_images(folder, *names):
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(path)
    return paths


def add_csv(folder, text, name="manifest.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(text.encode())
    return path


def labels_by_name(manifest):
    return {manifest.name(record): record.label for record in manifest.records}


def reasons(manifest):
    return {problem.path: problem.reason for problem in manifest.problems}


class TestKaggleFolder:
    @pytest.mark.parametrize("below", ["", "head_ct", "head_ct/head_ct"])
    def test_unpadded_ids_find_padded_images_at_each_depth(self, tmp_path, below):
        add_images(tmp_path / below, "000.png", "001.png", "010.png")
        add_csv(tmp_path, "id, hemorrhage\n0,1\n1,0\n10, 1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert manifest.layout == "kaggle"
        assert manifest.root == tmp_path
        prefix = f"{below}/" if below else ""
        assert labels_by_name(manifest) == {
            f"{prefix}000.png": 1,
            f"{prefix}001.png": 0,
            f"{prefix}010.png": 1,
        }
        assert manifest.problems == ()

    def test_images_three_folders_down_are_not_found(self, tmp_path):
        add_images(tmp_path / "a" / "b" / "c", "0.png")
        add_csv(tmp_path, "id,hemorrhage\n0,1\n", "labels.csv")
        assert reasons(read_manifest(tmp_path)) == {"labels.csv id 0": "has a label but no image"}

    def test_shared_fixture(self, kaggle_folder):
        manifest = read_manifest(kaggle_folder)
        assert len(manifest) == 24
        np.testing.assert_array_equal(manifest.labels, np.arange(24) % 2)
        assert manifest.labels.dtype == np.int64
        assert manifest.problems == ()

    def test_csv_file_itself_is_accepted(self, kaggle_folder):
        assert read_manifest(kaggle_folder / "labels.csv") == read_manifest(kaggle_folder)

    def test_text_ids_file_names_and_patients(self, tmp_path):
        add_images(tmp_path, "scan_a.png", "scan_b.jpg")
        add_csv(tmp_path, "id,label,patient\nscan_a,1,P\nscan_b.jpg,0,\n", "labels.csv")
        assert read_manifest(tmp_path).records == (
            Record(tmp_path / "scan_a.png", 1, "P"),
            Record(tmp_path / "scan_b.jpg", 0, None),
        )

    def test_byte_order_mark_and_windows_line_ends(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "\ufeffid, hemorrhage\r\n0, 0\r\n1, 1\r\n", "labels.csv")
        assert labels_by_name(read_manifest(tmp_path)) == {"0.png": 0, "1.png": 1}

    def test_label_without_image(self, tmp_path):
        add_images(tmp_path, "0.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n7,1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest) == {"labels.csv id 7": "has a label but no image"}

    def test_image_without_label(self, tmp_path):
        paths = add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest) == {str(paths[1]): "has no row in labels.csv"}

    def test_label_outside_the_classes(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png", "2.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n1,2\n2,\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest) == {
            "labels.csv id 1": "the label '2' is outside the two classes, 0 and 1",
            "labels.csv id 2": "the label '' is outside the two classes, 0 and 1",
        }

    def test_duplicate_id(self, tmp_path):
        add_images(tmp_path, "007.png")
        add_csv(tmp_path, "id,hemorrhage\n7,0\n007,1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"007.png": 0}
        assert reasons(manifest) == {"labels.csv id 007": "the id stands in more than one row"}

    def test_id_of_several_images(self, tmp_path):
        paths = add_images(tmp_path, "07.png", "7.jpg", "a/7.png")
        add_csv(tmp_path, "id,hemorrhage\n7,0\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert len(manifest) == 0
        (reason,) = reasons(manifest).values()
        assert reason.startswith("matches several images: ")
        assert all(str(path) in reason for path in paths)

    def test_ragged_row(self, tmp_path):
        add_images(tmp_path, "0.png", "1.png")
        add_csv(tmp_path, "id,hemorrhage\n0,0\n1\n", "labels.csv")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"0.png": 0}
        assert reasons(manifest)["labels.csv row 3"] == "has 1 cells, not 2"


class TestClassFolders:
    @pytest.mark.parametrize(
        ("negative", "positive"),
        [
            ("normal", "hemorrhage"),
            ("Normal", "Hemorrhage"),
            ("0", "1"),
            ("no_hemorrhage", "ich"),
            ("healthy", "subdural"),
            ("other", "bleed"),
        ],
    )
    def test_known_names(self, tmp_path, negative, positive):
        add_images(tmp_path, f"{negative}/a.png", f"{positive}/deep/er/b.jpg")
        manifest = read_manifest(tmp_path)
        assert manifest.layout == "class folders"
        assert labels_by_name(manifest) == {f"{negative}/a.png": 0, f"{positive}/deep/er/b.jpg": 1}

    def test_positive_names_the_class(self, tmp_path):
        add_images(tmp_path, "cats/a.png", "dogs/b.png")
        assert labels_by_name(read_manifest(tmp_path, "cats")) == {"cats/a.png": 1, "dogs/b.png": 0}

    def test_positive_overrides_known_names(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png")
        manifest = read_manifest(tmp_path, "normal")
        assert labels_by_name(manifest) == {"hemorrhage/b.png": 0, "normal/a.png": 1}

    def test_unknown_names_need_positive(self, tmp_path):
        add_images(tmp_path, "cats/a.png", "dogs/b.png")
        with pytest.raises(OptionError, match="classes are cats, dogs: .* --positive NAME"):
            read_manifest(tmp_path)

    def test_positive_that_is_no_class(self, tmp_path):
        add_images(tmp_path, "cats/a.png", "dogs/b.png")
        with pytest.raises(
            OptionError, match="--positive cows: no such class. Received: cats, dogs"
        ):
            read_manifest(tmp_path, "cows")

    def test_loose_images_are_problems(self, tmp_path):
        (loose,) = add_images(tmp_path, "loose.png")
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png")
        manifest = read_manifest(tmp_path)
        assert len(manifest) == 2
        assert reasons(manifest) == {str(loose): "lies beside the class folders, without a label"}

    def test_hidden_and_empty_folders_do_not_count(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png", ".cache/c.png")
        (tmp_path / "empty").mkdir()
        assert len(read_manifest(tmp_path)) == 2

    def test_three_class_folders(self, tmp_path):
        add_images(tmp_path, "normal/a.png", "hemorrhage/b.png", "unsure/c.png")
        with pytest.raises(DataError, match="Received: class folders: hemorrhage, normal, unsure"):
            read_manifest(tmp_path)

    def test_images_without_any_labels(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        with pytest.raises(DataError, match="Received: 2 images without labels") as caught:
            read_manifest(tmp_path)
        assert LAYOUTS in str(caught.value)


class TestCsvManifest:
    def test_relative_and_absolute_paths_patients_and_splits(self, tmp_path):
        (outside,) = add_images(tmp_path / "elsewhere", "c.png")
        folder = tmp_path / "set"
        first, second = add_images(folder, "a.png", "sub/b.png")
        path = add_csv(
            folder,
            "path,label,patient,split\n"
            f"a.png,0,P1,train\nsub/b.png,1,P2,Test\n{outside},hemorrhage,,train\n",
        )
        manifest = read_manifest(path)
        assert manifest.layout == "csv"
        assert manifest.problems == ()
        assert manifest.records == (
            Record(first, 0, "P1", "train"),
            Record(second, 1, "P2", "test"),
            Record(outside, 1, None, "train"),
        )
        names = [manifest.name(record) for record in manifest.records]
        assert names == ["a.png", "sub/b.png", outside.as_posix()]

    def test_folder_with_a_manifest(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        path = add_csv(tmp_path, "path,label\na.png,0\nb.png,1\n")
        assert read_manifest(tmp_path) == read_manifest(path)

    def test_any_name_and_upper_case_suffix(self, tmp_path):
        add_images(tmp_path, "a.png")
        assert len(read_manifest(add_csv(tmp_path, "path,label\na.png,0\n", "Set.CSV"))) == 1

    def test_byte_order_mark_spaces_quotes_and_blank_rows(self, tmp_path):
        add_images(tmp_path, "a b.png", "c,d.png")
        add_csv(tmp_path, '\ufeffPath, Label\r\n\r\n a b.png , 1.0\r\n"c,d.png", 0\r\n,\r\n')
        assert labels_by_name(read_manifest(tmp_path)) == {"a b.png": 1, "c,d.png": 0}

    def test_columns_in_another_order_and_unknown_ones(self, tmp_path):
        add_images(tmp_path, "a.png")
        add_csv(tmp_path, "comment,label,path\nfine,1,a.png\n")
        assert labels_by_name(read_manifest(tmp_path)) == {"a.png": 1}

    def test_positive_class(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label\na.png,sah\nb.png,clear\n")
        assert labels_by_name(read_manifest(tmp_path, "sah")) == {"a.png": 1, "b.png": 0}

    def test_positive_among_three_classes(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png", "c.png")
        add_csv(tmp_path, "path,label\na.png,sah\nb.png,clear\nc.png,tumor\n")
        with pytest.raises(DataError, match="two classes. Received: clear, sah, tumor"):
            read_manifest(tmp_path, "sah")

    def test_problems_name_path_and_reason(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png", "c.png")
        add_csv(
            tmp_path,
            "path,label,split\na.png,1,train\ngone.png,0,train\nb.png,maybe,train\n"
            "c.png,0,validation\na.png,1\n",
        )
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"a.png": 1}
        assert reasons(manifest) == {
            "gone.png": "has a label but there is no such image",
            "b.png": "the label 'maybe' is outside the two classes, 0 and 1",
            "c.png": "the split 'validation' is neither train nor test",
            "manifest.csv row 6": "has 2 cells, not 3",
        }

    def test_row_numbers_are_those_of_the_file(self, tmp_path):
        add_images(tmp_path, "a.png")
        add_csv(tmp_path, "path,label\n\na.png,1\n\na.png\n")
        assert list(reasons(read_manifest(tmp_path))) == ["manifest.csv row 5"]

    def test_blank_split_beside_others(self, tmp_path):
        paths = add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label,split\na.png,1,train\nb.png,0,\n")
        manifest = read_manifest(tmp_path)
        assert labels_by_name(manifest) == {"a.png": 1}
        assert reasons(manifest) == {str(paths[1]): "the split is blank, while other rows have one"}

    def test_split_blank_everywhere_is_none(self, tmp_path):
        add_images(tmp_path, "a.png", "b.png")
        add_csv(tmp_path, "path,label,split\na.png,1,\nb.png,0,\n")
        assert [record.split for record in read_manifest(tmp_path).records] == [None, None]

    def test_manifest_is_given_back(self, tmp_path):
        manifest = Manifest((), tmp_path, "csv")
        assert read_manifest(manifest) is manifest


class TestErrors:
    def test_missing_path(self, tmp_path):
        with pytest.raises(DataError, match="gone: no such file or folder. Accepted are:\n"):
            read_manifest(tmp_path / "gone")

    def test_empty_folder(self, tmp_path):
        with pytest.raises(DataError, match="Received: class folders: none. Accepted are:\n"):
            read_manifest(tmp_path)

    def test_file_that_is_no_csv(self, tmp_path):
        (path,) = add_images(tmp_path, "a.png")
        with pytest.raises(DataError, match=r"a\.png: a file that is no CSV manifest"):
            read_manifest(path)

    def test_unknown_columns(self, tmp_path):
        path = add_csv(tmp_path, "File,Class\na.png,1\n")
        with pytest.raises(
            DataError, match="path and label, or id and hemorrhage. Received: File, Class"
        ):
            read_manifest(path)

    @pytest.mark.parametrize("text", ["", "\n\n", " , \n"])
    def test_empty_csv(self, tmp_path, text):
        with pytest.raises(DataError, match=r"manifest\.csv: the file is empty"):
            read_manifest(add_csv(tmp_path, text))

    def test_binary_csv(self, tmp_path):
        path = tmp_path / "manifest.csv"
        Image.new("L", (4, 4)).save(path, "PNG")
        with pytest.raises(DataError, match="cannot be read as CSV .* Save it as UTF-8"):
            read_manifest(path)

    def test_header_alone_with_no_classes(self, tmp_path):
        with pytest.raises(OptionError, match="the classes are missing"):
            read_manifest(add_csv(tmp_path, "path,label\n"))


class TestFindImages:
    def test_sorted_without_hidden_ones_and_other_files(self, tmp_path):
        shown = add_images(tmp_path, "a.png", "b/c.JPG", "z.jpeg")
        add_images(tmp_path, ".hidden.png", ".git/d.png", "__MACOSX/e.png")
        (tmp_path / "notes.txt").write_text("no image")
        (tmp_path / "folder.png").mkdir()
        assert find_images(tmp_path) == shown

    @pytest.mark.parametrize("depth", [0, 1, 2, None])
    def test_depth(self, tmp_path, depth):
        names = ["a.png", "1/b.png", "1/2/c.png", "1/2/3/d.png"]
        paths = add_images(tmp_path, *names)
        expected = paths if depth is None else paths[: depth + 1]
        assert find_images(tmp_path, depth) == sorted(expected)


class TestExpandImages:
    def test_files_in_the_order_given_each_once(self, tmp_path):
        a, b = add_images(tmp_path, "a.png", "b.png")
        assert expand_images([b, str(a), b]) == [b, a]

    def test_folder_at_every_depth_without_hidden_files(self, tmp_path):
        shown = add_images(tmp_path, "a.png", "b/c/d/e/f.jpg")
        add_images(tmp_path, ".hidden.png")
        assert expand_images([tmp_path]) == shown

    def test_hidden_file_that_is_named_is_taken(self, tmp_path):
        paths = add_images(tmp_path, ".hidden.png")
        assert expand_images(paths) == paths

    def test_patterns(self, tmp_path):
        a, b, c = add_images(tmp_path, "a.png", "b.png", "c/c.png")
        add_images(tmp_path, ".d.png")
        (tmp_path / "e.txt").write_text("no image")
        assert expand_images([f"{tmp_path}/*"]) == [a, b]
        assert expand_images([f"{tmp_path}/[b-z].png"]) == [b]
        assert expand_images([f"{tmp_path}/**/*.png"]) == [a, b, c]

    def test_file_whose_name_looks_like_a_pattern(self, tmp_path):
        paths = add_images(tmp_path, "a[1].png")
        assert expand_images(paths) == paths

    def test_relative_arguments_stay_relative(self, tmp_path, monkeypatch):
        add_images(tmp_path, "scans/a.png")
        monkeypatch.chdir(tmp_path)
        assert expand_images(["scans", "scans/*.png"]) == [Path("scans/a.png")]

    def test_everything_that_is_not_found_stands_in_one_message(self, tmp_path):
        add_images(tmp_path, "a.png")
        (tmp_path / "empty").mkdir()
        with pytest.raises(DataError) as caught:
            expand_images(
                [tmp_path / "a.png", tmp_path / "empty", tmp_path / "gone.png", f"{tmp_path}/x*"]
            )
        assert str(caught.value).splitlines() == [
            "These arguments name no image:",
            f"  {tmp_path}/empty: the folder holds no PNG or JPEG image",
            f"  {tmp_path}/gone.png: no such file or folder, and no image matches it as a pattern",
            f"  {tmp_path}/x*: no such file or folder, and no image matches it as a pattern",
            "Give PNG or JPEG files, folders or globs.",
        ]
