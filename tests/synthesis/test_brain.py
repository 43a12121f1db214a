import numpy as np
from phantom_heads import drawn_head

from hemorrhage_tf.synthesis.head import CSF


def ventricle_area(level: float, atrophy: float) -> float:
    heads = [drawn_head(seed, level, size=96, atrophy=atrophy) for seed in range(8)]
    return float(np.mean([head.ventricles.sum() for head in heads]))


def test_ventricles_grow_with_atrophy():
    assert ventricle_area(0.45, atrophy=0.9) > 1.3 * ventricle_area(0.45, atrophy=0.1)


def test_ventricles_are_where_the_atlas_has_them():
    assert ventricle_area(0.45, atrophy=0.3) > 0
    assert ventricle_area(0.8, atrophy=0.3) == 0


def test_fluid_has_the_density_of_csf():
    head = drawn_head(level=0.45, atrophy=0.9)
    fluid = head.canvas.hounsfield[(head.ventricles > 0.99) & (head.inside > 10)]
    assert abs(np.median(fluid) - CSF) < 8


def test_the_pineal_gland_is_in_slices_at_its_level():
    assert drawn_head(level=0.42).pineal is not None
    assert drawn_head(level=0.7).pineal is None
