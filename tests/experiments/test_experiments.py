"""Experiments: plans, opening results, collapsed runs, status, reference ranges."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from longform import stored

from lrsc import RunConfig, TrainConfig, experiments, results
from lrsc.experiments import paper


def put(root, *runs):
    for found in runs:
        results.save(found, results.run_path(found.attrs["run_id"], root))


def quick(number, lr, seed=0, accuracy=0.5, **attrs):
    config = experiments.configs("semi_synthetic", model="fcn", lrs=[lr], seeds=[seed])[0]
    found = stored(f"{number:016x}", accuracy=accuracy, config=config.to_json(), **attrs)
    found["epochs"] = 5
    return found


@pytest.fixture(autouse=True)
def nothing_shipped(monkeypatch, tmp_path):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path / "shipped")


PLANNED = [
    (name, profile)
    for name, rows in experiments.EXPERIMENTS.items()
    for profile in experiments.PROFILES
    if any(profile in row.plans for row in rows)
]


@pytest.mark.parametrize(("name", "profile"), PLANNED)
def test_every_plan_holds_distinct_valid_runs(name, profile):
    configs = experiments.configs(name, profile)
    assert len(set(configs)) == len(configs) > 0
    assert all(experiments.profile_of(c) == profile or c.dataset == "parity" for c in configs)


def test_paper_grids_span_table_s1_with_six_log_spaced_values():
    for dataset, model, name in (
        ("parity", "fcn", "synthetic"),
        ("colored_mnist", "fcn", "semi_synthetic"),
        ("colored_mnist", "resnet18", "semi_synthetic"),
    ):
        lrs = sorted({c.train.lr for c in experiments.configs(name, "paper", dataset, model)})
        low, high = experiments.reference(dataset, model)["lr"]
        assert (lrs[0], lrs[-1]) == (low, high)
        for lr in np.geomspace(low, high, 6):
            assert min(abs(np.log(lr / v)) for v in lrs) < 0.01


def test_desk_runs_use_real_data_and_10_000_samples():
    config = experiments.configs("semi_synthetic", "desk")[0]
    assert config.source == "real" and dict(config.data) == {"n_train": 10_000}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("semisynthetic",), "'semi_synthetic'"),
        (("synthetic", "papper"), "'paper'"),
        (("synthetic", "quick", "colored_mnist"), "Valid: moon_star, parity"),
        (("semi_synthetic", "quick", None, "resnet1"), "'resnet18'"),
        (("synthetic", "quick", None, None, []), "must not be empty"),
        (("synthetic", "quick", None, None, [-1]), "lr must be"),
        (("choices", "quick"), "has no runs in profile 'quick'"),
        (("hyperparameters", "desk", None, None, None, None, "l3"), "hyperparameter .* 'l3'"),
        (("hyperparameters", "desk", None, None, [0.1], None, "l2"), "sweeps something else"),
    ],
)
def test_errors(arguments, words):
    with pytest.raises(ValueError, match=words):
        experiments.configs(*arguments)


@pytest.mark.parametrize("units", ["%", "1"])
def test_a_local_run_in_other_units_is_left_out(tmp_path, units):
    in_percent = quick(2, 0.06, accuracy=61.0)
    in_percent["unbiased_accuracy"].attrs["units"] = units
    put(tmp_path, quick(1, 0.02), in_percent)
    found = experiments.open_experiment("semi_synthetic", "quick", tmp_path)
    assert found["lr"].values.tolist() == [0.02]


def test_open_runs_gives_only_what_is_done(tmp_path):
    put(tmp_path, quick(1, 0.5), quick(2, 0.1, seed=1))
    configs = experiments.configs("semi_synthetic", model="fcn", lrs=[0.1, 0.5], seeds=[0, 1])
    found = experiments.open_runs(configs, tmp_path)
    assert sorted(zip(found["lr"].values, found["seed"].values, strict=True)) == [
        (0.1, 1),
        (0.5, 0),
    ]
    assert set(found["profile"].values) == {"quick"} and set(found["origin"].values) == {"local"}
    with pytest.raises(ValueError, match="none of these runs is done"):
        experiments.open_runs(experiments.configs("synthetic"), tmp_path)


def test_a_stand_in_never_passes_for_a_desk_or_paper_run(tmp_path):
    config = experiments.configs("semi_synthetic", "paper", model="fcn", lrs=[0.5], seeds=[0])[0]
    put(tmp_path, stored("a" * 16, config=config.to_json(), source_id="digits"))
    with pytest.raises(ValueError, match="nothing is measured"):
        experiments.open_experiment("semi_synthetic", "paper", tmp_path)
    put(tmp_path, stored("b" * 16, config=config.to_json(), source_id="mnist"))
    assert experiments.open_experiment("semi_synthetic", "paper", tmp_path).sizes["run"] == 1


def test_the_largest_profile_is_opened_unless_asked_otherwise(tmp_path):
    config = experiments.configs("semi_synthetic", "paper", model="fcn", lrs=[0.5], seeds=[0])[0]
    put(tmp_path, stored("b" * 16, config=config.to_json(), source_id="mnist"), quick(1, 0.2))
    assert experiments.open_experiment("semi_synthetic", root=tmp_path).attrs["profile"] == "paper"
    small = experiments.open_experiment("semi_synthetic", "quick", tmp_path)
    assert small["source_id"].values.tolist() == ["digits"]


def test_collapsed_is_a_larger_lr_far_under_the_best(tmp_path):
    put(
        tmp_path,
        quick(1, 0.02, accuracy=0.3),  # a small LR that is bad has not collapsed
        quick(2, 0.06, accuracy=0.8),
        quick(3, 0.2, 0, accuracy=0.2),
        quick(4, 0.2, 1, accuracy=0.75),
        quick(5, 0.06, 1, accuracy=0.55),  # a bad seed of the best LR has not collapsed either
    )
    found = experiments.open_experiment("semi_synthetic", "quick", tmp_path)
    statuses = dict(zip(found["run_id"].values, found["status"].values, strict=True))
    assert [statuses[f"{i:016x}"] for i in (1, 2, 3, 4, 5)] == [
        "converged", "converged", "collapsed", "converged", "converged",
    ]  # fmt: skip


def test_nothing_measured_says_how_to_measure(tmp_path):
    with pytest.raises(ValueError, match="lrsc sweep synthetic --profile desk"):
        experiments.open_experiment("synthetic", "desk", tmp_path)


def test_export_ships_evidence_once_and_never_quick_runs(tmp_path):
    configs = experiments.configs("semi_synthetic", "paper", model="fcn", lrs=[0.5], seeds=[0, 1])
    put(tmp_path, quick(1, 0.5))
    with pytest.raises(ValueError, match="nothing to export"):
        experiments.export("semi_synthetic", tmp_path, ship=True)
    put(tmp_path, stored("a" * 16, config=configs[0].to_json(), source_id="mnist"))
    experiments.export("semi_synthetic", tmp_path, ship=True)
    put(tmp_path, stored("b" * 16, config=configs[1].to_json(), source_id="mnist"))
    path = experiments.export("semi_synthetic", tmp_path, ship=True)
    shipped = results.load(path)
    assert sorted(shipped["run_id"].values) == ["a" * 16, "b" * 16]
    assert "representation" not in shipped
    # a reader without local results sees them
    found = experiments.open_experiment("semi_synthetic", root=tmp_path / "nowhere")
    assert found.sizes["run"] == 2 and found.attrs["origin"] == "shipped"
    assert found.attrs["file"] == "book/results/semi_synthetic.nc"


def test_open_runs_finds_shipped_runs_too(tmp_path):
    configs = experiments.configs("semi_synthetic", "paper", model="fcn", lrs=[0.5], seeds=[0])
    put(tmp_path, stored("a" * 16, config=configs[0].to_json(), source_id="mnist"))
    experiments.export("semi_synthetic", tmp_path, ship=True)
    found = experiments.open_runs(configs, tmp_path / "nowhere")
    assert found.sizes["run"] == 1 and found["origin"].values.tolist() == ["shipped"]


@given(st.integers(1, 8), st.floats(1, 1e4), st.sampled_from([1000, 10_000, 60_000]))
def test_seconds_are_those_of_a_sample_and_shared_by_runs_side_by_side(replicas, seconds, n):
    """A quick run is not expected to take what one on fifty times the data did."""
    known = xr.Dataset(coords={name: ("run", [value]) for name, value in {
        "dataset": "colored_mnist", "model": "cnn", "data": "", "hyperparameter": "lr",
        "status": "cap", "lr": 0.01, "epochs": 10, "train_seconds": seconds, "n_train": n,
        "replicas": replicas, "stand_in": False,
    }.items()}).reset_coords()  # fmt: skip
    rate = seconds / replicas / (10 * n)
    quick = experiments.configs("semi_synthetic", "quick", "colored_mnist", "cnn")[0]
    assert experiments.expected_seconds(quick, known) == pytest.approx(rate * 200 * 2)
    desk, _ = experiments.usual_run("colored_mnist", "cnn", "desk", train={"lr": 0.01})
    assert experiments.expected_seconds(desk, known) == pytest.approx(rate * 10_000 * 10)


def test_status_counts(tmp_path):
    put(tmp_path, quick(1, 0.2), quick(2, 0.06, status="diverged"))
    rows = experiments.status("quick", tmp_path)
    wanted = ("semi_synthetic", "colored_mnist", "fcn")
    (row,) = [r for r in rows if (r["experiment"], r["dataset"], r["model"]) == wanted]
    assert (row["done"], row["diverged"]) == (2, 1) and row["missing"] == row["runs"] - 2
    with pytest.raises(ValueError, match="profile"):
        experiments.status("fast", tmp_path)


def test_reference_is_table_s1_in_fractions():
    ranges = experiments.reference("colored_mnist", "fcn")
    assert ranges["unbiased_accuracy"] == pytest.approx((0.72727, 0.7611))
    assert ranges["prunability"] == (0.935, 0.968) and ranges["lr"] == (0.001, 0.5)
    assert experiments.reference("parity", "resnet18") is None


def test_the_semi_synthetic_grid_is_the_papers():
    """Four data sets, five models, six LRs over table S1's ranges, both ends included, 3 seeds."""
    rows = experiments.EXPERIMENTS["semi_synthetic"]
    assert len({(row.dataset, row.model) for row in rows}) == len(rows) == 20
    for row in rows:
        plan, known = row.plans["paper"], experiments.reference(row.dataset, row.model)
        assert (min(plan.values), max(plan.values)) == known["lr"]
        assert len(plan.values) >= 6 and plan.seeds == (0, 1, 2)
        desk = row.plans["desk"]
        assert len(desk.values) in (3, 4) and len(desk.seeds) == 3
    grid = experiments.configs("semi_synthetic", "paper", dataset="mnist_cifar", model="fcn")
    assert {dict(config.data)["rho"] for config in grid} == {0.25} and len(grid) == 18


def test_a_row_without_a_plan_says_which_profiles_it_has():
    with pytest.raises(ValueError, match="colored_mnist fcn has no runs .* only in desk"):
        experiments.configs("precision", "quick", dataset="colored_mnist", model="fcn")


def test_every_pair_of_the_papers_grid_has_a_quick_plan():
    pairs = {
        (row.dataset, row.model)
        for name in ("synthetic", "semi_synthetic", "standard_classification", "naturalistic",
                     "imagenet", "attribution")
        for row in experiments.EXPERIMENTS[name]
    }  # fmt: skip
    assert len(pairs) == 2 + 20 + 2 + 4 + 1
    for dataset, model in pairs:
        name, row = experiments.usual_row(dataset, model, "quick")
        runs = experiments.configs(name, "quick", dataset, model)
        assert {c.source for c in runs} == {"embedded"} and len({c.train.lr for c in runs}) > 1
        assert all(experiments.profile_of(c) == "quick" for c in runs)


@pytest.mark.parametrize("profile", experiments.PROFILES)
def test_one_run_is_as_its_section_trains_it(profile):
    """Whatever pair is asked for: the run is one of the row's, or the line says that none is."""
    names = "synthetic", "semi_synthetic", "naturalistic", "standard_classification", "imagenet"
    for row in (row for name in names for row in experiments.EXPERIMENTS[name]):
        name, usual = experiments.usual_row(row.dataset, row.model, profile)
        run, said = experiments.usual_run(row.dataset, row.model, profile)
        assert f"section {name!r}" in said
        if profile in usual.plans:
            lr = usual.plans[profile].values[0]
            run, _ = experiments.usual_run(row.dataset, row.model, profile, train={"lr": lr})
            assert run in experiments.configs(name, profile)
    run, said = experiments.usual_run("cifar10", "fcn", profile, data={"seed": 3})
    assert said.startswith("no section trains fcn on cifar10") and said.endswith("for seed=3")


def test_runs_stand_under_every_row_they_are_of_and_no_other():
    runs = experiments.configs("hyperparameters", "quick")
    found = xr.Dataset(coords={"config": ("run", [config.to_json() for config in runs])})
    labelled = experiments.open._in_rows(found, "hyperparameters")
    names = labelled["hyperparameter"].values.tolist()
    rows = [r for r in experiments.EXPERIMENTS["hyperparameters"] if "quick" in r.plans]
    planned = {r.hyperparameter: len(r.plans["quick"].values) for r in rows}
    assert len(planned) == 8
    assert {name: names.count(name) for name in names} == planned
    assert (labelled["value"].values > 0).all()


def test_a_run_at_an_lr_of_ones_own_is_of_the_rows_that_sweep_it():
    runs = experiments.configs("optimizers_schedules", "quick", hyperparameter="adam", lrs=[0.05])
    found = xr.Dataset(coords={"config": ("run", [config.to_json() for config in runs])})
    labelled = experiments.open._in_rows(found, "optimizers_schedules")
    assert labelled["hyperparameter"].values.tolist() == ["adam"]
    assert labelled["value"].values.tolist() == [0.05]


def test_the_interventions_are_table_s2s():
    """Three data sets, eight interventions; a desk plan of 3 values over the range.

    Rows of the LR have the desk plan of the semi-synthetic section.
    """
    rows = [r for r in experiments.EXPERIMENTS["hyperparameters"] if "paper" in r.plans]
    lines = paper.table("s2")
    assert len({(r.dataset, r.hyperparameter) for r in rows}) == len(rows) == len(lines) == 24
    for row, line in zip(rows, lines, strict=True):
        low, high = float(line["value_min"]), float(line["value_max"])
        for profile, n in (("desk", 3), ("paper", 6)):
            plan = row.plans[profile]
            assert plan.seeds == (0, 1, 2)
            if (row.hyperparameter, profile) != ("lr", "desk"):
                assert len(plan.values) == n
                assert (plan.values[0], plan.values[-1]) == (low, high)
        fixed = {"lr": None, "high_lr_l2": paper.HIGH_LR[row.dataset]}
        assert row.train.get("lr") == fixed.get(row.hyperparameter, results.LOW_LR)


def test_the_lr_row_of_the_interventions_is_made_of_the_semi_synthetic_runs():
    ours = experiments.configs("hyperparameters", "desk", hyperparameter="lr")
    assert len(ours) == 3 * (3 + 5 + 4)
    more = set(ours) - set(experiments.configs("semi_synthetic", "desk", model="resnet18"))
    assert {(c.dataset, c.train.lr) for c in more} == {("mnist_cifar", 0.1)}  # S2's largest


def test_the_batch_size_is_swept_as_one_over_it():
    found = experiments.configs("hyperparameters", "paper", "colored_mnist",
                                hyperparameter="batch_size", seeds=[0])  # fmt: skip
    assert [c.train.batch_size for c in found] == [100, 50, 25, 12, 6, 3]
    assert {c.train.lr for c in found} == {0.001}


def test_a_run_of_two_rows_is_in_both_and_knows_its_value(tmp_path):
    """At 1 / B = 0.01 the batch row's run is the LR row's at 0.001."""
    where = ("hyperparameters", "desk", "colored_mnist")
    lr = experiments.configs(*where, hyperparameter="lr", seeds=[0])
    batch = experiments.configs(*where, hyperparameter="batch_size", seeds=[0])
    assert lr[0] == batch[0]
    chosen = list(dict.fromkeys([*lr, *batch]))
    put(tmp_path, *(stored(f"{i:016x}", config=c.to_json(), source_id="mnist", accuracy=0.5)
                    for i, c in enumerate(chosen)))  # fmt: skip
    found = experiments.open_experiment("hyperparameters", root=tmp_path)
    assert dict(zip(*np.unique(found["hyperparameter"], return_counts=True), strict=True)) == {
        "batch_size": 3, "lr": 3,
    }  # fmt: skip
    values = found["value"].values[found["hyperparameter"] == "batch_size"]
    assert values == pytest.approx([1 / 100, 1 / 17, 1 / 3])
    only = experiments.open_experiment("hyperparameters", root=tmp_path, hyperparameter="lr")
    assert only["value"].values.tolist() == only["lr"].values.tolist() == [0.001, 0.015, 0.15]
    # the shipped file has each run once
    shipped = results.load(experiments.export("hyperparameters", tmp_path, ship=True))
    assert shipped.sizes["run"] == 5
    again = experiments.open_experiment("hyperparameters", root=tmp_path / "nowhere")
    assert again.sizes["run"] == 6


def test_files_that_lack_a_coordinate_say_which(tmp_path):
    config = experiments.configs("hyperparameters", "desk", hyperparameter="l2", seeds=[0])[0]
    put(tmp_path, stored("a" * 16, config=config.to_json(), source_id="mnist"))
    path = experiments.export("hyperparameters", tmp_path, ship=True)
    old = results.load(path).drop_vars(["hyperparameter", "value"])
    results.save(old, path)
    assert "it lacks 'hyperparameter', 'value'" in experiments.unusable()["hyperparameters"]
    with pytest.raises(ValueError, match="nothing is measured yet"):
        experiments.open_experiment("hyperparameters", root=tmp_path / "nowhere")


def test_rows_with_other_trainings_have_names(tmp_path):
    found = {row.hyperparameter for row in experiments.EXPERIMENTS["optimizers_schedules"]}
    assert found == {"lr", "step", "adam", "longer", "psgd_kron_wsd", "adamw_cosine", "switch"}
    config = experiments.configs("optimizers_schedules", "desk", hyperparameter="switch")[0]
    assert config.train.schedule == "switch" and config.train.switch_at == 30
    assert experiments.recording(config) == {}


def test_rows_that_lrs_leave_out_are_named(caplog):
    found = experiments.configs("hyperparameters", lrs=[0.05])
    assert [config.train.lr for config in found] == [0.05]
    assert "are left out: high_lr_l2, batch_size, momentum, l1, l2, " in caplog.text


@pytest.mark.parametrize(("lrs", "epochs", "asked", "low", "high"), [
    ((0.01, 0.1), (40, 10), 0.0316, 15, 25),  # between them, in logarithms
    ((0.00316, 0.0031622776601683794), (20, 10), 0.001, 10, 30),  # one LR, written twice
    ((0.01, 0.0101), (10, 20), 0.1, 5, 40),
    ((0.01, 0.02), (100, 10), 1e-6, 1, 500),  # the cap
    ((0.1,), (7,), 0.01, 6.9, 7.1),
])  # fmt: skip
def test_epochs_are_told_by_runs_of_the_nearest_lrs(lrs, epochs, asked, low, high):
    n = len(lrs)
    text = {"dataset": "parity", "model": "fcn", "data": "", "hyperparameter": "lr",
            "status": "converged"}  # fmt: skip
    known = xr.Dataset({
        **{k: ("run", np.full(n, v, object)) for k, v in text.items()},
        "lr": ("run", np.array(lrs)), "epochs": ("run", np.array(epochs, float)),
    })  # fmt: skip
    config = RunConfig("parity", "fcn", TrainConfig(lr=asked, max_epochs=500))
    assert low <= experiments.estimate_epochs(config, known) <= high
