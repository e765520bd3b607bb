"""The rule by which rows and seeds become p values, and what verdict follows."""

import math

import numpy as np
import pytest
from scipy import stats

from lrsc import claims, significance
from lrsc.claims.decisions import ROWS, decide, every

LOW, HIGH = np.array([0.473, 0.481, 0.489]), np.array([0.590, 0.592, 0.594])


def row(low=LOW, high=HIGH) -> dict:
    return {"groups": [np.asarray(high), -np.asarray(low)]}


def test_one_row_is_decided_by_welchs_test_over_its_seeds():
    found = decide([row()])
    expected = stats.ttest_ind(HIGH, LOW, equal_var=False, alternative="greater")
    assert found["up"] == pytest.approx(expected.pvalue) and found["up"] < 0.001
    assert found["down"] == pytest.approx(1 - expected.pvalue)
    assert (found["low"], found["high"]) == pytest.approx(
        tuple(stats.ttest_ind(HIGH, LOW, equal_var=False).confidence_interval())
    )
    assert found["rows"][0]["seeds"] == 3


def test_of_few_rows_all_have_to_agree():
    both = decide([row(), row(LOW, np.add(LOW, [0.001, 0.03, 0.002]))])
    weaker = decide([row(LOW, np.add(LOW, [0.001, 0.03, 0.002]))])
    assert both["up"] == weaker["up"] > 0.05 and both["low"] > 0  # the mean alone would do
    mixed = decide([row(), row(HIGH, LOW)])
    assert mixed["up"] > 0.9 and mixed["down"] > 0.9
    assert decide([row(HIGH, LOW)] * 2)["down"] == pytest.approx(decide([row()])["up"])


def test_a_row_of_two_seeds_leaves_few_rows_undecided():
    found = decide([row(), row(LOW[:2], HIGH)])
    assert found["up"] == found["down"] == 1 and found["low"] > 0
    assert found["rows"][1]["seeds"] == 2


def test_many_rows_are_decided_by_their_signs():
    rows = [row(LOW[:1], HIGH[:1] + i / 100) for i in range(ROWS)]
    found = decide(rows)
    assert found["up"] == 0.5**ROWS and found["down"] == 1
    assert (found["low"], found["high"]) == significance.interval(
        [r["effect"] for r in found["rows"]]
    )
    assert decide(rows[1:])["up"] == 1  # too few rows, and too few seeds
    assert math.isfinite(decide(rows[1:])["low"])


def test_nine_rows_are_the_fewest_whose_signs_could_carry_a_verdict():
    tests = sum(len(claim.variants) for claim in claims.CLAIMS.values())
    assert tests * 0.5**ROWS < claims.LEVEL < tests * 0.5 ** (ROWS - 1)


def test_no_interval_has_zero_width():
    alike = row([0.5] * 3, [0.7] * 3)
    for rows in ([alike], [alike] * 2, [alike] * ROWS, []):
        found = decide(rows)
        assert math.isnan(found["low"]) and math.isnan(found["high"])


def test_all_parts_of_a_row_have_to_hold():
    falling = [LOW, -HIGH]
    found = decide([row() | {"each": [row()["groups"], falling]}])
    assert found["up"] > 0.99 and found["effect"] == pytest.approx(0.111)


def test_a_claim_of_parts_needs_them_all():
    parts = [decide([row()]), decide([row(LOW, HIGH + 0.1)])]
    found = every(parts, 2)
    assert found["effect"] == pytest.approx(0.111) and found["up"] == parts[0]["up"]
    assert every(parts, 3)["up"] == 1 and every([], 2)["rows"] == []
    # two parts of one row are one row
    assert len(found["rows"]) == 2 and found["n_rows"] == 1 and every([], 2)["n_rows"] == 0


@pytest.mark.parametrize(("by", "small"), [(0.005, True), (0.02, False), (-0.005, False)])
def test_a_supported_effect_within_what_does_not_count_is_small(by, small):
    found = decide([row(LOW, [value + by for value in LOW])])
    p = 0.01 if by > 0 else 1.0  # of accuracy, three points are the limit
    assert claims._verdict("C18", found, p, 1.0)["small"] is small


def said(rows: list[dict], up: float | None = None, name: str = "C18") -> str:
    found = decide(rows)
    return claims._verdict(name, found, up or found["up"], found["down"])["verdict"]


def test_the_words_say_what_is_known():
    assert said([]) == "not measured"
    assert said([row()]) == "supported" and said([row(HIGH, LOW)]) == "contradicted"
    assert said([row(LOW[:2], HIGH[:2])]) == "same direction, too few"
    assert said([row()], up=0.2) == "same direction, too few"
    assert said([row(HIGH[:2], LOW[:2])]) == "no effect seen"  # the other way, by too few
    known = row(HIGH, np.add(HIGH, [0.001, -0.001, 0.002]))  # within 0.03, with a positive effect
    assert decide([known])["high"] < 0.03 and said([known]) == "no effect seen"
    little = row(HIGH, np.add(HIGH, [0.01, 0.009, 0.011]))  # little, and yet seen
    assert said([little], up=0.2) == "same direction, too few"
    wide = row(LOW, np.add(LOW, [0.03, -0.01, 0.0]))
    assert decide([wide])["high"] > 0.03 and said([wide]) == "same direction, too few"
    opposite = [row(LOW, HIGH), row(HIGH, LOW + 0.002)]  # little in the mean alone
    assert said(opposite) == "same direction, too few"
