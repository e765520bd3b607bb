"""What the notebooks share: the check of parameters, the evidence, tables and figures as HTML."""

import json
import re
import sys

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from longform import bits, experiment

import lrsc
from lrsc import RunConfig, TrainConfig, experiments, pages, results
from lrsc.studies import compressibilities

GIVEN = {"dataset": "colored_mnist", "model": "fcn", "lrs": None, "seeds": None, "profile": "quick"}


def check(**changed):
    return pages.parameters(GIVEN | changed, "semi_synthetic")


@pytest.fixture(scope="module", autouse=True)
def imported():
    """What a first call imports, which the time limit of an example is not to count."""
    check()


def test_good_parameters_come_back_checked(monkeypatch):
    monkeypatch.setattr("lrsc.runs.identify", lambda config: "")  # whose data may not be here
    p = check(lrs=[0.05, 0.5], seeds=(0, 1), model="resnet18", profile="desk")
    assert (p.dataset, p.model, p.lrs, p.seeds) == (
        "colored_mnist",
        "resnet18",
        (0.05, 0.5),
        (0, 1),
    )
    assert p.profile == "desk"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, None),
        ("null", None),
        ("[0.05, 0.5]", (0.05, 0.5)),
        ("[1e-3]", (0.001,)),
        (0.1, (0.1,)),
        ("0.1", (0.1,)),
    ],
)
def test_lists_may_be_strings_as_papermill_passes_them(found, expected):
    assert check(lrs=found).lrs == expected


def test_seeds_may_be_a_string_too():
    assert check(seeds="[3, 4]").seeds == (3, 4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"lr": 0.1}, r"unknown notebook parameter 'lr'.*'lrs'"),
        ({"profil": "quick"}, r"'profil'.*'profile'"),
        ({"dataset": "coloured_mnist"}, r"dataset 'coloured_mnist'.*'colored_mnist'"),
        ({"dataset": "parity"}, r"dataset 'parity'.*colored_mnist"),
        ({"model": "resnet19"}, r"model.*'resnet19'.*'resnet18'"),
        ({"profile": "fast"}, r"profile 'fast'.*desk, paper, quick"),
        ({"lrs": []}, r"lrs is empty.*None"),
        ({"lrs": "[]"}, r"lrs is empty"),
        ({"lrs": "[0.1"}, r"lrs is a string that holds no JSON list.*'\[0.1'"),
        ({"lrs": "0.1, 0.2"}, r"lrs is a string that holds no JSON list"),
        ({"lrs": [0.1, 0.0]}, r"lrs must be .*finite and > 0; found 0.0"),
        ({"lrs": [-1]}, r"found -1"),
        ({"lrs": [float("inf")]}, r"found inf"),
        ({"lrs": "[NaN]"}, r"found nan"),
        ({"lrs": [True]}, r"found True"),
        ({"lrs": ["high"]}, r"found 'high'"),
        ({"lrs": [0.1, 0.1]}, r"lrs names a value twice"),
        ({"lrs": {"a": 1}}, r"lrs must be"),
        ({"seeds": [0.5]}, r"seeds must be whole numbers >= 0; found 0.5"),
        ({"seeds": [-1]}, r"found -1"),
        ({"seeds": []}, r"seeds is empty"),
    ],
)
def test_a_bad_parameter_is_named_with_what_was_expected(changed, message):
    with pytest.raises(ValueError, match=message):
        check(**changed)


def kernel(*cells: str) -> dict:
    """What a kernel holds after these cells."""
    space: dict = {"In": ["", *cells], "get_ipython": print, "_": 1, "exit": 1}
    for cell in cells:
        exec(cell, space)
    return space


PARAMETERS = "\n".join(f"{name} = {value!r}  # said" for name, value in GIVEN.items())


@given(st.text("abcdefghij_", min_size=1), st.sampled_from(["0.5", "[1]", "'quick'", "None"]))
def test_variables_of_ones_own_are_no_parameters_and_injected_names_are(name, value):
    name = f"{name}_of_mine"
    own = kernel(PARAMETERS, f"{name} = {value}\nfor seed in range(3): lr = 0.1")
    assert pages.parameters(own, "semi_synthetic").profile == "quick"
    for cells in ([PARAMETERS, f"# Parameters\n{name} = {value}\n"],
                  [f"{PARAMETERS}\n{name} = {value}"]):  # fmt: skip
        with pytest.raises(ValueError, match=rf"'{name}'.*dataset, lrs, model, profile, results"):
            pages.parameters(kernel(*cells), "semi_synthetic")
        mended = kernel(*cells, PARAMETERS, "# Parameters\nlrs = [0.5]")
        assert pages.parameters(mended, "semi_synthetic").lrs == (0.5,)


def test_what_no_run_can_be_made_of_is_refused_with_the_parameters(monkeypatch, tmp_path):
    monkeypatch.setenv("LRSC_DATA", str(tmp_path))
    with pytest.raises(lrsc.errors.DataMissing, match="mnist"):
        check(profile="paper")


def test_the_results_folder_is_a_parameter(tmp_path):
    try:
        p = check(results=str(tmp_path))
        assert results.results_root() == tmp_path and f"-p results {tmp_path}" in p.command
        assert results.derived_path("a", "desk") == tmp_path / "derived" / "a_desk.nc"
    finally:
        check()
    assert results.results_root() != tmp_path and "results" not in check().command.split("-p")[1:]


def test_a_missing_parameter_is_named():
    with pytest.raises(ValueError, match="'profile' is not set"):
        pages.parameters({k: v for k, v in GIVEN.items() if k != "profile"}, "semi_synthetic")


def test_what_a_kernel_holds_is_no_parameter():
    kernel = {
        "In": ["", "x"], "Out": {}, "_": 1, "_i1": "x", "__name__": "__main__", "exit": 1,
        "quit": 1, "open": open, "get_ipython": print, "lrsc": sys, "p": object(),
        "live": experiment(), "runs": [object()],
    }  # fmt: skip
    assert check(**kernel).profile == "quick"


def test_the_command_runs_the_notebook_with_the_same_parameters():
    command = check(lrs=[0.05, 0.5]).command
    assert command.startswith("papermill notebooks/semi_synthetic.ipynb ")
    assert '-p model fcn -p profile quick -p lrs "[0.05, 0.5]"' in command
    assert "seeds" not in command


def test_a_section_on_another_sections_runs_names_itself_in_the_command():
    p = pages.parameters(GIVEN, "semi_synthetic", section="compressibility")
    assert p.command.startswith("papermill notebooks/compressibility.ipynb ")


@pytest.fixture
def displayed(monkeypatch):
    """What the helpers display, as a list of (kind, text)."""
    shown = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda *objects: shown.extend((type(each).__name__, each.data) for each in objects),
    )
    return shown


def opens(monkeypatch, found, profile="desk"):
    def measured(name, profiles, *args, **kwargs):
        return results.all_with(found, statistics="") if found and profile in profiles else None

    monkeypatch.setattr(experiments, "measured", measured)


def test_evidence_that_is_missing_is_said_plainly(monkeypatch, displayed):
    opens(monkeypatch, None)
    assert not pages.evidence("synthetic", "parity", "fcn").sizes
    ((kind, text),) = displayed
    assert kind == "Markdown" and "No evidence" in text and "`lrsc sweep synthetic" in text
    assert "Nothing is measured yet of experiment 'synthetic', 'parity', 'fcn'." in text


def test_quick_runs_are_no_evidence(monkeypatch, displayed):
    opens(monkeypatch, experiment(), "quick")
    assert not pages.evidence("synthetic", "parity", "fcn").sizes
    assert "No evidence" in displayed[0][1] and "lrsc sweep synthetic" in displayed[0][1]
    assert "Only the quick profile" in displayed[0][1]


def test_evidence_says_how_much_is_measured(monkeypatch, displayed):
    ds = experiment()
    opens(monkeypatch, ds)
    found = pages.evidence("synthetic", "parity", "fcn")
    assert found["prunability"].variable.equals(ds["prunability"].variable)
    assert found.attrs == ds.attrs
    assert found["sparsity"].isnull().all()  # which these results do not have
    planned = len(experiments.configs("synthetic", "desk"))
    assert f"12 of the {planned} runs of the desk profile" in displayed[0][1]


def two_sizes() -> xr.Dataset:
    """Runs of a row with 60 000 training samples, and with 10 000."""
    large, small = experiment(), experiment(lrs=(0.01, 0.3))
    n, profile = np.full(large.sizes["run"], 60_000), np.full(large.sizes["run"], "paper", object)
    large = large.assign_coords(n_train=("run", n), profile=("run", profile))
    return xr.concat([large, small], "run", data_vars="minimal")


def test_two_sizes_of_a_row_are_both_shown_apart_and_named(monkeypatch, displayed):
    opens(monkeypatch, two_sizes())
    found = pages.evidence("synthetic", "parity", "fcn")
    assert "on 60,000 training samples" in displayed[0][1]
    assert "on 10,000 training samples" in displayed[1][1]
    displayed.clear()
    pages.show_table(found)
    _, large, small = displayed[0][1].split("<summary>")
    assert "Parity, FCN, 60,000 samples" in large and "Parity, FCN, 10,000 samples" in small
    assert [table.count("3\u00a0of\u00a03") for table in (large, small)] == [4, 2]


def test_loss_ratios_of_two_sizes_stand_in_panels_of_their_own(monkeypatch, displayed):
    ds = two_sizes()
    opens(monkeypatch, ds.assign(max_loss_ratio=ds["csi"], max_loss_ratio_fixed=ds["csi"]))
    monkeypatch.setattr(experiments, "sources", lambda name: [])
    monkeypatch.setattr(
        experiments, "EXPERIMENTS", {"synthetic": experiments.EXPERIMENTS["synthetic"][:1]}
    )
    pages.mechanism.show_loss_ratios(["synthetic"])
    figures = displayed[0][1]
    assert "Parity, FCN, 60,000 samples: 12 runs." in figures
    assert "Parity, FCN, 10,000 samples: 6 runs." in figures
    table = displayed[-2][1]
    assert "60,000 samples</th><td>12</td>" in table and "10,000 samples</th><td>6</td>" in table


def test_a_size_with_one_lr_is_said_and_not_drawn(monkeypatch, displayed):
    ds = two_sizes()
    opens(monkeypatch, ds.isel(run=(ds["n_train"] == 60_000) | (ds["lr"] == 0.01)))
    found = pages.evidence("synthetic", "parity", "fcn")
    assert set(found["n_train"].values) == {60_000}
    assert "on 10,000 training samples" in displayed[1][1]


@pytest.mark.parametrize("show", [pages.show_curves, pages.show_pruning, pages.show_table])
def test_missing_evidence_is_said_to_be_missing_everywhere(show, displayed):
    show(xr.Dataset())
    assert displayed == [("Markdown", "*Not measured yet.* `lrsc status` shows what is missing.")]


def test_figures_carry_their_alternative_text_and_a_caption(displayed):
    pages.show_curves(experiment())
    (kind, markup), (_, caption), (_, reading) = displayed
    assert reading.startswith(
        "**What it shows.** From learning rate 0.01 to 0.3, unbiased accuracy"
    )
    assert kind == "HTML" and markup.count("<img ") == 1 == markup.count('class="drawn"')
    assert 'alt="' in markup and "<details><summary>All numbers: Parity, FCN, 10,000" in markup
    assert "Unbiased accuracy: 50.8 % at learning rate 0.01" in markup
    assert "](../book/results/synthetic.nc)" in caption
    assert "`lrsc sweep synthetic --profile desk --dataset parity --model fcn --raw`" in caption


def test_pruning_shows_both_methods(displayed):
    pages.show_pruning(experiment(), command="papermill x")
    assert displayed[0][1].count("<img ") == 1
    assert "columns and by magnitude" in displayed[1][1] and "`papermill x`" in displayed[1][1]


def test_a_row_with_one_lr_has_a_table_and_no_figure(displayed):
    pages.show_curves(experiment(lrs=(0.1,)))
    ((_, markup), _) = displayed
    assert "<img" not in markup and "<details open>" in markup and "<td>" in markup


def test_what_is_not_measured_stands_in_one_table(monkeypatch, displayed):
    row = {"experiment": "synthetic", "model": "fcn", "runs": 18, "hyperparameter": "lr"}
    rows = [
        row | {"dataset": dataset, "profile": profile, "done": done}
        for dataset, done in (("parity", 0), ("moon_star", 3))
        for profile in ("quick", "desk", "paper")
    ]
    monkeypatch.setattr(experiments, "status", lambda: rows)
    pages.show_unmeasured("synthetic")
    ((_, table),) = displayed
    assert "18 (desk profile)" in table and "--dataset parity --model fcn" in table
    assert "Moon" not in table
    pages.show_unmeasured("attribution")
    assert "has been measured" in displayed[-1][1]


def test_the_table_has_mean_spread_and_the_papers_range(monkeypatch):
    ds = experiment(diverged=((0.01, 1),))
    reference = {"lr": (0.01, 0.75), "unbiased_accuracy": (0.5531, 0.85663), "csi": (0.032, 0.152)}
    monkeypatch.setattr(experiments, "reference", lambda *row: reference)
    markup = pages.table(ds, ("unbiased_accuracy", "csi", "prunability"))
    left = 100 * ds["unbiased_accuracy"].values[[0, 2]]
    assert f"<td>{left.mean():.1f}\u00a0±\u00a0{left.std(ddof=1):.1f}</td>" in markup
    assert "<td>2\u00a0of\u00a03</td>" in markup
    assert "<td>55.3 to 85.7</td><td>0.032 to 0.152</td><td>–</td>" in markup
    assert "Unbiased accuracy (%)" in markup and "Prunability (%)" not in markup
    assert markup.count("<tr>") == 1 + 4 + 1


def test_a_single_seed_has_no_spread_and_a_diverged_lr_no_number():
    ds = experiment(seeds=(0,), diverged=((0.3, 0),))
    markup = pages.table(ds, ("prunability",))
    assert "±" not in markup
    assert "<td>0\u00a0of\u00a01</td><td>–</td>" in markup


def test_the_papers_range_stands_beside_real_data_only(displayed):
    ds = experiment()
    pages.show_table(ds)
    assert "55.3 to 85.7" in displayed[0][1]  # table S1, parity
    quick = ds.assign_coords(profile=("run", np.full(ds.sizes["run"], "quick", object)))
    pages.show_table(quick, command="papermill x")
    assert "paper:" in displayed[0][1] and "paper:" not in displayed[2][1]


def test_counts_are_counted_from_the_data(displayed):
    pages.show_counts(bits())
    text, markup = (data for _, data in displayed)
    assert "40 training samples, of which 10 conflict (ρ = 0.2500)" in text
    assert '<th scope="row">0</th><td>15</td><td>5</td>' in markup


def test_the_report_counts_runs_and_how_they_ended(displayed):
    from lrsc.sweep import Report

    ds = experiment(diverged=((0.3, 1),))
    ds["wall_seconds"] = ("run", np.full(12, 2.0))
    pages.show_report(Report(trained=("a",) * 8, done_before=("b",) * 4), ds)
    text = displayed[0][1]
    assert "8 runs trained now, 4 done before" in text
    assert "11 converged, 1 diverged" in text and "24 s" in text


def test_every_view_says_that_nothing_is_measured(capsys):
    for show in (
        pages.show_curves,
        pages.show_pruning,
        pages.show_table,
        pages.show_choices,
        pages.show_pruned_accuracy,
    ):
        show(xr.Dataset())
        assert "Markdown" in capsys.readouterr().out


def test_choices_show_a_row_for_each_option(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.HTML", shown.append)
    ds = experiment()
    options = np.array(["", "rho = 0.02"], object)[np.arange(ds.sizes["run"]) % 2]
    pages.show_choices(ds.assign_coords(data=("run", options)))
    assert "as decided" in shown[0] and "rho = 0.02" in shown[0]
    n = np.array([60_000, 5000])[np.arange(len(options)) % 2]
    options = np.array([f"n_train = {each}" for each in n], object)
    sizes = ds.assign_coords(data=("run", options), n_train=("run", n))
    pages.show_choices(sizes)
    assert shown[1].index("5000") < shown[1].index("60000")  # by size


def test_norm_spread_is_shown_of_shipped_runs_that_have_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    pages.show_norm_spread("fcn")
    assert "Markdown" in capsys.readouterr().out  # nothing measured
    ds = experiment(lrs=(0.1, 0.3), seeds=(0,))
    texts = [RunConfig("parity", "fcn", TrainConfig(lr=lr)).to_json() for lr in (0.1, 0.3)]
    texts = np.array(texts, object)
    runs = [dict(config=text, run_id=n * 16) for text, n in zip(texts, "ab", strict=True)]
    told = {
        k: v for k, v in results.coordinates(runs).items() if k == "config" or k not in ds.coords
    }
    ds = ds.drop_vars("profile").assign_coords(told)
    results.save(ds, tmp_path / "synthetic.nc")
    other = {n: ("run", [0.5, 0.5]) for n in compressibilities.VARIABLES}
    other["filter_norm_spread"] = "run", [0.1, np.nan]
    results.save(ds.drop_vars(list(ds.data_vars)).assign(other), tmp_path / "compressibility.nc")
    shown = []
    monkeypatch.setattr("lrsc.pages.display.show", lambda figure, caption: shown.append(figure))
    pages.show_norm_spread("fcn")
    assert "Parity, 1 runs: spread 0.1 to 0.1" in shown[0].get_label()


def test_pruning_criteria_are_ratios_to_the_unpruned_accuracy(tmp_path, monkeypatch, capsys):
    path, shown = tmp_path / "pruning_criteria.nc", []
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    pages.show_pruning_criteria()
    assert "Markdown" in capsys.readouterr().out  # nothing measured
    kappas = [k / 10 for k in range(10)]
    accuracy = np.full((2, 3, 1, 2, 10), np.nan)
    accuracy[..., 0, :] = 0.8  # the other LR was not tried
    accuracy[0, :, :, 0, 1:], accuracy[1, :, :, 0, 1:] = 0.4, 0.2
    accuracy[0, 1, :, 0, 1:] = 0.6
    found = xr.Dataset(
        {"accuracy": (("criterion", "statistics", "init", "lr", "kappa"), accuracy)},
        {"criterion": ["filters", "kernels"], "kappa": kappas, "init": ["torch"],
         "statistics": ["running", "batch", "recalibrated"], "lr": [0.015, 0.15]},
        {"rho": 0.02, "test_samples": 1000, "n_train": 60_000, "source_id": "mnist",
         "made_by": "a script"},
    )  # fmt: skip
    results.save(found, path)
    figures = []
    monkeypatch.setattr("IPython.display.HTML", shown.append)
    monkeypatch.setattr("lrsc.pages.display.show", lambda f, caption: figures.append(f))
    pages.show_pruning_criteria()
    assert re.search(r"filters.*0\.50.*0\.75.*kernels.*0\.25", shown[0], re.DOTALL)
    assert "LR 0.015, torch" in shown[0] and "LR 0.15, torch" not in shown[0]
    assert "filters, batch, LR 0.015, torch: 0.75." in figures[0].get_label()
    assert "LR 0.15" not in figures[0].get_label()


def test_settings_are_shown_where_they_are_measured(monkeypatch, tmp_path, displayed_texts):
    pages.show_settings()
    joint, _, table, text = displayed_texts
    assert "FCN" in joint and "ResNet18" in joint
    assert "FCN, S1" in table and "ResNet18, S2" in table and "rho = 0.02" in table
    assert "mnist" in text and "lrsc sweep choices" in text
    displayed_texts.clear()
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    monkeypatch.setattr("lrsc.results.path.default_root", lambda: tmp_path)
    pages.show_settings()
    assert len(displayed_texts) == 1 and "Not measured" in displayed_texts[0]


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("parity", {}, ["10,000 training, 10,000 test", "none: generated", "MIT"]),
        ("mnist_cifar", {"source": "embedded"},
         ["digits+miniature-cifar10 (embedded stand-in", "CC BY-SA 3.0", "lrsc data get cifar10"]),
        ("imagenet", {"source": "embedded", "size": 32}, ["miniature-imagenet", "3 × 32 × 32"]),
    ],
)  # fmt: skip
def test_a_card_says_where_a_data_set_is_from(name, options, says, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.HTML", shown.append)
    dataset = lrsc.datasets.load(name, **options)
    pages.show_card(dataset)
    pages.show_counts(dataset)
    assert all(text in shown[0] for text in says) and "`" not in shown[0]


def test_a_benchmark_is_shown_as_measured(tmp_path, monkeypatch, displayed):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    columns = {"model": "Model", "ms": "Step (ms)", "share": "Of the peak (%)"}
    pages.show_benchmark("times", columns)
    assert "Not measured yet" in displayed[0][-1]
    rows = [{"model": "3 x 28", "ms": 1234.5, "share": 0.4567, "more": 1}]
    found = {"machine": {"cores": 2, "torch": "9"}, "made_by": "python a.py", "rows": rows}
    (tmp_path / "times.json").write_text(json.dumps(found))
    pages.show_benchmark("times", columns)
    text = " ".join(text for _, text in displayed)
    assert "1,234" in text and "45.7" in text and "3\u00a0×\u00a028" in text
    assert "2 cores, torch 9" in text and "python a.py" in text


def test_rows_of_a_benchmark_can_be_chosen_and_gaps_are_said(tmp_path, monkeypatch, displayed):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    rows = [{"table": "a", "rate": 3.0}, {"table": "a", "rate": None}, {"table": "b", "rate": 7.0}]
    found = {"machine": {"cores": 2, "device": "a CPU"}, "made_by": "python a.py", "rows": rows}
    (tmp_path / "times.json").write_text(json.dumps(found))
    pages.show_benchmark("times", {"rate": "Rate"}, table="a")
    text = " ".join(text for _, text in displayed)
    assert "3" in text and "–" in text and "7" not in text
    displayed.clear()
    pages.show_benchmark("times", {("table", "rate"): "Both"}, table="b")
    assert "b, 7" in displayed[0][-1]


def test_throughput_is_shown_with_machine_and_maker(tmp_path, monkeypatch, displayed):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    pages.show_throughput("times", table="growth")
    assert "Not measured yet" in displayed[0][-1]
    row = {
        "table": "growth", "dataset": "parity", "model": "fcn", "engine": "stacked", "replicas": 1,
        "steps_per_second": 3.0, "floor_arithmetic": 9.0, "floor_bytes": 9.0,
    }  # fmt: skip
    found = {"machine": {"cores": 2, "device": "a CPU"}, "made_by": "python a.py", "rows": [row]}
    (tmp_path / "times.json").write_text(json.dumps(found))
    pages.show_throughput("times", table="growth")
    text = " ".join(text for _, text in displayed)
    assert "a CPU, 2 cores" in text and "python a.py" in text


def test_engines_are_compared_by_what_is_stored(monkeypatch, tmp_path):
    texts = []
    for where in ("costs", "display"):
        monkeypatch.setattr(f"lrsc.pages.{where}.say", lambda *given: texts.extend(given))
    pages.show_engines()
    stored = json.loads(results.shipped_path("engines").with_suffix(".json").read_text())
    reference = 100 * np.array(stored["unbiased_accuracy"]["reference"])
    assert f"reference {reference.mean():.1f} ± {reference.std(ddof=1):.1f} %" in texts[0]
    assert f"p = {stored['equal_means_p']:.2f} and p = {stored['equal_spreads_p']:.2f}" in texts[0]
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    pages.show_engines()
    assert "Not measured" in texts[1]


def test_lr_finders_are_compared_by_what_is_stored(monkeypatch, tmp_path, displayed_texts):
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    pages.show_finders()
    assert "Not measured" in displayed_texts.pop()
    gives = {"of_lr": 0.5, "unbiased_accuracy": 0.8, "worst_group_accuracy": 0.6}
    without = {"lr": 0.1, "worst_group_accuracy": float("nan"), "prunability": 0.0}
    found = {
        "n_train": 10_000, "grid": {"0.1": 0.7, "0.5": 0.8125}, "best": 0.5, "factor": 2.0,
        "named": {"largest_lr, useful": {"lr": 1.0, "prunability": 0.9} | gives,
                  "fastai, valley": {"lr": 0.001}, "another": without},
    }  # fmt: skip
    (tmp_path / "lr_finders.json").write_text(json.dumps({"parity/fcn": found}))
    pages.show_finders()
    table, caption = displayed_texts[-2:]
    for part in ("81.2", "80.0", "60.0", "0.90", "none near", "Parity"):
        assert part in table, part
    assert "nan" not in table and "–" in table and "0.00" in table
    assert "0 of 1 grids" in caption
    assert "Missed: Parity, FCN (2 times, above the grid's largest)" in caption
    (tmp_path / "lr_finders.json").write_text("{]")
    pages.show_finders()
    assert "lr_finders.json" in displayed_texts[-1]


def test_an_intervention_at_one_value_counts_unless_its_runs_are_those_of_the_lr(monkeypatch):
    named = experiment()
    names = np.array([f"run {i}" for i in range(named.sizes["run"])], object)
    lr = results.all_with(named.assign_coords(run_id=("run", names)), hyperparameter="lr")
    usual = results.all_with(lr.isel(run=slice(0, 1)), hyperparameter="batch_size")
    other = results.all_with(lr.isel(run=slice(1, 2)), hyperparameter="switch", run_id="another")
    more = results.all_with(usual, run_id="at another size", n_train=usual["n_train"][0].item() + 1)
    both = results.concat([lr, usual, other, more])
    monkeypatch.setattr("lrsc.pages.sections.measured_rows", lambda name: {("parity", "fcn"): both})
    found = pages.measured("synthetic")
    kept = found["hyperparameter"].values.tolist()
    assert set(kept) == {"lr", "switch", "batch_size"} and kept.count("switch") == 1
    assert found["run_id"].values[kept.index("batch_size")] == "at another size"
    assert kept.count("batch_size") == 1  # not the size at which its only run is one of the LR's
