"""Learning rates by hand at given iterations, and what holds for every run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsc import TrainConfig, schedules


def rates(total: int, **settings) -> list[float]:
    config = TrainConfig(lr=0.5, **settings)
    return [schedules.learning_rate(config, step, total) for step in range(total)]


def test_constant():
    assert rates(5) == [0.5] * 5


def test_step_from_iteration_on():
    assert rates(5, schedule="step", step_at=3) == [0.5, 0.5, 0.5, 0.05, 0.05]
    assert rates(3, schedule="step", step_at=1, step_factor=2.0) == [0.5, 1.0, 1.0]


def test_switch_from_iteration_on():
    assert rates(4, schedule="switch", switch_at=2) == [0.5, 0.5, 0.005, 0.005]
    assert rates(4, schedule="switch", switch_at=2, switch_lr=0.2) == [0.5, 0.5, 0.2, 0.2]


@pytest.mark.parametrize("schedule", ["step", "switch"])
@pytest.mark.parametrize(
    ("total", "change"), [(2000, 1000), (1001, 1000), (1000, 500), (999, 499), (7, 3), (2, 1)]
)
def test_the_change_is_after_1000_iterations_or_in_the_middle(schedule, total, change):
    found = rates(total, schedule=schedule)
    assert set(found[:change]) == {0.5} and 0.5 not in found[change:]


def test_cosine_by_hand():
    found = rates(10, schedule="cosine", warmup=0.2)  # two up, eight down
    assert found[:3] == [0.25, 0.5, 0.5]
    assert found[4] == pytest.approx(0.25 * (1 + math.sqrt(0.5)))  # a quarter of the way
    assert found[6] == pytest.approx(0.25)  # half way
    assert found[8] == pytest.approx(0.25 * (1 - math.sqrt(0.5)))
    assert found[9] == pytest.approx(0.25 * (1 - math.cos(math.pi / 8)))


def test_cosine_without_warmup():
    found = rates(4, schedule="cosine", warmup=0.0)
    half = 0.25 * math.sqrt(0.5)
    assert found == pytest.approx([0.5, 0.25 + half, 0.25, 0.25 - half])


def test_wsd_by_hand():
    found = rates(20, schedule="wsd", warmup=0.2, decay=0.25)  # four up, eleven level, five down
    assert found == pytest.approx(
        [0.125, 0.25, 0.375, 0.5] + [0.5] * 12 + [0.4, 0.3, 0.2, 0.1], abs=1e-15
    )
    assert found[3:16] == [0.5] * 13  # exactly: the loop sets the LR only where it changes


def test_wsd_with_the_default_shares():
    found = rates(100, schedule="wsd")
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert set(found[4:81]) == {0.5}
    assert found[81:] == pytest.approx([0.5 * k / 20 for k in range(19, 0, -1)])


def test_wsd_without_warmup_or_decay():
    assert rates(8, schedule="wsd", warmup=0.0, decay=0.0) == [0.5] * 8
    assert rates(4, schedule="wsd", warmup=0.0, decay=0.5) == [0.5, 0.5, 0.5, 0.25]


SCHEDULES = ("constant", "step", "cosine", "wsd", "switch")


@given(
    schedule=st.sampled_from(SCHEDULES),
    total=st.integers(1, 3000),
    place=st.floats(0, 1, exclude_max=True),
    warmup=st.floats(0, 0.5),
    decay=st.floats(0, 0.5),
)
def test_every_iteration_has_an_lr_above_0_and_at_most_the_configs(
    schedule, total, place, warmup, decay
):
    shares = {"cosine": {"warmup": warmup}, "wsd": {"warmup": warmup, "decay": decay}}
    config = TrainConfig(lr=0.3, schedule=schedule, **shares.get(schedule, {}))
    assert 0 < schedules.learning_rate(config, int(place * total), total) <= 0.3


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 3, 7, 100])
def test_after_the_warmup_the_lr_never_rises(schedule, total):
    found = rates(total, schedule=schedule)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


@pytest.mark.parametrize(("schedule", "name"), [("step", "step_at"), ("switch", "switch_at")])
def test_a_change_after_the_end_is_refused_with_both_settings(schedule, name):
    config = TrainConfig(schedule=schedule, max_epochs=3, **{name: 30})
    schedules.check(config, 31)
    for total in (30, 12):
        with pytest.raises(ValueError, match=f"{name}=30.*max_epochs=3.*{total} iterations"):
            schedules.check(config, total)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_valid_without_settings(schedule):
    for total in (1, 2, 1000, 1001):
        schedules.check(TrainConfig(schedule=schedule), total)
