import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hemorrhage_tf.core.errors import OptionError
from hemorrhage_tf.evaluation.intervals import wilson
from hemorrhage_tf.evaluation.predictive_values import check_prevalence, predictive_values


class TestPredictiveValues:
    def test_worked_by_hand(self):
        # Of 1,000 at 10 %: 90 of 100 detected, 45 of 900 false alarms.
        values = predictive_values(wilson(90, 100), wilson(190, 200), 0.1)
        assert values.ppv.estimate == pytest.approx(90 / 135)
        assert values.npv.estimate == pytest.approx(855 / 865)
        assert values.prevalence == 0.1
        assert values.ppv.n == 300

    def test_ends_are_those_of_the_likelihood_ratio(self):
        # At even odds PPV / (1 - PPV) is the positive likelihood ratio: 0.9 / 0.05 = 18. Close to
        # the interval on the log scale, exp(2.89 -+ 1.96 * 0.309).
        ppv = predictive_values(wilson(90, 100), wilson(190, 200), 0.5).ppv
        low, high = (end / (1 - end) for end in (ppv.low, ppv.high))
        error = math.sqrt(1 / 90 - 1 / 100 + 1 / 10 - 1 / 200)
        assert low == pytest.approx(18 * math.exp(-1.96 * error), rel=0.1)
        assert high == pytest.approx(18 * math.exp(1.96 * error), rel=0.1)

    @settings(max_examples=40, deadline=None)
    @given(
        detected=st.integers(0, 20),
        positives=st.integers(1, 20),
        spared=st.integers(0, 20),
        negatives=st.integers(1, 20),
        prevalence=st.floats(1e-6, 1 - 1e-6),
    )
    def test_in_order_and_in_the_unit_interval(
        self, detected, positives, spared, negatives, prevalence
    ):
        sensitivity = wilson(min(detected, positives), positives)
        specificity = wilson(min(spared, negatives), negatives)
        values = predictive_values(sensitivity, specificity, prevalence)
        for value in (values.ppv, values.npv):
            if value is not None:
                assert 0 <= value.low <= value.estimate + 1e-12
                assert value.estimate <= value.high + 1e-12 <= 1 + 1e-12
        if not detected:
            assert values.ppv is None or values.ppv.estimate == 0

    def test_a_lower_prevalence_lowers_ppv_and_raises_npv(self):
        values = [predictive_values(wilson(90, 100), wilson(80, 90), p) for p in (0.01, 0.1, 0.5)]
        ppv, npv = ([getattr(one, name).estimate for one in values] for name in ("ppv", "npv"))
        assert ppv == sorted(ppv) and npv == sorted(npv, reverse=True)

    def test_at_the_prevalence_of_the_slices_they_are_the_plain_ones(self):
        # 90 of 100 detected, 10 of 90 false alarms.
        values = predictive_values(wilson(90, 100), wilson(80, 90), 100 / 190)
        assert values.ppv.estimate == pytest.approx(90 / 100)
        assert values.npv.estimate == pytest.approx(80 / 90)

    def test_one_class_has_none(self):
        values = predictive_values(wilson(3, 4), None, 0.2)
        assert values.to_dict() == {"prevalence": 0.2, "ppv": None, "npv": None}


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 10, math.nan])
def test_rejects_a_prevalence_outside_the_unit_interval(prevalence):
    with pytest.raises(OptionError) as error:
        check_prevalence(prevalence)
    assert str(error.value).startswith(f"--prevalence {prevalence:g}: must be above 0 and below 1")
    assert str(error.value).endswith("Pass, for example, --prevalence 0.1.")


def test_no_prevalence_passes():
    check_prevalence(None)
