"""Figures: what they draw, on a long-form experiment made here, and that no label is clipped."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
import xarray as xr
from longform import LRS, MEASURES, assert_nothing_clipped, bits, draw, experiment, images, texts

from lrsc import plots

pytestmark = pytest.mark.filterwarnings("error")

KINDS = {
    "curves": plots.curves,
    "many curves": lambda ds: plots.curves(ds, tuple(MEASURES)),
    "pruning": plots.pruning_curves,
}
CASES = {
    "usual": experiment(),
    "one LR": experiment(lrs=(0.1,)),
    "one seed": experiment(seeds=(0,)),
    "one run": experiment(lrs=(0.1,), seeds=(7,)),
    "many LRs": experiment(lrs=tuple(np.geomspace(0.001, 0.75, 14))),
    "near LRs": experiment(lrs=(0.001, 0.1, 0.11, 0.5)),
    "an LR diverged": experiment(diverged=((0.3, 0), (0.3, 1), (0.3, 2))),
    "collapsed": experiment(collapsed=((0.3, 1),)),
    "all diverged": experiment(diverged=tuple((lr, s) for lr in LRS for s in (0, 1, 2))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_draws_every_case_unclipped_and_with_alternative_text(kind, case):
    figure = KINDS[kind](CASES[case])
    assert_nothing_clipped(figure)
    assert "Parity" in figure.get_label() and figure.get_label().endswith(".")


def test_figures_are_unknown_to_pyplot_however_many():
    from matplotlib import pyplot

    figures = [plots.curves(experiment()) for _ in range(25)]  # pyplot warns at 21
    assert len(figures) == 25
    assert pyplot.get_fignums() == []


def panel(figure, title: str):
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))
    return axes


def test_normalised_curves_span_0_to_1_in_a_panel_beside_plain_ones():
    ds = experiment()
    figure = plots.curves(ds, ("unbiased_accuracy", "prunability"))
    lines = [line for line in panel(figure, "Normalised").lines if len(line.get_xdata()) == 4]
    for line, name in zip(lines, ("unbiased_accuracy", "prunability"), strict=True):
        mean = np.array([ds[name].values[ds["lr"].values == lr].mean() for lr in LRS])
        expected = (mean - mean.min()) / (mean.max() - mean.min())
        np.testing.assert_allclose(line.get_xdata(), LRS)
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert len(figure.axes) == 3 and all(axes.get_xscale() == "log" for axes in figure.axes)
    assert len(plots.curves(experiment(lrs=(0.01, 0.3)), ("csi",)).axes) == 1  # two LRs: no curve


def test_the_normalised_band_is_one_standard_deviation_in_the_curves_units():
    ds = experiment()
    figure = plots.curves(ds, ("prunability",))
    low, high = MEASURES["prunability"]
    mean = [ds["prunability"].values[ds["lr"].values == lr].mean() for lr in LRS]
    sd = np.std([0.0, 0.02, 0.04], ddof=1) * (high - low) / (max(mean) - min(mean))
    edges = panel(figure, "Normalised").collections[0].get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(-sd)
    assert edges.max() == pytest.approx(1 + sd)


@pytest.mark.parametrize("noise", [0.2, 0.0])
def test_what_does_not_change_is_not_normalised_to_an_x(noise):
    ds = experiment()
    seeds = (ds["seed"].values - 1) * noise
    ds["prunability"] = "run", 0.5 + seeds + 0.005 * (ds["lr"].values > 0.05)
    figure = plots.curves(ds, ("unbiased_accuracy", "prunability"))
    flat = panel(figure, "Normalised").lines[1]
    assert flat.get_linestyle() == "--" and set(flat.get_ydata()) == {0.5}
    assert "flat: within the spread of seeds" in texts(figure)
    assert "Prunability of Parity, FCN, 10,000 samples changes by less" in figure.get_label()
    low, high = panel(figure, "Prunability").get_ylim()
    assert high - low >= 0.05  # nor does an axis make much of it


def test_plain_curves_show_every_run_in_plain_units():
    ds = experiment(diverged=((0.3, 1),), collapsed=((0.3, 2),))
    figure = plots.curves(ds, ("unbiased_accuracy", "csi"))
    for axes, scale, name in zip(
        figure.axes[1:], (100, 1), ("unbiased_accuracy", "csi"), strict=True
    ):
        dots = next(line for line in axes.lines if line.get_marker() == ".")
        np.testing.assert_allclose(dots.get_xdata(), ds["lr"].values)
        np.testing.assert_allclose(dots.get_ydata(), scale * ds[name].values)
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        assert all(line.get_visible() and line.get_markersize() > 3 for line in crosses)
        assert sum(len(line.get_xdata()) for line in crosses) == 1
        assert crosses[0].get_ydata()[0] == 0  # the lower edge, in axes units
        assert crosses[0].get_xdata()[0] == pytest.approx(0.3)
        rings = [line for line in axes.lines if line.get_marker() == "o"]
        assert [0.3] in [list(ring.get_xdata()) for ring in rings]
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert ["(%)" in title for title in titles] == [False, True, False]
    assert "diverged (1 of 12 runs)" in texts(figure)
    assert "collapsed" in texts(figure)


def resized(ds: xr.Dataset, n: int, **names: str) -> xr.Dataset:
    fixed = {k: ("run", np.full(ds.sizes["run"], v, object)) for k, v in names.items()}
    return ds.assign_coords(n_train=("run", np.full(ds.sizes["run"], n)), **fixed)


def test_unequal_runs_have_panels_of_their_own_with_their_size():
    small, large = experiment(), resized(experiment(), 60_000)
    for figure in (plots.curves([small, large]), plots.curves(xr.concat([small, large], "run"))):
        assert_nothing_clipped(figure)
        titles = [axes.get_title(loc="left") for axes in figure.axes[:2]]
        assert "10,000 samples" in titles[0] and "60,000 samples" in titles[1]
        assert len(figure.axes) == 2 * 4
        dots = [line for line in figure.axes[2].lines if line.get_marker() == "."]
        assert len(dots[0].get_xdata()) == 12
    other = resized(experiment(), 10_000, statistics="recalibrated", profile="paper")
    assert "recalibrated" in plots.row_name(other) and len(plots.rows_of([small, other])) == 2


def test_many_rows_stand_below_each_other_on_one_axis():
    rows = [resized(experiment(lrs=LRS[: 2 + k % 3]), 1000 * (k + 1)) for k in range(5)]
    for figure, columns in ((plots.curves(rows), 3), (plots.pruning_curves(rows), 2)):
        assert_nothing_clipped(figure)
        assert len(figure.axes) == 5 * columns
        said = " ".join(texts(figure))
        assert "FCN, 1,000 samples" in said and "FCN, 5,000 samples" in said
    limits = {axes.get_xlim() for axes in plots.curves(rows).axes}
    assert len(limits) == 1


def test_the_mean_is_over_the_runs_that_have_a_value():
    ds = experiment(diverged=((0.3, 1),))
    lrs, mean, sd = plots.by_lr(ds, "prunability")
    left = ds["prunability"].values[[9, 11]]
    assert lrs[-1] == 0.3
    assert mean[-1] == pytest.approx(left.mean())
    assert sd[-1] == pytest.approx(left.std(ddof=1))


def test_all_diverged_is_said_and_every_run_is_marked():
    figure = plots.curves(CASES["all diverged"])
    for axes in figure.axes[1:]:
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        assert all(line.get_visible() and line.get_markersize() > 3 for line in crosses)
        assert sum(len(line.get_xdata()) for line in crosses) == 12
    assert "no run has a value" in texts(figure)
    assert "no run has a value" in figure.get_label()


def test_the_papers_range_is_drawn_in_the_panels_units(monkeypatch):
    reference = {"unbiased_accuracy": (0.5531, 0.85663), "lr": (0.01, 0.75)}
    monkeypatch.setattr("lrsc.experiments.reference", lambda *row: reference)
    figure = plots.curves(experiment(), ("unbiased_accuracy", "csi"))
    (patch,) = figure.axes[1].patches
    assert patch.get_y() == pytest.approx(55.31)
    assert patch.get_y() + patch.get_height() == pytest.approx(85.663)
    assert not figure.axes[2].patches
    assert any("table S1" in text for text in texts(figure))
    quick = resized(experiment(), 10_000, profile="quick")
    adam = resized(experiment(), 10_000, hyperparameter="adam")
    assert plots.paper_range(quick) == plots.paper_range(adam) == {}


def test_pruning_curves_start_at_the_unpruned_accuracy():
    ds = experiment()
    figure = plots.pruning_curves(ds)
    lines = figure.axes[1].lines
    assert len(lines) == len(LRS)
    for line, lr in zip(lines, LRS, strict=True):
        rows = ds.isel(run=ds["lr"].values == lr)
        np.testing.assert_allclose(line.get_xdata(), [0, *ds["kappa"].values])
        assert line.get_ydata()[0] == pytest.approx(100 * float(rows["unbiased_accuracy"].mean()))
        expected = 100 * rows["accuracy_pruned_magnitude"].values.mean(axis=0)
        np.testing.assert_allclose(line.get_ydata()[1:], expected)
    assert len({tuple(line.get_color()) for line in lines}) == len(LRS)


def test_pruning_curves_count_the_runs_that_have_none():
    figure = plots.pruning_curves(experiment(diverged=((0.3, 0), (0.3, 1), (0.3, 2))))
    assert np.isnan(figure.axes[0].lines[-1].get_ydata()).all()
    assert "3 of 12 runs have no curve" in figure.get_label()


@pytest.mark.parametrize("draw_it", [*KINDS.values(), plots.caption])
def test_no_run_is_an_error_that_says_what_to_do(draw_it):
    with pytest.raises(ValueError, match=r"holds no run.*open an experiment"):
        draw_it(experiment().isel(run=[]))


def test_unknown_names_get_the_nearest_valid_one():
    with pytest.raises(ValueError, match=r"'prunabilty'.*'prunability'"):
        plots.curves(experiment(), ("prunabilty",))
    with pytest.raises(ValueError, match="accuracy_pruned_column"):
        plots.pruning_curves(experiment()[["csi", "unbiased_accuracy"]])


@pytest.mark.parametrize("dataset", [images(), images(torch.float32), images(channels=1), bits()])
def test_examples_have_n_aligned_and_n_conflicting_samples(dataset):
    figure = plots.examples(dataset, n=6)
    assert_nothing_clipped(figure)
    labels = [tuple(map(int, t.split(" / "))) for t in texts(figure) if " / " in t and "(" not in t]
    assert len(labels) == 12
    assert all(y == b for y, b in labels[:6]) and all(y != b for y, b in labels[6:])
    classes = [y for y, _ in labels[:6]]
    assert classes == [i % dataset.n_classes for i in range(6)]  # every class in turn


def test_bit_examples_name_the_regions_and_tint_the_bits():
    dataset = bits()
    figure = plots.examples(dataset, n=4)
    assert {"core (4)", "spurious (2)", "noise (3)"} <= set(texts(figure))
    picture = figure.axes[0].images[0].get_array()
    assert picture.shape == (4, 9, 3)
    aligned = torch.nonzero(dataset.train.y == dataset.train.bias).flatten()
    dark = picture.sum(axis=-1) < 2  # a pure tint, not a lightened one
    first = dataset.train.x[aligned[0]].numpy() > 0
    np.testing.assert_array_equal(dark[0], first)


def test_examples_of_one_kind_only_say_so():
    dataset = images()
    aligned = dataclasses.replace(dataset.train, bias=dataset.train.y)
    figure = plots.examples(dataclasses.replace(dataset, train=aligned), n=3)
    assert any("conflicting" in t and "no sample" in t for t in texts(figure))


def test_examples_without_bias_labels_show_classes():
    plain = dataclasses.replace(images().train, bias=None)
    figure = plots.examples(dataclasses.replace(images(), train=plain), n=3)
    assert any("samples: no bias labels (class)" in t for t in texts(figure))
    assert "class/bias" not in figure.get_label()


def test_the_caption_comes_from_the_results():
    ds = experiment(diverged=((0.3, 0),), collapsed=((0.3, 1), (0.3, 2)))
    text = plots.caption(ds, "lrsc sweep synthetic", "../")
    for part in (
        "`generated`", "10,000", "seeds 0, 1, 2", "12 runs", "profile desk", "device cpu",
        "shipped results", "1 diverged", "2 collapsed", "`lrsc sweep synthetic`",
        "[book/results/synthetic.nc](../book/results/synthetic.nc)",
    ):  # fmt: skip
        assert part in text, part


def test_a_caption_calls_a_stand_in_one():
    ds = experiment()
    digits = ds.assign_coords(source_id=("run", np.full(ds.sizes["run"], "digits", object)))
    assert "stand-in" in plots.caption(digits)
    assert "stand-in" not in plots.caption(ds)


def throughput_rows():
    floors = {"floor_arithmetic": 900.0, "floor_bytes": 5000.0}
    rows = [
        {"engine": "sequential", "replicas": 1, "steps_per_second": 100.0},
        {"engine": "stacked", "replicas": 4, "steps_per_second": 300.0},
        {"engine": "stacked", "replicas": 1, "steps_per_second": 120.0},
        {"engine": "stacked", "replicas": 8, "steps_per_second": None},
    ]
    return [{"dataset": "parity", "model": "fcn", **row, **floors} for row in rows]


def test_throughput_draws_the_measured_rates_in_order_and_what_bounds_them():
    figure = plots.throughput(throughput_rows())
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["side by side"].get_xydata().tolist() == [[1, 120], [4, 300]]
    for label, value in (
        ("one after the other", 100), ("bound by arithmetic", 900), ("bound by bytes", 5000),
    ):  # fmt: skip
        assert set(lines[label].get_ydata()) == {value}
    low, high = axes.get_ylim()
    assert low < 100 and high > 5000
    assert "120 at 1, 300 at 4 runs" in figure.get_label()


def test_throughput_of_nothing_measured_is_an_error():
    with pytest.raises(ValueError, match="no measured rows"):
        plots.throughput([row | {"steps_per_second": None} for row in throughput_rows()])


def orders():
    ds = experiment()
    rise = ds["csi"].values[:, None, None] * np.array([1.0, 2.0])[:, None] + np.array([0.1, 0.3])
    return ds.assign(
        at=(("run", "q", "kept"), rise), q=("q", [1.0, 2.0]), kept=("kept", [0.1, 0.5])
    )


def test_orders_have_a_panel_a_q_and_a_line_a_share():
    ds = orders()
    figure = plots.orders(ds, "at")
    assert_nothing_clipped(figure)
    assert [axes.get_xlabel()[-5:] for axes in figure.axes] == ["q = 1", "q = 2"]
    for axes, q in zip(figure.axes, (1.0, 2.0), strict=True):
        for line, kept in zip(axes.lines, (0.1, 0.5), strict=True):
            grid = ds["at"].sel(q=q, kept=kept).values.reshape(len(LRS), 3)
            np.testing.assert_allclose(line.get_ydata(), grid.mean(1))
    assert "Parity" in figure.get_label() and figure.get_label().endswith(".")


def test_orders_of_runs_without_a_value_say_so():
    ds = orders()
    figure = plots.orders(ds.assign(at=ds["at"] * np.nan), "at")
    assert "no run has a value" in texts(figure)


def along_training():
    """Runs of two LRs that end at different steps; shares of core bits rise, of noise fall."""
    ds = experiment(lrs=(0.01, 0.3), seeds=(0, 1), diverged=((0.3, 1),))
    ends = (4, 2, 4, 1)  # calls before a run's end
    steps = np.full((4, 5), np.nan)
    for row, end in zip(steps, ends, strict=True):
        row[: end + 1] = 100 * np.arange(end + 1)
    core = steps / 1000
    shares = {"core": core, "spurious": 0.1 + 0 * core, "noise": 0.9 - core}
    curves = {f"curve_attribution_{k}": (("run", "attribution_call"), v) for k, v in shares.items()}
    return ds.assign(attribution_step=(("run", "attribution_call"), steps), **curves)


def test_attribution_along_training_has_a_panel_for_each_end_of_the_lrs():
    figure = plots.attribution_shares(along_training())
    assert_nothing_clipped(figure)
    low, high = figure.axes
    assert "0.01" in low.get_title(loc="left") and "0.3" in high.get_title(loc="left")
    core = low.lines[0]
    np.testing.assert_array_equal(core.get_xdata(), [0, 100, 200, 300, 400])
    # the run that ended at step 200 keeps its value of then
    np.testing.assert_allclose(core.get_ydata(), [0, 0.1, 0.2, 0.25, 0.3])
    np.testing.assert_allclose(high.lines[0].get_ydata(), [0, 0.1, 0.2, 0.3, 0.4])  # one diverged
    assert [line.get_label() for line in low.lines] == ["core bits", "spurious bits", "noise bits"]
    assert "core 0.30" in figure.get_label() and figure.get_label().endswith(".")


def test_no_curves_of_attribution_is_an_error():
    ds = along_training()
    with pytest.raises(ValueError, match="no run has curves of attribution"):
        plots.attribution_shares(
            ds.assign(curve_attribution_core=ds.curve_attribution_core * np.nan)
        )
    with pytest.raises(ValueError, match="attribution_step"):
        plots.attribution_shares(experiment())


def spreads():
    ds = experiment()
    ds["filter_norm_spread"] = "run", np.geomspace(0.02, 0.2, ds.sizes["run"])
    ds["filter_norm_spread"][0] = np.nan
    names = np.where(np.arange(ds.sizes["run"]) % 2, "cifar10", "parity").astype(object)
    of = {"dataset": names, "hyperparameter": np.full(len(names), "lr", object)}
    return ds.assign_coords({name: ("run", values) for name, values in of.items()})


def test_spread_draws_a_dot_a_run_and_the_untrained_network():
    ds = spreads()
    figure = plots.norm_spread(ds, 0.03)
    draw(figure)
    (axes,) = figure.axes
    dots = np.concatenate([c.get_offsets() for c in axes.collections])
    assert len(dots) == ds.sizes["run"] - 1
    assert np.allclose(np.sort(dots[:, 0]), ds["filter_norm_spread"].values[1:])
    assert set(axes.lines[0].get_xdata()) == {0.03}
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert [name.split(",")[0] for name in names] == ["CIFAR-10", "Parity", "untrained network"]
    assert "untrained network has 0.03. CIFAR-10" in figure.get_label()


def test_spread_of_no_runs_says_so():
    ds = spreads()
    ds["prunability"][:] = np.nan
    assert "No value." in plots.norm_spread(ds, 0.03).get_label()


def test_steps_are_written_out():
    axes = plots.curves(experiment(lrs=(30, 1000, 5000)), ["csi"]).axes[-1]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["30", "1,000", "5,000"]


@pytest.mark.parametrize("lrs", [(0.01, 0.0237, 0.0562, 0.133, 0.316, 0.75), (0.02, 0.0224, 0.5)])
def test_labels_of_learning_rates_do_not_touch_in_narrow_panels(lrs):
    figure = plots.curves(experiment(lrs=lrs), ["csi", "class_separation"])
    renderer = draw(figure)
    for axes in figure.axes:
        boxes = [t.get_window_extent(renderer) for t in axes.get_xticklabels() if t.get_text()]
        assert all(
            a.x1 + 4 < b.x0 for a, b in itertools.pairwise(sorted(boxes, key=lambda b: b.x0))
        )


def test_names_of_classes_over_a_gallery_are_whole():
    from lrsc.studies import contrast

    found = contrast.stored("mnist_cifar", "fcn")
    assert "automobile" in found.attrs["class_names"]
    assert_nothing_clipped(plots.gallery(found))
