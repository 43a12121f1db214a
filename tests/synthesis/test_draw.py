import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.synthesis.draw import draw_phantom
from hemorrhage_tf.synthesis.hemorrhage import SUBTYPES
from hemorrhage_tf.synthesis.mimics import MIMICS

SIZE = 96


@pytest.fixture(scope="module")
def pairs():
    """Return the same 60 heads without and with a hemorrhage."""
    return [
        tuple(draw_phantom(7, index, label, size=SIZE) for label in (0, 1)) for index in range(60)
    ]


@pytest.fixture(scope="module")
def of_subtype():
    return {
        name: [draw_phantom(8, index, 1, size=SIZE, subtype=name) for index in range(12)]
        for name in SUBTYPES
    }


class TestDrawPhantom:
    @pytest.mark.parametrize("size", [64, 224, 512])
    def test_shapes_and_types(self, size):
        phantom = draw_phantom(0, 1, size=size)
        assert phantom.hounsfield.shape == phantom.blood.shape == phantom.bright.shape
        assert phantom.hounsfield.shape == (size, size)
        assert phantom.hounsfield.dtype == np.float32 and phantom.blood.dtype == np.uint8
        assert phantom.bright.dtype == bool
        assert (phantom.hounsfield == np.rint(phantom.hounsfield)).all()
        assert phantom.hounsfield.min() >= -1024  # as a 12-bit scanner stores it

    @pytest.mark.parametrize("label", [0, 1])
    def test_the_same_arguments_give_the_same_bytes(self, label):
        first, second = (draw_phantom(5, 3, label, size=SIZE) for _ in range(2))
        assert first.hounsfield.tobytes() == second.hounsfield.tobytes()
        assert first.blood.tobytes() == second.blood.tobytes()
        assert (first.subtypes, first.mimics) == (second.subtypes, second.mimics)

    def test_seed_index_and_label_each_change_the_slice(self):
        arguments = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
        drawn = [draw_phantom(*each, size=SIZE) for each in arguments]
        assert len({phantom.hounsfield.tobytes() for phantom in drawn}) == 4

    def test_every_second_slice_has_a_hemorrhage(self):
        assert [draw_phantom(0, index, size=64).label for index in range(4)] == [0, 1, 0, 1]

    def test_the_label_is_1_where_there_is_blood(self, pairs):
        for without, with_blood in pairs:
            assert without.label == 0 and not without.mask().any() and without.subtypes == ()
            assert with_blood.label == 1 and with_blood.mask().any() and with_blood.subtypes

    def test_only_the_blood_differs_between_labels(self, pairs):
        shares = []
        for without, with_blood in pairs:
            if without.level != with_blood.level:
                continue  # the slice moved to a level with room for blood
            assert (without.pixel, without.thickness) == (with_blood.pixel, with_blood.thickness)
            # Air, couch and noise around the head are the same; motion and kernel spread a trace,
            # and rays through blood have a trace more of noise.
            head = ndimage.binary_dilation(without.hounsfield > -300, iterations=3)
            head |= with_blood.hounsfield > -300
            change = np.abs(without.hounsfield - with_blood.hounsfield)[~head]
            shares.append(np.mean(change <= 2))
        assert len(shares) > 0.7 * len(pairs)
        assert np.mean(shares) > 0.98

    def test_mimics_are_as_common_with_blood_as_without(self, pairs):
        # A slice of the neck has no hemorrhage: the other label shows another level.
        pairs = [pair for pair in pairs if pair[0].level == pair[1].level]
        drawn = [name for pair in pairs for name in pair[0].mimics]
        with_blood = [name for pair in pairs for name in pair[1].mimics]
        assert len(drawn) > 2 * len(pairs)
        assert abs(len(drawn) - len(with_blood)) < 0.05 * len(drawn)
        assert set(drawn) & set(MIMICS) and "beam hardening" in drawn
        # At least half of the negatives have an area that resembles blood.
        assert np.mean([pair[0].bright.any() for pair in pairs]) > 0.5

    def test_blood_is_brighter_than_brain(self, pairs):
        brighter = []
        for without, with_blood in pairs:
            mask = with_blood.mask()
            brain = (without.hounsfield > 10) & (without.hounsfield < 60) & ~mask
            brighter.append(
                np.median(with_blood.hounsfield[mask]) > np.median(without.hounsfield[brain])
            )
        assert np.mean(brighter) > 0.9  # the others are as dense as brain, or old

    def test_some_slices_without_hemorrhage_lie_below_the_skull_base(self, pairs):
        low = [without.position < 0 for without, _ in pairs]
        assert 0.05 < np.mean(low) < 0.3
        empty = [without.brain_area == 0 for without, _ in pairs]
        assert any(empty) and np.mean(empty) < 0.25
        assert all(phantom.brain_area > 0 for _, phantom in pairs)

    def test_tissues_have_their_hounsfield_units(self, pairs):
        brains = []
        for without, _ in pairs:
            values = without.hounsfield
            border = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
            assert np.median(border) < -900  # air; the couch may run into it
            assert (values > 250).mean() > 0.01  # skull
            if without.brain_area > 2000:  # mm2
                brains.append(np.median(values[(values > 15) & (values < 55)]))
        # An infarct may be most of a slice near the vertex, and muscle at the base.
        assert 20 < min(brains) and max(brains) < 50
        assert 27 < np.median(brains) < 38

    def test_levels_run_from_the_neck_to_the_vertex(self, pairs):
        levels = [pair[0].level for pair in pairs]
        assert -1.1 < min(levels) < -0.2 and max(levels) > 0.85

    def test_anatomy_is_the_same_at_any_size(self):
        ratios = []
        for index in range(12):
            small, large = (draw_phantom(9, index, 1, size=size) for size in (128, 256))
            assert small.mimics == large.mimics and small.level == large.level
            assert small.subtypes == large.subtypes
            areas = [phantom.mask().sum() * phantom.pixel**2 for phantom in (small, large)]
            ratios.append(areas[0] / areas[1])
            shrunk = large.hounsfield.reshape(128, 2, 128, 2).mean(axis=(1, 3))
            windowed = [part.clip(-100, 100).ravel() for part in (small.hounsfield, shrunk)]
            assert np.corrcoef(windowed)[0, 1] > 0.93
        # A structure a few pixels wide has a rough outline at the smaller size, and may have to be
        # larger to be visible.
        assert all(0.4 < ratio < 2.5 for ratio in ratios)
        assert np.median(ratios) == pytest.approx(1, abs=0.05)

    @given(st.integers(0, 2**31 - 1), st.integers(0, 10**6), st.integers(64, 128))
    @settings(max_examples=25, deadline=None)
    def test_any_seed_draws_a_head(self, seed, index, size):
        phantom = draw_phantom(seed, index, size=size)
        assert np.isfinite(phantom.hounsfield).all()
        assert bool(phantom.blood.any()) == bool(phantom.label) == bool(phantom.subtypes)
        assert not (phantom.mask() & phantom.bright).any()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"size": 63}, "size 63: out of range. Pass 64 to 512 pixels."),
            ({"size": 513}, "size 513: out of range. Pass 64 to 512 pixels."),
            ({"label": 2}, "label 2: unknown. Pass 1 for a hemorrhage or 0"),
            ({"seed": -1}, "seed -1, index 0: negative. Pass numbers of 0 or more."),
            ({"index": -1}, "seed 0, index -1: negative. Pass numbers of 0 or more."),
            (
                {"subtype": "cerebral", "label": 1},
                "subtype cerebral: unknown. Pass one of intraparench",
            ),
            (
                {"subtype": "epidural", "label": 0},
                "epidural: requires a hemorrhage. Pass label 1, not 0.",
            ),
        ],
    )
    def test_rejects_invalid_arguments(self, arguments, message):
        values = {"seed": 0, "index": 0, "label": 0, "size": 64} | arguments
        with pytest.raises(OptionError, match=re.escape(message)):
            draw_phantom(values.pop("seed"), values.pop("index"), values.pop("label"), **values)


class TestSubtypes:
    @pytest.mark.parametrize("name", SUBTYPES)
    def test_a_required_subtype_is_drawn(self, of_subtype, name):
        for phantom in of_subtype[name]:
            assert name in phantom.subtypes
            area = phantom.mask(name).sum() * phantom.pixel**2
            assert area > 20

    def test_sizes_run_from_small_to_massive(self, of_subtype):
        areas = [
            phantom.mask(name).sum() * phantom.pixel**2
            for name in SUBTYPES
            for phantom in of_subtype[name]
        ]
        assert min(areas) < 150 and max(areas) > 1500

    @pytest.mark.parametrize("name", ["subdural", "epidural"])
    def test_extra_axial_blood_lies_on_the_skull(self, of_subtype, name):
        touching = []
        for phantom in of_subtype[name]:
            near = ndimage.binary_dilation(phantom.mask(name), iterations=2)
            touching.append(bool((phantom.hounsfield[near] > 200).any()))
        assert np.mean(touching) >= 0.7  # a subdural may lie along the falx

    def test_an_epidural_is_thicker_than_a_subdural_of_its_length(self, of_subtype):
        def slenderness(mask):
            rows, columns = np.nonzero(mask)
            spread = np.linalg.eigvalsh(np.cov(np.stack([rows, columns])))
            return np.sqrt(spread[1] / max(spread[0], 1e-6))

        typical = {
            name: np.median([slenderness(p.mask(name)) for p in of_subtype[name]])
            for name in ("subdural", "epidural")
        }
        assert typical["subdural"] > typical["epidural"]

    def test_an_intraventricular_hemorrhage_lies_near_the_center(self, of_subtype):
        for phantom in of_subtype["intraventricular"]:
            rows, columns = np.nonzero(phantom.mask("intraventricular"))
            head = np.nonzero(phantom.hounsfield > 300)
            away = np.hypot(rows.mean() - head[0].mean(), columns.mean() - head[1].mean())
            assert away * phantom.pixel < 80  # a little blood lies in the occipital horns

    def test_some_hemorrhages_have_two_subtypes(self):
        drawn = [draw_phantom(11, index, 1, size=64).subtypes for index in range(60)]
        assert 0.08 < np.mean([len(subtypes) > 1 for subtypes in drawn]) < 0.4

    @pytest.mark.parametrize("name", SUBTYPES)
    def test_nearly_all_are_visible_in_a_brain_window(self, of_subtype, name):
        visible = []
        for phantom in of_subtype[name]:
            mask = phantom.mask()
            blood = phantom.hounsfield[mask].clip(0, 80)
            # With pixels of 2 mm the kernel lowers the 12 HU of thin blood.
            visible.append(blood.mean() > 33 + 8 or mask.sum() * phantom.pixel**2 > 1000)
        assert np.mean(visible) >= 0.9  # motion, metal and noise may hide some

    def test_blood_does_not_replace_bone(self, pairs):
        on_bone = []
        for without, phantom in pairs:
            # Else the slice moved to a level with room for blood.
            if phantom.level == without.level:
                mask = phantom.mask()
                on_bone.append((mask & (without.hounsfield > 400)).sum() / mask.sum())
        assert len(on_bone) > 30
        assert np.mean(on_bone) < 0.01
