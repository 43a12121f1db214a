import itertools

import numpy as np
import pytest

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.synthesis.draw_scan import draw_phantom_scan


@pytest.fixture(scope="module")
def scans():
    return [draw_phantom_scan(4, index, size=64) for index in (*range(7), 9)]


class TestDrawPhantomScan:
    def test_slices_run_from_neck_or_base_to_the_vertex(self, scans):
        for scan in scans:
            levels = np.array([each.level for each in scan])
            # Near the vertex a tilted slice is cut off at level 1.
            apart = np.diff(levels[levels < 0.8])
            np.testing.assert_allclose(apart, scan[0].thickness / 150, atol=1e-6)
            assert -1 <= levels[0] <= 0.06 and levels[-1] > 0.85
            assert 13 < len(scan) <= 120
        assert min(scan[0].level for scan in scans) < -0.35  # a third of them begin in the neck

    def test_only_slices_of_face_and_neck_have_no_brain(self, scans):
        for scan in scans:
            empty = [each.level for each in scan if not each.brain_area]
            assert max(empty, default=-1.0) < 0.1
            assert all(each.brain_area == 0 for each in scan if each.level < -0.35)
            largest = max(each.brain_area for each in scan)
            assert 6_000 < largest < 22_000  # mm2, of an infant to a large adult

    def test_outlines_change_smoothly_from_slice_to_slice(self, scans):
        for scan in scans:
            bodies = [each.hounsfield > -300 for each in scan]
            shared = [(a & b).sum() / (a | b).sum() for a, b in itertools.pairwise(bodies)]
            low = [each.level < 0.8 for each in scan[1:]]
            assert np.quantile(np.array(shared)[low], 0.1) > 0.75

    def test_every_second_scan_has_one_hemorrhage_in_consecutive_slices(self, scans):
        jumps = []
        for index, scan in enumerate(scans):
            labels = np.array([each.label for each in scan])
            assert labels.any() == bool(index % 2)
            assert [each.mask().any() for each in scan] == labels.astype(bool).tolist()
            positive = np.flatnonzero(labels)
            if len(positive):
                assert np.ptp(positive) + 1 == len(positive) <= 2 * 35 / scan[0].thickness + 1
                assert len({scan[at].subtypes for at in positive}) == 1
                rows, columns = zip(*(np.nonzero(scan[at].mask()) for at in positive), strict=True)
                middles = [(np.mean(r), np.mean(c)) for r, c in zip(rows, columns, strict=True)]
                apart = np.diff(np.array(middles), axis=0) * scan[0].pixel
                jumps += np.hypot(*apart.T).tolist()
        assert len(jumps) > 8
        assert np.mean(np.array(jumps) < 20) >= 0.9  # mm, from a slice to the next

    def test_the_blood_of_a_scan_has_one_density(self, scans):
        spreads = []
        for scan in scans[1::2]:
            positive = [each for each in scan if each.label][1:-1]  # without partial volume
            spreads.append(
                np.ptp([np.median(each.hounsfield[each.mask()]) for each in positive] or [0])
            )
        assert np.median(spreads) < 12  # HU; acute blood alone has 50 to 79

    def test_all_slices_have_the_same_head_and_scanner(self, scans):
        for scan in scans:
            assert len({(each.pixel, each.thickness) for each in scan}) == 1
            # A restless head moves in some slices only, and metal lies in some.
            assert len({frozenset(each.mimics) & {"shading", "rings"} for each in scan}) == 1
            areas = np.array([(each.hounsfield > -300).sum() for each in scan])
            widest = areas[[0.38 < each.level < 0.55 for each in scan]]
            assert np.ptp(widest) < 0.3 * widest.mean()

    def test_noise_differs_from_slice_to_slice(self, scans):
        first, second = (scans[0][at].hounsfield[:6, :6] for at in (12, 13))
        assert first.tobytes() != second.tobytes()

    def test_the_same_arguments_give_the_same_bytes(self, scans):
        again = draw_phantom_scan(4, 3, 1, size=64)
        assert [each.hounsfield.tobytes() for each in again] == [
            each.hounsfield.tobytes() for each in scans[3]
        ]
        other = draw_phantom_scan(5, 3, 1, size=64)
        assert again[0].hounsfield.tobytes() != other[0].hounsfield.tobytes()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((-1, 0), "seed -1, index 0"),
            ((0, 0, 2), "label 2: unknown. Pass 1 for a hemorrhage or 0"),
        ],
    )
    def test_rejects_invalid_arguments(self, arguments, message):
        with pytest.raises(OptionError, match=message):
            draw_phantom_scan(*arguments)


def extent(scan):
    """Return the height of a scan's hemorrhage, in mm."""
    positions = [phantom.position for phantom in scan if phantom.label]
    return max(positions) - min(positions) + scan[0].thickness


class TestFieldOfView:
    @pytest.mark.parametrize(("thickness", "count"), [(10.0, 5), (7.0, 20), (1.5, 40)])
    def test_slices_lie_one_thickness_apart_in_the_head(self, thickness, count):
        for index in range(2):
            scan = draw_phantom_scan(2, index, size=64, thickness=thickness, count=count)
            assert len(scan) == count
            assert {phantom.thickness for phantom in scan} == {thickness}
            positions = np.array([phantom.position for phantom in scan])
            np.testing.assert_allclose(np.diff(positions), thickness)
            assert -150 <= positions[0] and positions[-1] <= 150
            labels = [phantom.label for phantom in scan]
            assert any(labels) == bool(index)

    def test_scans_begin_at_different_heights(self):
        first = [
            draw_phantom_scan(3, index, 0, size=64, thickness=10.0, count=6)[0].position
            for index in range(8)
        ]
        assert min(first) < 20 and max(first) > 50

    def test_a_hemorrhage_has_the_same_extent_at_any_thickness(self):
        for index in (1, 3):
            thick, thin = (
                extent(draw_phantom_scan(4, index, size=64, thickness=thickness))
                for thickness in (6.0, 3.0)
            )
            assert thin == pytest.approx(thick, abs=12)

    def test_a_hemorrhage_may_be_visible_in_one_slice_only(self):
        scans = [draw_phantom_scan(6, index, 1, size=64, thickness=10.0) for index in range(6)]
        counts = [sum(phantom.label for phantom in scan) for scan in scans]
        assert min(counts) == 1 < max(counts)

    def test_thin_slices_have_more_noise(self):
        def grain(thickness, count):
            scan = draw_phantom_scan(6, 0, 0, size=64, thickness=thickness, count=count)
            # The canvas' corner is air around the head. Streaks are smoother than noise.
            return np.mean([np.diff(each.hounsfield[:10, :10]).std() for each in scan])

        # Variance inversely proportional to the thickness would give a factor of 2.
        assert 1.1 < grain(2.5, 18) / grain(10.0, 5) < 2.2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"thickness": 0.5}, "thickness 0.5: out of range. Pass 0.6 to 10 mm."),
            ({"thickness": 11.0}, "thickness 11: out of range"),
            (
                {"thickness": 5.0, "count": 4},
                "count 4: slices of 5 mm would cover 15 mm.* Pass 9 to 61.",
            ),
            ({"thickness": 5.0, "count": 62}, "would cover 305 mm"),
        ],
    )
    def test_rejects_what_does_not_fit_into_the_head(self, options, message):
        with pytest.raises(OptionError, match=message):
            draw_phantom_scan(0, 0, size=64, **options)
