import io

import numpy as np
import pytest
from audit_sets import draw_textured_head, similar_heads
from dataset_files import file_array, make_manifest, noise
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from scipy.stats import norm

from hemorrhage_tf.core.progress import Progress
from hemorrhage_tf.datasets import thumbnails
from hemorrhage_tf.datasets.groups import merge_with_patients
from hemorrhage_tf.datasets.near_duplicates import PAIR
from hemorrhage_tf.datasets.same_image import (
    fine_correlations,
    fine_structure,
    number_patients,
    same_image_limit,
)
from hemorrhage_tf.datasets.slice_index import build_slice_index
from hemorrhage_tf.datasets.thumbnails import FLIPS, make_thumbnails

QUIET = Progress(quiet=True)


def jpeg(pixels, quality):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def resized(pixels, size):
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


def with_letter(pixels):
    image = Image.fromarray(pixels)
    ImageDraw.Draw(image).text((80, 60), "R", fill=255)
    return np.asarray(image)


CHANGES = {
    "JPEG at quality 90": lambda pixels: jpeg(pixels, 90),
    "JPEG at quality 30": lambda pixels: jpeg(pixels, 30),
    "smaller": lambda pixels: resized(pixels, 110),
    "larger": lambda pixels: resized(pixels, 230),
    "with a letter": with_letter,
    "flipped": lambda pixels: np.flip(pixels, 1),
    "cropped": lambda pixels: pixels[8:-4, 5:-6],
    "cropped and flipped": lambda pixels: np.flip(pixels[8:-4, 5:-6], 0),
}


@pytest.fixture(scope="module")
def heads():
    return [similar_heads(seed) for seed in range(8)]


def build(folder, images, labels, patients):
    return build_slice_index(make_manifest(folder, images, labels, patients=patients), QUIET)


class TestPatients:
    def test_slices_that_look_alike_keep_their_patients_apart(self, tmp_path, heads):
        labels = [0, 1] * 4
        index = build(tmp_path / "a", heads, labels, [f"p{number}" for number in range(8)])
        assert index.groups.tolist() == index.patient_groups.tolist() == list(range(8))
        assert len(index.near_pairs) == 0
        assert len(index.alike_pairs) == 28
        assert (index.alike_pairs["correlation"] < index.same_image_limit).all()
        # Without patients they are near-duplicates.
        unknown = build(tmp_path / "b", heads, labels, [None] * 8)
        assert len(unknown.near_pairs) == 28 and len(unknown.alike_pairs) == 0
        assert unknown.groups.tolist() == [0] * 8
        assert unknown.patient_groups is unknown.same_image_limit is None

    def test_a_copy_under_another_name_joins_its_patient(self, tmp_path, heads):
        copies = [change(head) for head, change in zip(heads, CHANGES.values(), strict=True)]
        labels, names = [0, 1] * 8, [f"p{number}" for number in range(16)]
        index = build(tmp_path, heads + copies, labels, names)
        assert index.groups.tolist() == [*range(8), *range(8)]
        near = {pair[:2] for pair in index.near_pairs.tolist()}
        assert near == {(number, number + 8) for number in range(8)}
        # Two names are two patients for the intervals.
        assert index.patient_groups.tolist() == list(range(16))

    def test_large_sets_find_the_same(self, tmp_path, heads, monkeypatch):
        monkeypatch.setattr(thumbnails, "ALL_PAIRS_UP_TO", 4)
        images = [*heads, jpeg(heads[2], 50), heads[3][8:-4, 5:-6], *map(noise, range(4))]
        index = build(tmp_path, images, [0, 1] * 7, [f"p{number}" for number in range(14)])
        assert [pair[:2] for pair in index.near_pairs.tolist()] == [(2, 8), (3, 9)]
        assert index.groups.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 2, 3, 8, 9, 10, 11]

    def test_neighbors_in_a_scan_stay_near_duplicates(self, tmp_path, heads):
        index = build(tmp_path, heads[:4], [0, 1, 0, 1], ["a", "a", "b", "b"])
        assert [(i, j) for i, j, _ in index.near_pairs.tolist()] == [(0, 1), (2, 3)]
        assert index.groups.tolist() == [0, 0, 1, 1]

    def test_slices_of_one_color_join_no_patients(self, tmp_path):
        black = np.zeros((40, 40), np.uint8)
        images = [black, noise(0), black, noise(1), black]
        index = build(tmp_path, images, [0, 1, 0, 1, 0], ["a", "a", "b", "b", None])
        assert index.groups.tolist() == [0, 0, 1, 1, 2]
        index = build(tmp_path / "unknown", images, [0, 1, 0, 1, 0], [None] * 5)
        assert index.groups.tolist() == [0, 1, 0, 2, 0]

    def test_slices_without_a_patient_join_one_patient_only(self, tmp_path, heads):
        images = [*heads[:3], jpeg(heads[1], 60), heads[4], noise(0)]
        patients = ["a", "b", "c", None, None, None]
        index = build(tmp_path, images, [0, 1, 0, 1, 0, 1], patients)
        # The fifth slice is nobody's copy: it looks like the fourth one, which is of b.
        assert index.groups.tolist() == [0, 1, 2, 1, 1, 3]
        assert index.patient_groups.tolist() == [0, 1, 2, 3, 3, 4]
        near = {pair[:2] for pair in index.near_pairs.tolist()}
        assert near == {(1, 3), (1, 4), (3, 4)}
        assert (0, 3) in {pair[:2] for pair in index.alike_pairs.tolist()}

    def test_says_how_many_pairs_look_alike(self, tmp_path, heads, capsys):
        manifest = make_manifest(tmp_path, heads[:3], [0, 1, 0], patients=["a", "b", "c"])
        build_slice_index(manifest, Progress())
        assert "3 pairs of different patients look alike; kept apart" in capsys.readouterr().err


class TestMergeWithPatients:
    def merge(self, patients, near, exact=()):
        near = np.array(near, PAIR)
        return merge_with_patients(np.array(exact, int).reshape(-1, 2), near, patients).tolist()

    def test_the_most_similar_patient_counts(self):
        near = [(0, 2, 0.96), (1, 2, 0.97), (2, 3, 0.95), (0, 3, 0.99)]
        assert self.merge(["a", "b", None, None], near) == [0, 1, 0, 0]

    def test_exact_copies_count_most(self):
        assert self.merge(["a", "b", None], [(0, 2, 0.99)], [(1, 2)]) == [0, 1, 1]
        assert self.merge(["a", "b", None], [], [(0, 2), (1, 2)]) == [0, 0, 0]

    def test_pairs_of_patients_join_them(self):
        assert self.merge(["a", "b", "a"], [(1, 2, 0.99)]) == [0, 0, 0]


class TestFineStructure:
    def test_is_a_thumbnail_without_its_blur(self):
        gray = make_thumbnails(draw_textured_head(3)).gray
        for flat, fine in zip(gray, fine_structure(gray), strict=True):
            expected = flat - gaussian_filter(flat.reshape(32, 32), 1.0).ravel()
            expected -= expected.mean()
            np.testing.assert_allclose(fine, expected / np.linalg.norm(expected), atol=1e-5)

    @pytest.mark.parametrize("flip", [None, *FLIPS])
    def test_correlates_pairs_in_a_flip(self, flip):
        one, other = draw_textured_head(1), draw_textured_head(2)
        flipped = other if flip is None else np.flip(other, FLIPS[flip])
        gray = file_array(np.stack([make_thumbnails(each).gray for each in (one, other, flipped)]))
        first, second = np.array([1, 0]), np.array([2, 1])
        same, different = fine_correlations(gray, first, second, flip)
        assert same == pytest.approx(1, abs=1e-4) and different < 0.7


class TestLimit:
    def limit(self, images, patients):
        made = [make_thumbnails(each) for each in images]
        gray = file_array(np.stack([each.gray for each in made]))
        contents = file_array(np.stack([each.content for each in made]))
        return same_image_limit(gray, contents, np.arange(len(made)), number_patients(patients))

    def test_needs_two_patients(self):
        images = [draw_textured_head(seed) for seed in range(3)]
        assert self.limit(images, ["a", "a", None]) is None
        assert self.limit(images, [None] * 3) is None

    def test_is_the_highest_of_normal_variables(self, monkeypatch):
        monkeypatch.setattr("hemorrhage_tf.datasets.same_image.LOWEST_LIMIT", -1.0)
        monkeypatch.setattr("hemorrhage_tf.datasets.same_image.HIGHEST_LIMIT", 1.0)
        monkeypatch.setattr("hemorrhage_tf.datasets.same_image._aligned_correlation", lambda *_: -1)
        images = [draw_textured_head(seed) for seed in range(30)]
        fine = fine_structure(np.stack([make_thumbnails(each).gray for each in images]))
        similar = np.einsum("ikv,jkv->ijk", fine, fine).max(axis=2)
        np.fill_diagonal(similar, -1)
        low, median, high = np.quantile(np.arctanh(similar.max(axis=1)), [0.25, 0.5, 0.75])
        sigma = (high - low) / (norm.ppf(0.75) - norm.ppf(0.25))
        expected = np.tanh(norm.isf(0.1 / 30, median, sigma))
        assert self.limit(images, map(str, range(30))) == pytest.approx(expected, abs=1e-5)

    def test_a_few_copies_hardly_move_it(self):
        images = [similar_heads(seed, 48) for seed in range(24)]
        copies = [jpeg(each, 80) for each in images[:3]]
        clean = self.limit(images, map(str, range(24)))
        assert self.limit([*images, *copies], map(str, range(27))) == pytest.approx(clean, abs=0.02)
