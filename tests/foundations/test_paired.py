"An interval and a test of the same queries do not contradict each other."
import numpy as np
import pytest

from ragcun.measures.paired import FEW_QUERIES, paired_test


@pytest.mark.parametrize("n, differ", [(46, 4), (46, 5), (100, 5), (300, 5)])
def test_where_few_queries_differ_the_interval_holds_what_the_test_does_not_exclude(n, differ):
    d = np.r_[np.full(differ, .37), np.zeros(n - differ)]
    up, down = paired_test(d, 0*d), paired_test(0*d, d)
    assert up.p > .05 and up.low == 0 < up.high and down.low < 0 == down.high
    clear = paired_test(np.r_[np.full(9, .37), np.zeros(n - 9)], np.zeros(n))
    assert clear.p <= .05 and clear.low > 0


def test_where_only_few_queries_differ_noise_is_seldom_taken_for_a_difference():
    rng = np.random.default_rng(0)
    d = np.where(rng.random((300, 60)) < .1, rng.choice([-1, 1], (300, 60)) * rng.choice([.37, .5, 1], (300, 60)), 0)
    found = [paired_test(row, 0*row) for row in d if row.any()]
    assert np.mean([t.low > 0 or t.high < 0 for t in found]) < .05
    assert all(t.p <= .05 for t in found if t.low > 0 or t.high < 0)
    many = paired_test(rng.normal(.03, .1, 50), np.zeros(50))
    assert FEW_QUERIES < 50 and many.low < many.mean < many.high
