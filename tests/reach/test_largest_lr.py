"""The largest stable and the largest useful LR, on small networks and data."""

import dataclasses
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import lrsc
from lrsc import datasets
from lrsc.config import TrainConfig
from lrsc.datasets import BiasedDataset, Split
from lrsc.reach import short_runs


def two_classes(n: int = 600, rho: float = 0.2, bias: bool = True, seed: int = 0) -> BiasedDataset:
    """Ten numbers: a weak sum that tells the class, and one number that tells the bias."""
    draw = np.random.default_rng(seed)
    y = np.arange(n) % 2
    b = np.where(draw.random(n) < rho, 1 - y, y)
    x = draw.normal(size=(n, 10)).astype(np.float32)
    x[:, :9] += 0.6 * (2 * y[:, None] - 1)
    x[:, 9] = 2 * (2 * b - 1)
    split = Split(x, y, b if bias else None)
    return BiasedDataset("two", split, split, 2)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 2))


search = importlib.import_module("lrsc.reach.largest_lr")  # beside it is its function
CONFIG = TrainConfig(batch_size=20)


def found(**options) -> lrsc.LargestLR:
    given = {"budget": 3000, "progress": False} | options
    return lrsc.largest_lr(net, two_classes(), CONFIG, **given)


@pytest.fixture(scope="module")
def answer() -> lrsc.LargestLR:
    return found()


def test_the_answer_lies_below_the_edge_and_above_the_usual_lr(answer):
    rows = answer.dataset.to_dataframe()
    assert answer.usual == 1e-3 < answer.useful <= answer.stable <= 10
    assert rows["steps"].sum() == answer.dataset.attrs["updates"] <= 3000
    assert set(rows[rows.lr == answer.stable].seed) == {0, 1}
    assert (rows[rows.stage == "compare"].lr <= answer.stable).all()


def test_equal_calls_give_equal_answers(answer):
    again = found()
    assert (again.stable, again.useful) == (answer.stable, answer.useful)
    assert again.dataset.drop_attrs().equals(answer.dataset.drop_attrs())


def test_the_text_says_what_was_seen(answer):
    text = str(answer)
    for part in (
        "largest stable LR",
        "largest useful LR",
        "usual LR",
        "held-out samples",
        "budget",
    ):
        assert part in text


def test_the_figure_has_a_sentence_for_those_who_cannot_see_it(answer):
    assert f"{answer.useful:.3g}" in answer.plot().get_label()


def test_test_samples_are_never_looked_at():
    data = two_classes()
    other = dataclasses.replace(data.test, x=-data.test.x, y=1 - data.test.y)
    one, two = (
        lrsc.largest_lr(net, d, CONFIG, budget=1500, progress=False)
        for d in (data, dataclasses.replace(data, test=other))
    )
    assert one.dataset.drop_attrs().equals(two.dataset.drop_attrs())


def test_the_same_call_goes_on_from_its_store(tmp_path, monkeypatch, answer):
    store = tmp_path / "short.nc"
    calls = []
    fit_each = short_runs.fit_each

    def dying(*args, **options):
        calls.append(len(args[3]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        fit_each(*args, **options)

    monkeypatch.setattr(short_runs, "fit_each", dying)
    with pytest.raises(KeyboardInterrupt):
        found(store=store)
    before = len(calls)
    again = found(store=store)
    assert (again.stable, again.useful) == (answer.stable, answer.useful)
    calls.clear()
    found(store=store)
    assert before == 3
    assert not calls  # all short runs are in the store


def test_a_store_of_another_call_is_named(tmp_path):
    store = tmp_path / "short.nc"
    found(store=store, budget=1200)
    with pytest.raises(ValueError, match="another budget"):
        found(store=store, budget=1300)


def test_a_time_is_kept():
    import time

    began = time.monotonic()
    answer = found(budget="6 s", seeds=[0])
    assert time.monotonic() - began < 20  # on a busy machine, imports included
    assert answer.dataset.attrs["budget"] == "0.1 min"


def test_without_bias_labels_the_score_is_accuracy():
    answer = lrsc.largest_lr(net, two_classes(bias=False), CONFIG, budget=1500, progress=False)
    assert answer.dataset.attrs["criterion"].startswith("accuracy on 120")


def test_adam_has_its_own_range():
    answer = found(budget=1500)
    config = dataclasses.replace(CONFIG, optimizer="adamw")
    adam = lrsc.largest_lr(net, two_classes(), config, budget=1500, progress=False)
    assert adam.dataset["lr"].max() <= 0.3 < answer.dataset["lr"].max()


def exploding() -> nn.Module:
    made = net()
    nn.init.constant_(made[0].weight, 3e38)
    return made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lrs": (1e6, 1e8)}, "no LR is stable: at 1e\\+06"),
        ({"lrs": (1, 0.1)}, "lowest and the highest"),
        ({"budget": 40}, "give 515 updates or more"),
        ({"budget": "soon"}, "a time as '10 min'"),
        ({"budget": True}, "a time as '10 min'"),
        ({"seeds": []}, "seeds is empty"),
        ({"tolerance": 2}, "tolerance"),
    ],
)
def test_bad_input_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        found(**change)


def test_a_loss_that_is_not_finite_from_the_start_names_the_data():
    with pytest.raises(ValueError, match="not finite at the first mini-batch"):
        lrsc.largest_lr(exploding, two_classes(), CONFIG, budget=1000, progress=False)


def test_one_network_for_all_runs_is_refused():
    shared = net()
    with pytest.raises(ValueError, match="a second time"):
        lrsc.largest_lr(lambda: shared, two_classes(), CONFIG, budget=1000, progress=False)
    with pytest.raises(ValueError, match="give a factory"):
        lrsc.largest_lr(shared, two_classes(), CONFIG)


def test_names_of_models_and_sets_work_too():
    data = datasets.load("parity", n_train=1000)
    answer = lrsc.largest_lr("fcn", data, budget=1200, seeds=[0], progress=False)
    assert answer.useful <= answer.stable
    assert torch.isfinite(torch.tensor(answer.stable))


def test_groups_too_small_to_be_split_are_held_out_together():
    draw = np.random.default_rng(0)
    y = np.arange(600) % 10
    b = np.where(np.arange(600) // 10 % 10 == 0, (y + 1 + draw.integers(0, 9, 600)) % 10, y)
    split = Split(draw.normal(size=(600, 4)).astype(np.float32), y, b)
    data = BiasedDataset("many groups", split, split, 10)
    runs = short_runs.ShortRuns(
        lambda: nn.Linear(4, 10), data, CONFIG, 1000, None, "cpu", "auto", False
    )
    held = runs.judge.held
    assert len(held) == pytest.approx(120, abs=4)  # a fifth, and of those that conflict
    assert int((held.y != held.bias).sum()) == pytest.approx(12, abs=4)
    assert "worst of 2 groups (aligned and conflicting)" in runs.judge.words


def test_runs_that_converge_early_are_not_slower_than_others():
    rows = [
        {"stage": "compare", "group": 1, "lr": lr, "score": 1.0, "score_error": 0.0,
         "last_loss": loss, "status": status}
        for lr, loss, status in (
            (0.1, 0.05, "converged"), (0.4, 0.2, "converged"), (1.0, 0.3, "cap"),
        )
    ]  # fmt: skip
    found = search._scores(SimpleNamespace(rows=rows))
    assert [found[lr].loss for lr in (0.1, 0.4, 1.0)] == [0, 0, 0.3]


def test_a_small_budget_is_said_to_tell_little():
    assert "give a larger budget" in str(found(budget=600))
