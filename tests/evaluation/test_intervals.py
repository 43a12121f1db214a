import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

from hemorrhage_tf.evaluation.intervals import (
    Interval,
    log_interval,
    logit_interval,
    plain_interval,
    quantile,
    ratio_ends,
    wilson,
)

Z = 1.959963984540054


class TestWilson:
    @settings(max_examples=40, deadline=None)
    @given(
        n=st.integers(1, 5000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.95, 0.99])
    )
    def test_agrees_with_statsmodels(self, n, share, confidence):
        successes = round(share * n)
        interval = wilson(successes, n, confidence)
        low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
        assert interval.low == pytest.approx(low, abs=1e-12)
        assert interval.high == pytest.approx(high, abs=1e-12)
        assert interval.estimate == successes / n
        assert interval.n == n
        assert 0 <= interval.low <= interval.estimate <= interval.high <= 1

    @pytest.mark.parametrize(
        ("successes", "n", "low", "high"),
        [
            (38, 40, 83.5, 98.6),
            # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
            (81, 263, 25.53, 36.62),
            (15, 148, 6.24, 16.05),
            (0, 20, 0.0, 16.11),
            (1, 29, 0.61, 17.18),
        ],
    )
    def test_published_values(self, successes, n, low, high):
        interval = wilson(successes, n)
        digits = 1 if n == 40 else 2
        assert round(100 * interval.low, digits) == low
        assert round(100 * interval.high, digits) == high

    @pytest.mark.parametrize("n", [1, 7, 40, 1000])
    def test_ends_are_exact_at_none_and_all(self, n):
        assert wilson(0, n).low == 0
        assert wilson(n, n).high == 1

    def test_no_slices_have_no_interval(self):
        assert wilson(0, 0) is None

    def test_accepts_fractions_of_a_mean_over_repeats(self):
        between = wilson(37.5, 40)
        assert between.estimate == 37.5 / 40
        assert wilson(37, 40).low < between.low < wilson(38, 40).low
        assert wilson(37, 40).high < between.high < wilson(38, 40).high

    @settings(max_examples=30, deadline=None)
    @given(n=st.integers(1, 200), share=st.floats(0, 1), times=st.integers(2, 20))
    def test_narrows_with_n(self, n, share, times):
        successes = round(share * n)
        once, more = wilson(successes, n), wilson(successes * times, n * times)
        assert more.high - more.low < once.high - once.low


class TestScales:
    def test_quantiles(self):
        assert quantile(0.95) == pytest.approx(Z)
        assert quantile(0.95, 7) == pytest.approx(t.ppf(0.975, 7))

    def test_logit(self):
        interval = logit_interval(0.8, 0.01, 50, degrees=9)
        half = t.ppf(0.975, 9) * 0.1 / (0.8 * 0.2)
        assert interval.low == pytest.approx(expit(logit(0.8) - half))
        assert interval.high == pytest.approx(expit(logit(0.8) + half))

    def test_log(self):
        interval = log_interval(0.2, 0.0004, 50)
        assert interval.low == pytest.approx(0.2 * math.exp(-Z * 0.1))
        assert interval.high == pytest.approx(0.2 * math.exp(Z * 0.1))

    @pytest.mark.parametrize("variance", [1.0, 1e6])
    def test_log_stays_in_the_unit_interval(self, variance):
        interval = log_interval(0.001, variance, 5)
        assert 0 <= interval.low < 0.001
        assert interval.high == 1

    def test_log_interval_of_zero_is_wilsons(self):
        assert log_interval(0.0, 0.0, 30) == wilson(0, 30)


class TestRatioEnds:
    def test_textbook_form(self):
        # Newcombe's formula as printed, of 18 of 20 over 3 of 25.
        one, other = wilson(18, 20), wilson(3, 25)
        product = one.estimate * other.estimate

        def printed(sign, a, b):
            c = a * (2 * one.estimate - a) * b * (2 * other.estimate - b)
            return (product + sign * math.sqrt(product**2 - c)) / (b * (2 * other.estimate - b))

        low, high = ratio_ends(one, other)
        assert low == pytest.approx(printed(-1, one.low, other.high))
        assert high == pytest.approx(printed(1, one.high, other.low))
        assert low < one.estimate / other.estimate < high

    @settings(max_examples=40, deadline=None)
    @given(a=st.integers(0, 30), m=st.integers(1, 30), b=st.integers(0, 30), n=st.integers(1, 30))
    def test_holds_the_ratio(self, a, m, b, n):
        one, other = wilson(min(a, m), m), wilson(min(b, n), n)
        low, high = ratio_ends(one, other)
        assert 0 <= low <= high
        if other.estimate:
            ratio = one.estimate / other.estimate
            assert low <= ratio * (1 + 1e-12) and ratio <= high * (1 + 1e-12)
        else:
            assert high == math.inf and low < math.inf


def test_interval_as_plain_values():
    assert Interval(0.5, 0.25, 0.75, 9).to_dict() == {
        "estimate": 0.5,
        "low": 0.25,
        "high": 0.75,
        "n": 9,
    }
    assert Interval(0.5, 0.25, 0.75, 4.5).to_dict()["n"] == 4.5
    assert isinstance(Interval(0.5, 0.25, 0.75, 4.0).to_dict()["n"], int)


def test_no_interval_stays_none():
    assert plain_interval(None) is None
