from __future__ import annotations

import numpy as np
import pytest
from audit_sets import draw_textured_head as head
from audit_sets import similar_heads, write_set
from PIL import Image

import hemorrhage_tf as htf


@pytest.fixture
def find(tmp_path):
    """Return a function that writes images and returns the duplicate pairs of their audit."""

    def find(images, labels=None, **options):
        labels = labels or [index % 2 for index in range(len(images))]
        return htf.audit(write_set(tmp_path / "set", images, labels, **options), quiet=True).pairs

    return find


def large_content():
    content = head(0, size=160)
    return content[np.ix_(content.any(axis=1), content.any(axis=0))]


def test_unrelated_slices_make_no_pairs(find):
    assert find([head(index) for index in range(8)]) == ()


def test_exact_duplicates_have_the_same_pixels_in_any_file(find):
    gray = head(0)
    images = [gray, Image.fromarray(gray).convert("RGBA"), head(1)]
    (pair,) = find(images, [1, 1, 0])
    assert (pair.first, pair.second, pair.relation) == ("000.png", "001.png", "exact duplicate")
    assert pair.correlation == 1 and pair.is_exact and not pair.contradicting


def test_a_rescaled_slice_is_a_near_duplicate(find):
    image = Image.fromarray(head(0, size=120))
    (pair,) = find([image, image.resize((75, 90)), head(1)])
    assert pair.relation == "near-duplicate" and not pair.is_exact
    assert (pair.first_size, pair.second_size) == ((120, 120), (75, 90))


def test_a_recompressed_slice_is_a_near_duplicate(find):
    (pair,) = find([head(0), head(0), head(1)], suffix=[".png", ".jpg", ".png"])
    assert pair.relation == "near-duplicate"


@pytest.mark.parametrize(
    ("name", "axes"), [("left to right", 1), ("top to bottom", 0), ("both ways", (0, 1))]
)
def test_flips(find, name, axes):
    (pair,) = find([head(0), head(1), np.flip(head(0), axes)])
    assert (pair.first, pair.second) == ("000.png", "002.png")
    assert pair.relation == f"near-duplicate, flipped {name}"


@pytest.mark.parametrize("cut", [(8, 6, 12, 4), (0, 0, 11, 0)])
def test_small_crops(find, cut):
    top, bottom, left, right = cut
    content = large_content()
    height, width = content.shape
    crop = content[top : height - bottom, left : width - right]
    (pair,) = find([content, head(1), crop])
    assert pair.relation == "near-duplicate, cropped"
    assert pair.correlation >= 0.97


def test_a_crop_that_is_flipped_and_rescaled(find):
    content = large_content()
    crop = Image.fromarray(np.fliplr(content[8:-6, 9:-3])).resize((70, 82))
    (pair,) = find([crop, head(1), content])
    assert (pair.first, pair.second) == ("000.png", "002.png")
    assert pair.relation == "near-duplicate, cropped and flipped left to right"


def test_exact_duplicates_come_first(find):
    image = Image.fromarray(head(0, size=96))
    pairs = find([image.resize((60, 60)), image, image, head(1)], [1, 1, 1, 0])
    assert [pair.relation for pair in pairs] == ["exact duplicate", *["near-duplicate"] * 2]


def test_contradicting_labels_and_a_pair_across_the_split(find):
    images = [head(0), head(0), head(1), head(2)]
    (pair,) = find(images, [0, 1, 1, 0], split=["train", "test", "train", "test"])
    assert pair.contradicting and pair.across_split


class TestPatients:
    def audit(self, tmp_path, images, labels, patients):
        path = write_set(tmp_path / "set", images, labels, patient=patients)
        return htf.audit(path, quiet=True)

    def test_those_that_look_alike_are_counted_and_kept_apart(self, tmp_path):
        images = [similar_heads(seed) for seed in range(4)]
        audit = self.audit(tmp_path, images, [0, 1, 0, 1], ["a", "b", "c", "d"])
        assert (audit.pairs, audit.groups, audit.alike) == ((), 4, 6)
        (sentence,) = [each for each in audit.conclusions if "look alike" in each]
        assert sentence.startswith("6 pairs of different patients look alike; kept apart.")
        assert audit.to_dict()["same_image_limit"] == audit.same_image_limit

    def test_a_copy_under_another_name_is_reported(self, tmp_path):
        images = [*(similar_heads(seed) for seed in range(3)), np.flip(similar_heads(1), 0)]
        audit = self.audit(tmp_path, images, [0, 1, 1, 0], ["a", "b", "c", "d"])
        (pair,) = audit.pairs
        assert (pair.first, pair.second, pair.same_patient) == ("001.png", "003.png", False)
        assert pair.relation == "near-duplicate, flipped top to bottom" and pair.contradicting
        assert (audit.groups, audit.alike) == (3, 5)
        assert any("of different patients: the same image" in each for each in audit.conclusions)

    def test_neighbors_in_a_scan_do_not_contradict(self, tmp_path):
        images = [similar_heads(0), similar_heads(1), head(2)]
        audit = self.audit(tmp_path, images, [0, 1, 1], ["a", "a", "b"])
        (pair,) = audit.pairs
        assert pair.same_patient and not pair.contradicting
        unknown = self.audit(tmp_path / "unknown", images, [0, 1, 1], ["", "", "b"])
        assert unknown.pairs[0].same_patient is None and unknown.pairs[0].contradicting
