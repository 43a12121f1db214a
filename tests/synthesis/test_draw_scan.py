import numpy as np
import pytest

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.synthesis.draw_scan import draw_phantom_scan


@pytest.fixture(scope="module")
def scans():
    return [draw_phantom_scan(4, index, size=64) for index in range(8)]


class TestDrawPhantomScan:
    def test_slices_run_from_the_base_to_the_vertex(self, scans):
        for scan in scans:
            levels = np.array([each.level for each in scan])
            # Near both ends a tilted slice is cut off at level 0 or 1.
            apart = np.diff(levels[(levels > 0.15) & (levels < 0.85)])
            np.testing.assert_allclose(apart, scan[0].thickness / 150, atol=1e-6)
            assert levels[0] <= 0.15 and levels[-1] > 0.9
            assert 13 < len(scan) <= 60

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

    def test_all_slices_have_the_same_head_and_scanner(self, scans):
        for scan in scans:
            assert len({(each.pixel, each.thickness) for each in scan}) == 1
            assert len({frozenset(each.mimics) & {"metal", "motion"} for each in scan}) == 1
            areas = np.array([(each.hounsfield > -300).sum() for each in scan])
            widest = areas[len(scan) // 3 : len(scan) // 2]
            assert np.ptp(widest) < 0.2 * widest.mean()

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
            assert 0 <= positions[0] and positions[-1] <= 150
            labels = [phantom.label for phantom in scan]
            assert any(labels) == bool(index)

    def test_scans_begin_at_different_heights(self):
        first = [
            draw_phantom_scan(3, index, 0, size=64, thickness=10.0, count=6)[0].position
            for index in range(8)
        ]
        assert min(first) < 35 and max(first) > 65

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
        # The canvas' corner is air around the head, which only noise changes.
        deviations = [
            np.std(
                draw_phantom_scan(5, 0, 0, size=64, thickness=thickness, count=count)[0].hounsfield[
                    :8, :8
                ]
            )
            for thickness, count in ((10.0, 5), (2.5, 18))
        ]
        # Variance inversely proportional to the thickness would give a factor of 2.
        assert 4**0.2 < deviations[1] / deviations[0] < 4**0.5

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"thickness": 0.5}, "thickness 0.5: out of range. Pass 0.6 to 10 mm."),
            ({"thickness": 11.0}, "thickness 11: out of range"),
            (
                {"thickness": 5.0, "count": 4},
                "count 4: slices of 5 mm would cover 15 mm.* Pass 9 to 31.",
            ),
            ({"thickness": 5.0, "count": 32}, "would cover 155 mm"),
        ],
    )
    def test_rejects_what_does_not_fit_into_the_head(self, options, message):
        with pytest.raises(OptionError, match=message):
            draw_phantom_scan(0, 0, size=64, **options)
