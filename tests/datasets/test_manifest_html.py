from __future__ import annotations

from dataclasses import replace

import hemorrhage_tf as htf


def test_shows_counts_and_slices_of_both_classes(kaggle_once):
    html = htf.read_manifest(kaggle_once)._repr_html_()
    for name, value in (("slices", 24), ("with hemorrhage", 12), ("without", 12)):
        assert f'<th scope="row" style="text-align: left">{name}</th><td>{value}</td>' in html
    assert html.count("<img ") == 8


def test_names_no_patient_and_no_path(kaggle_once):
    manifest = htf.read_manifest(kaggle_once)
    records = [replace(one, patient=f"DOE^JANE-{i}") for i, one in enumerate(manifest.records)]
    html = replace(manifest, records=records)._repr_html_()
    assert "patients</th><td>24</td>" in html
    assert "DOE^" not in html and str(kaggle_once) not in html and ".png" not in html


def test_files_that_are_gone_are_named_instead_of_shown(kaggle_once, tmp_path):
    manifest = htf.read_manifest(kaggle_once)
    records = [replace(one, path=tmp_path / "gone.png") for one in manifest.records]
    html = replace(manifest, records=records)._repr_html_()
    assert "<img " not in html and html.count("not available") == 8
