from __future__ import annotations

import csv
import json
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image, ImageDraw
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf
from hemorrhage_tf.auditing import audit_result, shortcuts
from hemorrhage_tf.auditing.audit import audit_scanned
from hemorrhage_tf.auditing.audit_result import SAME_PIXELS, short
from hemorrhage_tf.cli.main import main
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.image_statistics import image_statistics
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.imaging.readers import read_slice_and_format

QUIET = Progress(quiet=True)
FREE = ("size, mode and format", "border")


def head(seed, size=64):
    """An ellipse with texture of its own: no two of these look alike."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    tall, wide = rng.uniform(0.75, 1.05, 2)
    inside = (rows / tall) ** 2 + (columns / wide) ** 2 < 1
    blocks = Image.fromarray(rng.choice([40.0, 190.0], (6, 6)).astype(np.float32))
    texture = np.asarray(blocks.resize((size, size), Image.Resampling.BICUBIC))
    return np.where(inside, texture.clip(30, 220), 0).astype(np.uint8)


def write_set(folder, images, labels, suffix=".png", patients=None, parts=None, **options):
    """Writes images (arrays or PIL images) and their manifest; gives the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        ending = suffix[index] if isinstance(suffix, list) else suffix
        image.save(folder / f"{index:03d}{ending}", **options)
        row = {"path": f"{index:03d}{ending}", "label": int(label)}
        if patients is not None:
            row["patient"] = patients[index]
        if parts is not None:
            row["split"] = parts[index]
        rows.append(row)
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder / "manifest.csv"


def audited(path):
    return htf.audit(path, quiet=True)


def by_name(found):
    return {each.name: each for each in found}


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def small_forests(request, monkeypatch):
    """Keeps the tests quick, but the one on the real slices, which is timed."""
    if "real_data" not in request.keywords:
        monkeypatch.setattr(shortcuts, "TREES", 20)
        monkeypatch.setattr(shortcuts, "REPEATS", 2)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """Sixty slices whose labels are drawn apart from everything else."""
    labels = np.random.default_rng(3).permutation(np.arange(60) % 2)
    sizes = np.random.default_rng(4).integers(60, 90, 60)
    images = [head(index, size=int(size)) for index, size in enumerate(sizes)]
    return write_set(tmp_path_factory.mktemp("clean"), images, labels)


@pytest.fixture(scope="module")
def clean_audit(clean):
    return audited(clean)


class TestPairs:
    def pairs(self, tmp_path, images, labels=None, **options):
        labels = labels or [index % 2 for index in range(len(images))]
        return audited(write_set(tmp_path / "set", images, labels, **options)).pairs

    def test_unrelated_slices_make_none(self, tmp_path):
        assert self.pairs(tmp_path, [head(index) for index in range(12)]) == ()

    def test_pixels_count_and_not_bytes(self, tmp_path):
        gray = head(0)
        images = [gray, Image.fromarray(gray).convert("RGBA"), head(1)]
        (pair,) = self.pairs(tmp_path, images, [1, 1, 0])
        assert (pair.first, pair.second, pair.relation) == ("000.png", "001.png", SAME_PIXELS)
        assert pair.correlation == 1 and not pair.contradicting

    def test_scale(self, tmp_path):
        picture = Image.fromarray(head(0, size=120))
        (pair,) = self.pairs(tmp_path, [picture, picture.resize((75, 90)), head(1)])
        assert pair.relation == "alike"
        assert (pair.first_size, pair.second_size) == ((120, 120), (75, 90))

    @pytest.mark.parametrize(
        ("name", "axes"), [("left to right", 1), ("top to bottom", 0), ("both ways", (0, 1))]
    )
    def test_flips(self, tmp_path, name, axes):
        (pair,) = self.pairs(tmp_path, [head(0), head(1), np.flip(head(0), axes)])
        assert (pair.first, pair.second) == ("000.png", "002.png")
        assert pair.relation == f"alike, flipped {name}"

    @pytest.mark.parametrize("cut", [(8, 6, 12, 4), (0, 0, 11, 0), (9, 9, 9, 9)])
    def test_small_crops(self, tmp_path, cut):
        top, bottom, left, right = cut
        content = head(0, size=160)
        content = content[np.ix_(content.any(axis=1), content.any(axis=0))]
        height, width = content.shape
        crop = content[top : height - bottom, left : width - right]
        (pair,) = self.pairs(tmp_path, [content, head(1), crop])
        assert pair.relation == "alike, cropped"
        assert pair.correlation >= 0.97

    def test_a_crop_that_is_flipped_and_rescaled(self, tmp_path):
        content = head(0, size=160)
        content = content[np.ix_(content.any(axis=1), content.any(axis=0))]
        crop = Image.fromarray(np.fliplr(content[8:-6, 9:-3])).resize((70, 82))
        (pair,) = self.pairs(tmp_path, [crop, head(1), content])
        assert (pair.first, pair.second) == ("000.png", "002.png")
        assert pair.relation == "alike, cropped and flipped left to right"

    def test_recompression(self, tmp_path):
        images = [head(0), head(0), head(1)]
        (pair,) = self.pairs(tmp_path, images, suffix=[".png", ".jpg", ".png"])
        assert pair.relation == "alike"

    def test_contradicting_labels_and_a_pair_across_the_split(self, tmp_path):
        images = [head(0), head(0), head(1), head(2)]
        parts = ["train", "test", "train", "test"]
        path = write_set(tmp_path / "set", images, [0, 1, 1, 0], parts=parts)
        found = audited(path)
        (pair,) = found.pairs
        assert pair.contradicting and pair.across_split
        text = " ".join(found.conclusions)
        assert "1 pair of these with contradicting labels" in text
        assert "1 pair of these on both sides of the split column" in text
        assert "1 with contradicting labels" not in text
        assert any("1 with contradicting labels" in line for line in short(found))


class TestPatients:
    def test_labels_per_patient_without_their_names(self, tmp_path):
        patients = ["anna", "anna", "anna", "bert", "carla", "carla", ""]
        path = write_set(
            tmp_path / "set", [head(i) for i in range(7)], [1, 1, 0, 1, 0, 0, 0], patients=patients
        )
        found = audited(path)
        assert found.patients == audit_result.Patients(
            count=3,
            unnamed=1,
            with_hemorrhage=1,
            without=1,
            with_both=1,
            across_split=0,
            median_slices=2,
            most_slices=3,
        )
        assert found.groups == 4
        text = json.dumps(found.to_dict()) + run("audit", path).stdout
        assert not any(name in text for name in ("anna", "bert", "carla"))

    def test_no_patients(self, clean_audit):
        found = clean_audit
        assert (found.patients.count, found.patients.unnamed) == (0, 60)
        assert found.patients.median_slices is None
        assert any("names no patients" in sentence for sentence in found.conclusions)

    def test_a_patient_on_both_sides_of_the_split(self, tmp_path):
        path = write_set(
            tmp_path / "set",
            [head(i) for i in range(4)],
            [0, 1, 0, 1],
            patients=["a", "a", "b", "b"],
            parts=["train", "test", "train", "train"],
        )
        found = audited(path)
        assert found.patients.across_split == 1
        assert any("1 patient on both sides" in sentence for sentence in found.conclusions)


class TestShortcuts:
    def test_no_leak_gives_intervals_with_one_half(self, clean_audit):
        found = clean_audit
        assert not found.leaks
        for name in FREE:
            area = by_name(found.shortcuts)[name].roc_auc
            assert area.low < 0.5 < area.high
            assert area.n == 60
        assert any("do not tell the classes apart" in sentence for sentence in found.conclusions)
        assert not any(each.significant for each in found.differences)

    def test_size_that_leaks(self, tmp_path):
        labels = np.arange(40) % 2
        images = [head(i, size=60 + 20 * int(label)) for i, label in enumerate(labels)]
        path = write_set(tmp_path / "set", images, labels)
        found = audited(path)
        assert found.leaks
        assert by_name(found.shortcuts)["size, mode and format"].roc_auc.low > 0.85
        assert {"width", "height"} <= {each.name for each in found.differences if each.significant}
        assert run("audit", path).exit_code == 0
        strict = run("audit", path, "--strict")
        assert strict.exit_code == 1
        assert "Size, mode and format alone tell the classes apart: AUC" in strict.stdout

    def test_a_burnt_in_letter_that_leaks(self, tmp_path):
        labels = np.arange(40) % 2
        images = []
        for index, label in enumerate(labels):
            image = Image.fromarray(head(index, size=96))
            ImageDraw.Draw(image).text((4 if label else 80, 4), "R", fill=255, font_size=12)
            if not label:
                image = Image.fromarray(head(index, size=96))
            images.append(image)
        found = audited(write_set(tmp_path / "set", images, labels))
        shortcuts = by_name(found.shortcuts)
        assert shortcuts["border"].above_chance and found.leaks
        assert shortcuts["size, mode and format"].roc_auc is None
        assert shortcuts["size, mode and format"].reason == "the same in all slices"
        (marks,) = [each for each in found.differences if each.name == "marks at the edges"]
        assert marks.effect == 1 and marks.significant

    def test_a_format_that_leaks(self, tmp_path):
        labels = np.arange(40) % 2
        suffix = [".jpg" if label else ".png" for label in labels]
        found = audited(
            write_set(tmp_path / "set", [head(i) for i in range(40)], labels, suffix=suffix)
        )
        assert by_name(found.shortcuts)["size, mode and format"].above_chance
        (kind,) = [each for each in found.differences if each.name == "file format"]
        assert (kind.hemorrhage, kind.normal, kind.effect) == ("JPEG 20", "PNG 20", 1)
        storage = {each.file_format: each for each in found.storage}
        assert (storage["JPEG"].hemorrhage, storage["JPEG"].normal) == (20, 0)
        (rare,) = [each for each in found.storage if each.paths]
        assert len(rare.paths) == 20

    def test_what_a_patient_has_does_not_leak_by_having_many_slices(self, tmp_path):
        # Sixteen patients of eight slices, each with a size of its own, and labels by patient.
        rng = np.random.default_rng(5)
        sizes, patients = rng.integers(50, 90, 16), np.repeat(np.arange(16), 8)
        labels = (np.arange(16) % 2)[patients]
        images = [head(i, size=int(sizes[patient])) for i, patient in enumerate(patients)]
        names = [f"p{patient}" for patient in patients]
        found = audited(write_set(tmp_path / "set", images, labels, patients=names))
        area = by_name(found.shortcuts)["size, mode and format"].roc_auc
        assert area.high - area.low > 0.4
        assert not by_name(found.shortcuts)["size, mode and format"].above_chance
        assert not any(each.significant for each in found.differences)
        assert any("what tells patients apart" in sentence for sentence in found.conclusions)

    def test_the_same_again(self, clean):
        assert audited(clean) == audited(clean)

    def test_best_is_the_largest(self, clean_audit):
        found = clean_audit
        areas = [each.roc_auc.estimate for each in found.shortcuts]
        assert found.best_shortcut.roc_auc.estimate == max(areas)
        assert found.to_dict()["best_shortcut"] == found.best_shortcut.name

    def test_a_large_set_is_sampled(self, monkeypatch, clean):
        monkeypatch.setattr(shortcuts, "MOST_SLICES", 40)
        found = audited(clean)
        assert (found.slices, found.audited) == (60, 40)


class TestDifferences:
    def test_holm_against_statsmodels(self, clean_audit):
        from statsmodels.stats.multitest import multipletests

        found = clean_audit.differences
        expected = multipletests([each.p for each in found], method="holm")[1]
        np.testing.assert_allclose([each.p_adjusted for each in found], expected)

    def test_number_and_kind_against_scipy(self, tmp_path):
        from scipy.stats import fisher_exact, mannwhitneyu

        labels = np.array([1] * 12 + [0] * 12)
        rng = np.random.default_rng(0)
        widths = rng.integers(60, 70, 24)
        images = []
        for index, width in enumerate(widths):
            image = Image.fromarray(head(index)).resize((int(width), 64))
            images.append(image.convert("RGBA") if index in (1, 15, 17, 20) else image)
        found = by_name(audited(write_set(tmp_path / "set", images, labels)).differences)
        test = mannwhitneyu(widths[:12], widths[12:], method="asymptotic")
        assert found["width"].p == pytest.approx(test.pvalue)
        assert found["width"].effect == pytest.approx(test.statistic / 144)
        assert found["mode"].p == pytest.approx(fisher_exact([[11, 1], [9, 3]]).pvalue)
        assert (found["mode"].hemorrhage, found["mode"].normal) == ("L 11, RGBA 1", "L 9, RGBA 3")

    def test_what_does_not_vary_is_listed_once(self, clean_audit):
        found = clean_audit
        assert found.unvaried["file format"] == "PNG" and found.unvaried["mode"] == "L"
        assert not found.unvaried.keys() & {each.name for each in found.differences}


class TestBadSets:
    def test_bad_files_and_rows_are_findings(self, tmp_path):
        path = write_set(tmp_path / "set", [head(i) for i in range(6)], [0, 1] * 3)
        (path.parent / "001.png").write_text("no image")
        (path.parent / "002.png").write_bytes(b"")
        with open(path, "a") as file:
            file.write("missing.png,1\n")
        found = audited(path)
        assert found.slices == 4
        reasons = {each.path: each.reason for each in found.problems}
        assert reasons["001.png"].startswith("not one of the formats that are read")
        assert "0 bytes" in reasons["002.png"] and "no such image" in reasons["missing.png"]
        result = run("audit", path)
        assert result.exit_code == 0
        assert "001.png" in result.stdout and "3 files or rows cannot be used" in result.stdout

    def test_nothing_readable(self, tmp_path):
        path = write_set(tmp_path / "set", [head(0), head(1)], [0, 1])
        for image in path.parent.glob("*.png"):
            image.write_text("no image")
        found = audited(path)
        assert found.slices == 0 and found.shortcuts == () and found.best_shortcut is None
        assert any("No slice could be read" in sentence for sentence in found.conclusions)
        assert json.loads(run("audit", path, "--json", "--strict").stdout)["slices"] == 0

    def test_one_class(self, tmp_path):
        path = write_set(tmp_path / "set", [head(i) for i in range(8)], [1] * 8)
        found = audited(path)
        assert not found.leaks and found.differences == ()
        assert all(each.roc_auc is None for each in found.shortcuts)
        assert any("the same label" in sentence for sentence in found.conclusions)
        assert run("audit", path).exit_code == 0

    def test_too_few_slices(self, tmp_path):
        found = audited(write_set(tmp_path / "set", [head(i) for i in range(6)], [0, 1] * 3))
        assert all("at least 5 groups of each class" in each.reason for each in found.shortcuts)
        assert any("no shortcut baseline" in sentence for sentence in found.conclusions)

    def test_one_slice(self, tmp_path):
        found = audited(write_set(tmp_path / "set", [head(0)], [1]))
        assert (found.slices, found.pairs) == (1, ())

    def test_slices_of_one_color_and_of_one_pixel(self, tmp_path):
        images = [np.full((1 + i % 3, 1 + i % 5), 20 * i % 256, np.uint8) for i in range(24)]
        found = audited(write_set(tmp_path / "set", images, [i % 2 for i in range(24)]))
        assert found.slices == 24
        json.dumps(found.to_dict(), allow_nan=False)

    def test_no_data_is_told_as_elsewhere(self, tmp_path):
        result = run("audit", tmp_path / "nowhere")
        assert result.exit_code == 1
        assert "no such file or folder" in result.stderr and result.stdout == ""


class TestOutput:
    def test_json_stands_alone_and_has_no_nan(self, clean):
        def refuse(name):
            raise AssertionError(name)

        result = run("audit", clean, "--json")
        found = json.loads(result.stdout, parse_constant=refuse)
        assert found["slices"] == 60 and found["normal"] == 30
        assert {each["name"] for each in found["shortcuts"]} >= set(FREE)
        assert set(found["shortcuts"][0]["roc_auc"]) == {"estimate", "low", "high", "n"}
        assert found == json.loads(json.dumps(audited(clean).to_dict()))

    def test_tables(self, clean):
        text = run("audit", clean).stdout
        for part in ("60 slices", "How the slices are stored", "nearest neighbors", "p (Holm)"):
            assert part in text

    def test_strict_passes_where_nothing_leaks(self, clean):
        assert run("audit", clean, "--strict").exit_code == 0

    def test_class_folders_with_a_named_positive(self, tmp_path):
        for index, name in enumerate(["this", "that"] * 6):
            (tmp_path / "set" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(head(index)).save(tmp_path / "set" / name / f"{index}.png")
        assert run("audit", tmp_path / "set").exit_code == 2
        found = json.loads(run("audit", tmp_path / "set", "--positive", "that", "--json").stdout)
        assert (found["hemorrhage"], found["layout"]) == (6, "class folders")

    def test_short_form_has_at_most_four_lines(self, clean_audit):
        lines = short(clean_audit)
        assert 1 <= len(lines) <= 4
        assert "size, mode and format alone AUC" in lines[-1]

    def test_paths_with_markup_are_shown_as_they_are(self, tmp_path):
        path = write_set(tmp_path / "set", [head(0), head(0)], [1, 1])
        (path.parent / "001.png").rename(path.parent / "[red].png")
        path.write_text(path.read_text().replace("001.png", "[red].png"))
        assert "[red].png" in run("audit", path).stdout


class TestScanned:
    def test_it_agrees_with_the_whole_audit(self, clean):
        slices = build_slice_index(htf.read_manifest(clean), QUIET)
        assert audit_scanned(slices, QUIET) == audited(clean)

    def test_facts_that_are_handed_over_are_not_read_again(self, tmp_path):
        path = write_set(tmp_path / "set", [head(i) for i in range(12)], [0, 1] * 6)
        slices = build_slice_index(htf.read_manifest(path), QUIET)
        records = slices.manifest.records
        read = [read_slice_and_format(record.path) for record in records]
        statistics = [image_statistics(saved, pixels) for pixels, saved in read]
        expected = audit_scanned(slices, QUIET)
        for record in records:
            record.path.unlink()
        assert audit_scanned(slices, QUIET, statistics=statistics) == expected

    def test_pairs_of_the_scan_are_told(self, tmp_path):
        picture = Image.fromarray(head(0, size=96))
        images = [picture, picture, picture.resize((60, 60)), head(1)]
        path = write_set(tmp_path / "set", images, [1, 1, 1, 0])
        found = audit_scanned(build_slice_index(htf.read_manifest(path), QUIET), QUIET)
        assert [each.relation for each in found.pairs] == [
            SAME_PIXELS,
            "alike",
            "alike",
        ]
        assert found.groups == 2


def test_phantoms_leak_nothing_beside_the_brain(tmp_path):
    images = [draw_phantom(0, index, index % 2) for index in range(40)]
    found = audited(write_set(tmp_path / "set", images, [index % 2 for index in range(40)]))
    size = by_name(found.shortcuts)["size, mode and format"]
    assert size.roc_auc is None and size.reason == "the same in all slices"


@pytest.mark.real_data
def test_the_kaggle_set(shared):
    begin = time.process_time()
    found = audited(shared / "head_ct")
    # The processor's time, so that a busy machine does not fail it; measured: 6 s.
    assert time.process_time() - begin < 20
    names = {(pair.first[-7:-4], pair.second[-7:-4]): pair.relation for pair in found.pairs}
    assert names["188", "189"] == SAME_PIXELS
    assert [pair for pair, relation in names.items() if relation == SAME_PIXELS] == [("188", "189")]
    assert names["198", "199"] == names["011", "061"] == names["107", "108"] == "alike"
    # The same picture in another crop, which the thumbnails of the whole slice miss.
    for pair in (("073", "095"), ("004", "057"), ("145", "148"), ("012", "030"), ("009", "065")):
        assert names[pair] == "alike, cropped"
    assert not any(pair.contradicting for pair in found.pairs)
    (rgba,) = [each for each in found.storage if each.mode == "RGBA"]
    assert (rgba.hemorrhage, rgba.normal, len(rgba.paths)) == (0, 12, 12)
    shortcuts = by_name(found.shortcuts)
    area = shortcuts["size, mode and format"].roc_auc
    assert area.estimate == pytest.approx(0.78, abs=0.03)
    assert 0.68 < area.low < 0.75 and 0.82 < area.high < 0.88
    assert found.leaks and shortcuts["border"].above_chance
    assert found.best_shortcut.roc_auc.estimate > 0.85
    assert found.problems == ()
