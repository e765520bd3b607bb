"""Propositions 1 and 2: rates and limits; what is refused."""

import math

import numpy as np
import pytest
import torch

from lrsc.studies import theory

MARGINS = torch.linspace(0.5, 1.5, 20, dtype=torch.float64)
CONFLICTING = torch.arange(20) % 5 == 0


def test_losses_are_the_closed_forms():
    found = theory.loss_rates([0.5, 3.0], MARGINS, CONFLICTING)
    for k, alpha in enumerate((0.5, 3.0)):
        of = [math.log1p(math.exp(alpha * m * (1 if c else -1)))
              for m, c in zip(MARGINS.tolist(), CONFLICTING.tolist(), strict=True)]  # fmt: skip
        bc = [v for v, c in zip(of, CONFLICTING.tolist(), strict=True) if c]
        ba = [v for v, c in zip(of, CONFLICTING.tolist(), strict=True) if not c]
        assert found["bc_loss"][k] == pytest.approx(np.mean(bc))
        assert found["ba_loss"][k] == pytest.approx(np.mean(ba))
        assert found["loss_ratio"][k] == pytest.approx(sum(bc) / sum(of))


def test_proposition_1_rates_and_limit():
    alphas = np.linspace(15, 40, 6)
    found = theory.loss_rates(alphas, MARGINS, CONFLICTING)
    mean = float(MARGINS[CONFLICTING].mean())
    assert theory.fitted_slope(alphas, found["bc_loss"]) == pytest.approx(mean, rel=1e-3)
    least = float(MARGINS[~CONFLICTING].min())
    slope = theory.fitted_slope(alphas, found["ba_loss"].log())
    assert slope == pytest.approx(-least, rel=0.06)
    assert found["loss_ratio"][-1] == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_proposition_2_the_ratio_grows_like_alpha(seed):
    alphas = np.geomspace(50, 1000, 6)
    found = theory.gradient_ratios(alphas, seed)
    slope = theory.fitted_slope(np.log(alphas), found["ratio"].log())
    assert slope == pytest.approx(1, abs=0.02)
    assert found["core"].max() / found["core"].min() < 1.1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: theory.loss_rates([], MARGINS, CONFLICTING), "alphas must be finite"),
        (lambda: theory.loss_rates([-1.0], MARGINS, CONFLICTING), "alphas must be finite"),
        (lambda: theory.loss_rates([1.0], -MARGINS, CONFLICTING), "margins must be > 0"),
        (lambda: theory.loss_rates([1.0], MARGINS, CONFLICTING & False), "one kind only"),
        (lambda: theory.gradient_ratios([1.0], n=5), "n must be at least 10"),
    ],
)
def test_bad_input_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
