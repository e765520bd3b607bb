"""Rank correlation against SciPy, its interval, and what is refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lrsc.metrics import rank_correlation, rank_correlation_interval


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(3, 20), st.integers(2, 30))
def test_rank_correlation_is_that_of_scipy_also_with_ties(seed, n, values):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, values, (2, 4, n)).astype(float)
    found = rank_correlation(torch.from_numpy(x), torch.from_numpy(y)).numpy()
    for row, (a, b) in zip(found, zip(x, y, strict=True), strict=True):
        if len(set(a)) == 1 or len(set(b)) == 1:
            assert np.isnan(row)
        else:
            np.testing.assert_allclose(row, stats.spearmanr(a, b).statistic, atol=1e-12)


def test_nan_gives_nan_in_its_row_only():
    x = torch.tensor([[1.0, 2.0, torch.nan], [1.0, 2.0, 3.0]])
    found = rank_correlation(x, torch.tensor([1.0, 2.0, 3.0]).expand(2, 3))
    assert found.isnan().tolist() == [True, False]


def test_an_interval_holds_the_value_and_shrinks_with_more_pairs():
    generator = torch.Generator().manual_seed(0)
    widths = []
    for n in (20, 500):
        x = torch.randn(n, generator=generator)
        value, low, high = rank_correlation_interval(x, x + torch.randn(n, generator=generator))
        assert low < value < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_pairs_without_a_value_are_left_out_and_few_give_nan():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, torch.nan])
    assert rank_correlation_interval(x, x)[0] == 1
    assert all(np.isnan(v) for v in rank_correlation_interval(x[2:], x[2:]))


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((1,), (1,)), ((2, 3), (3,))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="n >= 2"):
        rank_correlation(*(torch.zeros(shape) for shape in shapes))
