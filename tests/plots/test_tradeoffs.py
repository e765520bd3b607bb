"""Figures of interventions: trade-offs, and curves against an intervention's own value."""

import numpy as np
import pytest
import xarray as xr
from longform import LRS, assert_nothing_clipped, experiment, texts

from lrsc import pages, plots


def interventions(**options) -> xr.Dataset:
    """Two interventions: the LR, and momentum with values from 0.1 to 0.9."""
    rows = []
    for name, values in (("lr", LRS), ("momentum", (0.1, 0.4, 0.7, 0.9))):
        ds = experiment(**options)
        value = np.repeat(values, 3)
        label = np.full(ds.sizes["run"], name, object)
        rows.append(ds.assign_coords(hyperparameter=("run", label), value=("run", value)))
    return xr.concat(rows, "run", combine_attrs="override")


def test_a_tradeoff_has_a_line_an_intervention_through_its_means():
    ds = interventions()
    figure = plots.tradeoff(ds, ("csi",))
    assert_nothing_clipped(figure)
    lines = [c.lines[0] for c in figure.axes[0].containers]
    assert len(lines) == 2 and len({line.get_color() for line in lines}) == 2
    for line in lines:
        np.testing.assert_allclose(line.get_xdata(), ds["csi"].values[:12].reshape(4, 3).mean(1))
        accuracy = 100 * ds["unbiased_accuracy"].values[:12].reshape(4, 3).mean(1)
        np.testing.assert_allclose(line.get_ydata(), accuracy)
    assert {"Learning rate: 0.01 to 0.3", "Momentum: 0.1 to 0.9"} <= set(texts(figure))
    assert "Momentum from 0.1 to 0.9" in figure.get_label() and figure.get_label().endswith(".")


def test_ends_are_labelled_unless_they_cover_another_label():
    shown = texts(plots.tradeoff(interventions(), ("csi",)))
    # both lines run through the same points: one label at either end
    assert len({"0.3", "0.9"} & set(shown)) == 1 == len({"0.01", "0.1"} & set(shown))


def test_a_value_that_diverged_is_left_out_and_nothing_at_all_is_said():
    one_lost = tuple((0.3, seed) for seed in (0, 1, 2))
    figure = plots.tradeoff(interventions(diverged=one_lost), ("prunability",))
    assert "Learning rate: 0.01 to 0.1" in texts(figure)
    lost = tuple((lr, seed) for lr in LRS for seed in (0, 1, 2))
    assert "no run has a value" in texts(plots.tradeoff(interventions(diverged=lost), ("csi",)))


def test_curves_are_drawn_against_an_interventions_value():
    ds = interventions()
    momentum = plots.against_value(ds.isel(run=ds["hyperparameter"].values == "momentum"))
    figure = plots.curves(momentum)
    assert "momentum (log axis)" in texts(figure)
    both = plots.curves(ds)
    assert {"momentum", "learning rate"} <= set(texts(both)) and len(both.axes) == 2 * 4
    assert any("FCN, Momentum" in text for text in texts(both))
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xdata(), [0.1, 0.4, 0.7, 0.9])
    assert "at momentum 0.1" in figure.get_label() and "learning rate" not in figure.get_label()
    assert ">Momentum</th>" in pages.table(momentum, ("csi",))


def test_curves_of_several_interventions_at_once_are_refused():
    with pytest.raises(ValueError, match="too many values"):
        plots.against_value(interventions())


def test_tradeoffs_are_shown_against_three_measures_a_figure_a_size(displayed_texts):
    large = interventions()
    large = large.assign_coords(n_train=("run", np.full(large.sizes["run"], 60_000)))
    assert_nothing_clipped(plots.tradeoff(large))
    assert len(plots.tradeoff(large).axes) == 3
    pages.show_tradeoffs(xr.concat([interventions(), large], "run"), command="x")
    assert sum(text.count("<img ") for text in displayed_texts) == 2
    assert "10,000 training samples" in displayed_texts[0]
    displayed_texts.clear()
    pages.show_tradeoffs(xr.Dataset())
    assert displayed_texts == ["*Not measured yet.* `lrsc status` shows what is missing."]


def test_an_intervention_alone_has_the_command_that_makes_it(displayed_texts):
    ds = interventions()
    pages.show_curves(ds.isel(run=ds["hyperparameter"].values == "momentum"), ("csi",))
    pages.show_curves(ds, ("csi",))
    assert "--hyperparameter momentum" in displayed_texts[1]
    assert "--hyperparameter" not in displayed_texts[3]
    assert displayed_texts[3].count("paper:") == 1  # whose ranges are those of plain SGD


def test_table_s2_stands_beside_what_is_measured(displayed_texts):
    pages.show_s2(interventions(), "colored_mnist", command="x")
    table = displayed_texts[0]
    assert "<details>" in table and table.count("<tr>") == 1 + 8
    momentum = table.split(">Momentum</th>")[1].split("</tr>")[0]
    assert "<td>0.1 to 0.99</td><td>50.8 to 80.3</td><td>68.4 to 91.2</td>" in momentum
    batch = table.split(">Batch size</th>")[1].split("</tr>")[0]
    assert "<td>–</td>" in batch
    displayed_texts.clear()
    pages.show_s2(xr.Dataset(), "double_mnist")
    assert displayed_texts[0].count("<td>–</td>") == 3 * 8
