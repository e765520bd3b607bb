"""Sparsity, (q, kappa)-compressibility and PQ-index against loops in NumPy and by hand."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsc.metrics import compressibility, pq_index, sparsity

few = settings(deadline=None, max_examples=30)
ALL = [sparsity, compressibility, pq_index]


@st.composite
def matrices(draw):
    """Rows with zeros among them, equal entries and whole rows of zeros included."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    z = rng.normal(size=(draw(st.integers(1, 4)), draw(st.integers(1, 12))))
    z = np.round(z, draw(st.sampled_from([0, 1, 8]))) * rng.integers(0, 2, size=(len(z), 1))
    return np.where(rng.random(z.shape) < 0.3, 0, z)


def slow_norm(values, q: float) -> float:
    return sum(abs(float(v)) ** q for v in values) ** (1 / q)


def slow_compressibility(row, q: float, kappa: Fraction) -> float:
    if not any(row):
        return 1.0
    kept = math.ceil(kappa * len(row))
    smallest_first = sorted(abs(float(v)) for v in row)
    return 1 - slow_norm(smallest_first[: len(row) - kept], q) / slow_norm(row, q)


def slow_pq_index(row, p: float, q: float) -> float:
    if not any(row):
        return 1.0
    return 1 - len(row) ** (1 / q - 1 / p) * slow_norm(row, p) / slow_norm(row, q)


@few
@given(matrices())
def test_sparsity_is_the_share_of_zeros(z):
    expected = [sum(v == 0 for v in row) / len(row) for row in z]
    np.testing.assert_allclose(sparsity(torch.from_numpy(z)), expected, rtol=1e-12)


@few
@given(matrices(), st.integers(0, 20), st.sampled_from([0.5, 1.0, 2.0, 3.0]))
def test_compressibility_is_that_of_a_slow_loop(z, twentieths, q):
    found = compressibility(torch.from_numpy(z), q=q, kappa=twentieths / 20)
    expected = [slow_compressibility(row, q, Fraction(twentieths, 20)) for row in z]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@few
@given(matrices(), st.sampled_from([(0.5, 1.0), (1.0, 2.0), (0.3, 2.0), (0.5, 4.0)]))
def test_pq_index_is_that_of_a_slow_loop(w, orders):
    found = pq_index(torch.from_numpy(w), *orders)
    expected = [slow_pq_index(row, *orders) for row in w]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@few
@given(matrices())
def test_pq_index_stays_in_its_range(w):
    found = pq_index(torch.from_numpy(w[w.any(1)])) if w.any() else torch.zeros(1)
    assert (found >= -1e-12).all()
    assert (found <= 1 - 1 / w.shape[1] + 1e-12).all()


@pytest.mark.parametrize(
    ("d", "kappa", "kept"),
    [
        (30, 0.1, 3),
        (10, 0.7, 7),
        (100, 0.07, 7),  # 0.07 * 100 is 7.000000000000001
        (100, 0.29, 29),  # 0.29 * 100 is 28.999999999999996
        (10, 0.3, 3),
        (10, 0.30000000000000004, 3),  # 0.1 + 0.2
        (10, 0.11, 2),
        (10, 0.1001, 2),
        (10, 1e-9, 1),
        (3, 0.5, 2),
        (1, 0.1, 1),
        (7, 0.0, 0),
        (7, 1.0, 7),
    ],
)
def test_compressibility_keeps_the_ceiling_of_kappa_d(d, kappa, kept):
    # all entries 1: the rest has norm sqrt(d - kept)
    found = compressibility(torch.ones(1, d, dtype=torch.float64), kappa=kappa)
    assert found.item() == pytest.approx(1 - math.sqrt((d - kept) / d), abs=1e-12)


def test_compressibility_by_hand():
    z = torch.tensor([[0.0, -4.0, 3.0, 0.0]])
    assert compressibility(z, q=2.0, kappa=0.25).item() == pytest.approx(1 - 3 / 5)
    assert compressibility(z, q=1.0, kappa=0.25).item() == pytest.approx(1 - 3 / 7)
    assert compressibility(z, q=2.0, kappa=0.5).item() == pytest.approx(1.0)
    assert compressibility(z, q=2.0, kappa=0.0).item() == pytest.approx(0.0)


@pytest.mark.parametrize("kappa", [0.0, 0.5, 1.0])
def test_compressibility_of_the_largest_norm(kappa):
    z = torch.tensor([[4.0, -2.0]])
    expected = {0.0: 0.0, 0.5: 0.5, 1.0: 1.0}[kappa]
    assert compressibility(z, q=math.inf, kappa=kappa).item() == pytest.approx(expected)


def test_compressibility_defaults_are_q_2_and_kappa_a_tenth():
    z = torch.rand(5, 20)
    assert torch.equal(compressibility(z), compressibility(z, q=2.0, kappa=0.1))


def test_pq_index_by_hand():
    # p = 1/2, q = 1, d = 2: 1 - (sqrt 4 + sqrt 1)^2 / (2 * 5)
    assert pq_index(torch.tensor([4.0, -1.0])).item() == pytest.approx(1 - 9 / 10)


def test_pq_index_of_equal_entries_is_0_and_of_one_entry_is_largest():
    assert pq_index(torch.full((8,), 3.0)).item() == pytest.approx(0.0, abs=1e-6)
    assert pq_index(torch.eye(8)[0]).item() == pytest.approx(1 - 1 / 8)


def test_sparsity_by_hand():
    assert sparsity(torch.tensor([[0.0, -0.0, 1e-30, 2.0]])).item() == 0.5


@pytest.mark.parametrize("metric", ALL)
def test_a_zero_vector_is_fully_compressible(metric):
    assert metric(torch.zeros(2, 5)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("metric", ALL)
def test_one_vector_gives_one_value_and_a_matrix_one_a_row(metric):
    z = torch.rand(4, 6)
    assert metric(z).shape == (4,)
    assert metric(z[2]).shape == ()
    torch.testing.assert_close(metric(z[2]), metric(z)[2])


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused(metric, bad):
    z = torch.rand(3, 6)
    z[1, 2] = bad
    with pytest.raises(ValueError, match=r"[zw] holds NaN or infinity \(1 of 18 values\)"):
        metric(z)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_does_not_matter_and_does_not_overflow(metric, scale):
    z = torch.rand(3, 20) + 0.1
    torch.testing.assert_close(metric(z * scale), metric(z))


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.int64, torch.float32),
    ],
)
def test_values_are_computed_in_float32_or_better(metric, given, computed):
    z = torch.tensor([[3, 0, 1, 250], [7, 7, 0, 2]], dtype=given)
    found = metric(z)
    assert found.dtype == computed
    torch.testing.assert_close(found.double(), metric(z.double()), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("metric", ALL)
def test_input_is_not_changed(metric):
    z = torch.randn(3, 7)
    before = z.clone()
    metric(z)
    assert torch.equal(z, before)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("z", "says"),
    [
        (torch.empty(0, 3), "empty"),
        (torch.empty(3, 0), "empty"),
        (torch.ones(2, 3, 4), r"shape \(2, 3, 4\), expected n x d"),
        (torch.tensor(1.0), r"shape \(\), expected n x d"),
        (np.ones((2, 3)), "ndarray, expected a torch.Tensor"),
        (torch.ones(2, 3, dtype=torch.complex64), "complex, expected real"),
    ],
)
def test_input_of_another_kind_is_refused(metric, z, says):
    with pytest.raises(ValueError, match=says):
        metric(z)


@pytest.mark.parametrize("kappa", [-0.1, 1.1, math.nan])
def test_kappa_outside_0_to_1_is_refused(kappa):
    with pytest.raises(ValueError, match=r"kappa must be a share in \[0, 1\], found"):
        compressibility(torch.ones(2, 3), kappa=kappa)


@pytest.mark.parametrize("q", [0.0, -1.0, math.nan])
def test_an_order_that_is_no_norm_is_refused(q):
    with pytest.raises(ValueError, match="q must be > 0"):
        compressibility(torch.ones(2, 3), q=q)


@pytest.mark.parametrize(
    ("p", "q"), [(1.0, 1.0), (2.0, 1.0), (0.0, 1.0), (-1.0, 1.0), (math.nan, 1.0)]
)
def test_orders_that_are_not_increasing_are_refused(p, q):
    with pytest.raises(ValueError, match="0 < p < q"):
        pq_index(torch.ones(2, 3), p=p, q=q)
