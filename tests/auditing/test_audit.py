from __future__ import annotations

import json
import time

import numpy as np
import pytest
from audit_sets import draw_textured_head as head
from audit_sets import write_set
from PIL import Image, ImageDraw
from plain_phantoms import draw_phantom

import hemorrhage_tf as htf
from hemorrhage_tf.auditing import shortcuts
from hemorrhage_tf.auditing.audit import audit_slices
from hemorrhage_tf.auditing.audit_result import Patients
from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets.slice_index import build_slice_index

QUIET = Progress(quiet=True)
FREE = ("size, mode and format", "border")


def audited(path):
    return htf.audit(path, quiet=True)


def by_name(results):
    return {each.name: each for each in results}


class TestPatients:
    def test_counts_labels_per_patient_without_naming_them(self, tmp_path):
        patients = ["anna", "anna", "anna", "bert", "carla", "carla", ""]
        labels = [1, 1, 0, 1, 0, 0, 0]
        path = write_set(tmp_path, [head(i) for i in range(7)], labels, patient=patients)
        audit = audited(path)
        assert audit.patients == Patients(
            count=3,
            unnamed=1,
            with_hemorrhage=1,
            without=1,
            with_both=1,
            across_split=0,
            median_slices=2,
            most_slices=3,
        )
        assert audit.groups == 4
        text = json.dumps(audit.to_dict())
        assert not any(name in text for name in ("anna", "bert", "carla"))

    def test_a_manifest_without_patients(self, clean_audit):
        patients = clean_audit.patients
        assert (patients.count, patients.unnamed, patients.median_slices) == (0, 60, None)

    def test_a_patient_on_both_sides_of_the_split(self, tmp_path):
        path = write_set(
            tmp_path,
            [head(i) for i in range(4)],
            [0, 1, 0, 1],
            patient=["a", "a", "b", "b"],
            split=["train", "test", "train", "train"],
        )
        assert audited(path).patients.across_split == 1


class TestShortcuts:
    def test_a_clean_set_has_none(self, clean_audit):
        assert not clean_audit.leaks
        for name in FREE:
            area = by_name(clean_audit.shortcuts)[name].roc_auc
            assert area.low < 0.5 < area.high
            assert area.n == 60
        assert not any(each.significant for each in clean_audit.differences)

    def test_a_size_that_predicts_the_label(self, tmp_path):
        labels = np.arange(40) % 2
        images = [head(i, size=60 + 20 * int(label)) for i, label in enumerate(labels)]
        audit = audited(write_set(tmp_path, images, labels))
        assert audit.leaks
        assert by_name(audit.shortcuts)["size, mode and format"].roc_auc.low > 0.85
        assert {"width", "height"} <= {each.name for each in audit.differences if each.significant}

    def test_a_burnt_in_letter_that_predicts_the_label(self, tmp_path):
        labels = np.arange(40) % 2
        images = []
        for index, label in enumerate(labels):
            image = Image.fromarray(head(index, size=96))
            if label:
                ImageDraw.Draw(image).text((4, 4), "R", fill=255, font_size=12)
            images.append(image)
        audit = audited(write_set(tmp_path, images, labels))
        results = by_name(audit.shortcuts)
        assert results["border"].above_chance and audit.leaks
        assert results["size, mode and format"].reason == "the same in all slices"
        marks = by_name(audit.differences)["marks at the edges"]
        assert marks.effect == 1 and marks.significant

    def test_a_format_that_predicts_the_label(self, tmp_path):
        labels = np.arange(40) % 2
        suffix = [".jpg" if label else ".png" for label in labels]
        images = [head(i) for i in range(40)]
        audit = audited(write_set(tmp_path, images, labels, suffix=suffix))
        assert by_name(audit.shortcuts)["size, mode and format"].above_chance
        kind = by_name(audit.differences)["file format"]
        assert (kind.hemorrhage, kind.normal, kind.effect) == ("JPEG 20", "PNG 20", 1)
        storage = {each.file_format: each for each in audit.storage}
        assert (storage["JPEG"].hemorrhage, storage["JPEG"].normal) == (20, 0)
        (rare,) = [each for each in audit.storage if each.paths]
        assert len(rare.paths) == 20

    def test_many_slices_of_a_patient_count_once(self, tmp_path):
        # Twelve patients of six slices, each with a size of its own, and labels by patient.
        sizes = np.random.default_rng(5).integers(50, 90, 12)
        patients = np.repeat(np.arange(12), 6)
        images = [head(i, size=int(sizes[patient])) for i, patient in enumerate(patients)]
        path = write_set(tmp_path, images, patients % 2, patient=patients)
        audit = audited(path)
        size = by_name(audit.shortcuts)["size, mode and format"]
        assert size.roc_auc.high - size.roc_auc.low > 0.4 and not size.above_chance
        assert not any(each.significant for each in audit.differences)

    def test_a_large_set_is_sampled(self, monkeypatch, clean):
        monkeypatch.setattr(shortcuts, "MOST_SLICES", 30)
        audit = audited(clean)
        assert (audit.slices, audit.audited) == (60, 30)

    def test_phantoms_have_no_shortcut_in_their_size(self, tmp_path):
        images = [draw_phantom(0, index, index % 2) for index in range(12)]
        audit = audited(write_set(tmp_path, images, [index % 2 for index in range(12)]))
        assert by_name(audit.shortcuts)["size, mode and format"].reason == "the same in all slices"


class TestUnusableSets:
    def test_scans_that_contradict_themselves_are_problems(self, tmp_path):
        path = write_set(
            tmp_path,
            [head(i) for i in range(6)],
            [1, 0, 0, 0, 0, 1],
            patient=["anna", "anna", "anna", "bert", "carla", "carla"],
            scan=["s1", "s1", "s2", "s2", "s3", "s3"],
            position=[0, 5, 0, 5, 2, 2],
            scan_label=[0, 0, "", "", "", ""],
        )
        audit = audited(path)
        assert [(each.path, each.reason) for each in audit.problems] == [
            ("s1", "is labeled 0 as a scan, but these of its slices are labeled 1: 000.png"),
            ("s2", "holds slices of 2 patients (002.png, 003.png): give each scan its own name"),
            ("005.png", "is at the same position as 004.png: 2 mm"),
        ]

    def test_unreadable_files_and_rows_are_problems(self, tmp_path):
        path = write_set(tmp_path, [head(i) for i in range(6)], [0, 1] * 3)
        (tmp_path / "001.png").write_text("no image")
        (tmp_path / "002.png").write_bytes(b"")
        with open(path, "a") as file:
            file.write("missing.png,1\n")
        audit = audited(path)
        assert audit.slices == 4
        reasons = {each.path: each.reason for each in audit.problems}
        assert reasons.keys() == {"001.png", "002.png", "missing.png"}
        assert "0 bytes" in reasons["002.png"] and "does not exist" in reasons["missing.png"]

    def test_nothing_readable(self, tmp_path):
        path = write_set(tmp_path, [head(0), head(1)], [0, 1])
        for image in tmp_path.glob("*.png"):
            image.write_text("no image")
        audit = audited(path)
        assert audit.slices == 0 and audit.shortcuts == () and audit.best_shortcut is None

    def test_one_class(self, tmp_path):
        audit = audited(write_set(tmp_path, [head(i) for i in range(8)], [1] * 8))
        assert not audit.leaks and audit.differences == ()
        assert all(each.roc_auc is None for each in audit.shortcuts)

    def test_too_few_slices(self, tmp_path):
        audit = audited(write_set(tmp_path, [head(i) for i in range(6)], [0, 1] * 3))
        assert all("at least 5 groups of each class" in each.reason for each in audit.shortcuts)

    def test_one_slice(self, tmp_path):
        audit = audited(write_set(tmp_path, [head(0)], [1]))
        assert (audit.slices, audit.pairs) == (1, ())

    def test_slices_of_one_color_and_of_one_pixel(self, tmp_path):
        images = [np.full((1 + i % 3, 1 + i % 5), 20 * i % 256, np.uint8) for i in range(24)]
        audit = audited(write_set(tmp_path, images, [i % 2 for i in range(24)]))
        assert audit.slices == 24
        json.dumps(audit.to_dict(), allow_nan=False)


class TestAuditSlices:
    def test_agrees_with_the_audit_of_the_manifest(self, clean, clean_audit):
        slices = build_slice_index(htf.read_manifest(clean), QUIET)
        assert audit_slices(slices, QUIET) == clean_audit

    def test_takes_the_pairs_and_groups_of_the_index(self, tmp_path):
        image = Image.fromarray(head(0, size=96))
        images = [image, image, image.resize((60, 60)), head(1)]
        path = write_set(tmp_path, images, [1, 1, 1, 0])
        audit = audit_slices(build_slice_index(htf.read_manifest(path), QUIET), QUIET)
        relations = [each.relation for each in audit.pairs]
        assert relations == ["exact duplicate", "near-duplicate", "near-duplicate"]
        assert audit.groups == 2


@pytest.mark.slow
@pytest.mark.real_data
def test_the_kaggle_set(shared, monkeypatch):
    monkeypatch.setattr(shortcuts, "TREES", 50)
    monkeypatch.setattr(shortcuts, "REPEATS", 3)
    begin = time.process_time()
    audit = audited(shared / "head_ct")
    # Processor time, so that a busy machine does not fail the test.
    assert time.process_time() - begin < 20
    relations = {(pair.first[-7:-4], pair.second[-7:-4]): pair.relation for pair in audit.pairs}
    exact = [pair for pair, relation in relations.items() if relation == "exact duplicate"]
    assert exact == [("188", "189")]
    for pair in (("198", "199"), ("011", "061"), ("107", "108")):
        assert relations[pair] == "near-duplicate"
    # The same slice in another crop, which thumbnails of the whole slice miss.
    for pair in (("073", "095"), ("004", "057"), ("145", "148"), ("012", "030"), ("009", "065")):
        assert relations[pair] == "near-duplicate, cropped"
    assert not any(pair.contradicting for pair in audit.pairs)
    (rgba,) = [each for each in audit.storage if each.mode == "RGBA"]
    assert (rgba.hemorrhage, rgba.normal, len(rgba.paths)) == (0, 12, 12)
    results = by_name(audit.shortcuts)
    area = results["size, mode and format"].roc_auc
    assert area.estimate == pytest.approx(0.78, abs=0.03)
    assert 0.68 < area.low < 0.75 and 0.82 < area.high < 0.88
    assert audit.leaks and results["border"].above_chance
    assert audit.best_shortcut.roc_auc.estimate > 0.85
    assert audit.problems == ()
