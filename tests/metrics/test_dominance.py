"""Dominance and responses to updates, on tables whose answer is known."""

import numpy as np
import pytest
import torch

from lrsc.metrics import dominance_persistence, update_response


def test_persistence_against_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    csi, bsi = torch.rand(2, 7, 40, generator=generator)
    found = dominance_persistence(csi, bsi)
    for t in range(7):
        of_class = [k for k in range(40) if csi[t, k] > bsi[t, k]]
        others = [k for k in range(40) if k not in of_class]
        kept = sum(bool(csi[-1, k] > bsi[-1, k]) for k in of_class) / len(of_class)
        lost = sum(bool(csi[-1, k] <= bsi[-1, k]) for k in others) / len(others)
        assert found["class_kept"][t] == pytest.approx(kept)
        assert found["bias_kept"][t] == pytest.approx(lost)
        assert found["class_dominant"][t] == pytest.approx(len(of_class) / 40)


def test_at_the_end_all_are_kept_and_none_of_a_kind_is_nan():
    found = dominance_persistence(torch.ones(3, 5), torch.zeros(3, 5))
    assert found["class_kept"].tolist() == [1, 1, 1]
    assert found["bias_kept"].isnan().all()


def resets(calls=200, neurons=30):
    """Shares that rise by 0.01 a call and fall to 0 after an update every 40 calls."""
    t = torch.arange(calls)[:, None] + torch.arange(neurons)[None] * 0
    share = ((t - 1) % 40) * 0.01
    norms = torch.where(t % 40 == 0, 5.0, 1.0)
    return norms, share


def test_a_reset_is_seen_as_a_rise_before_and_a_fall_after():
    norms, share = resets()
    found = update_response(norms, share, lags=5, at_least=0.98)
    assert found["events"] == 4 * 30
    large = found["large"].numpy()
    np.testing.assert_allclose(large[:6], np.arange(-5, 1) * 0.01, atol=1e-6)
    np.testing.assert_allclose(large[6:], np.arange(0, 5) * 0.01 - 0.39, atol=1e-6)
    assert abs(found["other"].numpy()).max() < 0.1


def test_inactive_neurons_are_left_out():
    norms, share = resets()
    share[:, 0] = torch.nan
    found = update_response(norms, share, lags=5, at_least=0.98)
    assert found["large"].isfinite().all()


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ((torch.zeros(3, 4), torch.zeros(3, 5)), "expected the same calls x neurons"),
        ((torch.zeros(3), torch.zeros(3)), "expected the same calls x neurons"),
        ((torch.full((3, 4), torch.nan), torch.zeros(3, 4)), "csi holds NaN"),
    ],
)
def test_bad_tables_are_named(tables, words):
    with pytest.raises(ValueError, match=words):
        dominance_persistence(*tables)


def test_too_few_calls_say_how_many_are_needed():
    with pytest.raises(ValueError, match="10 calls, expected at least 22"):
        update_response(torch.ones(10, 2), torch.ones(10, 2))
