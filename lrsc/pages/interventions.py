"""What sections with several interventions a data set show: trade-offs, curves, table S2."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lrsc import measures, plots
from lrsc.config import RunConfig
from lrsc.experiments import paper
from lrsc.pages import display, readings
from lrsc.pages.sections import each_alike
from lrsc.studies import soups
from lrsc.training import uniform_soup

# measure -> the columns of table S2
_S2 = {"unbiased_accuracy": "test_accuracy", "prunability": "prunability", "csi": "csi"}


@each_alike
def show_tradeoffs(ds: xr.Dataset, command: str | None = None) -> None:
    """Display accuracy against prunability, compressibility and CSI, one line per intervention."""
    if not ds.sizes.get("run"):
        return display.say_unmeasured()
    lead = "Means over seeds; bars: one standard deviation; numbers: the intervention's value."
    display.show_runs(ds, command, lead, plots.tradeoff(ds))
    display.say(readings.of_tradeoffs(ds, list(_S2)))


@each_alike
def show_s2(ds: xr.Dataset, dataset: str, command: str | None = None) -> None:
    """Display the range of each measure over an intervention's values, beside table S2's."""
    heads = ["Intervention", "Values"]
    for name in _S2:
        heads += [plots.heading(name, ds), "paper"]
    cells = []
    for line in paper.table("s2"):
        if line["dataset"] != paper.DATASETS.get(dataset):
            continue
        name, _ = paper.INTERVENTIONS[line["hyperparameter"]]
        low, high = float(line["value_min"]), float(line["value_max"])
        row = [plots.hyperparameter(name)[0], f"{low:g} to {high:g}"]
        for measured, column in _S2.items():
            scale = 100 if plots.is_percent(measured) else 1
            theirs = (float(line[f"{column}_{end}"]) / scale for end in ("min", "max"))
            row += [_range(_only(ds, name), measured), display.span(measured, *theirs)]
        cells.append(row)
    text = (
        "Smallest and largest mean over seeds. Values and `paper` are those of table S2, which "
        "uses at least three seeds."
    )
    text += f" {display.caption_of(ds, command)}" if ds.sizes.get("run") else ""
    table = display.html_table(heads, cells)
    summary = "<summary>Ranges beside those of table S2</summary>"
    display.show_html(f"<details>{summary}{table}</details>", text)


def show_soup(runs: Sequence[RunConfig]) -> None:
    """Average the weights of runs with a common initialisation, and display the soup's measures.

    The runs must share data set, model and seed, and have their weights in the results folder.
    """
    loaded = display.trained(runs)
    if not loaded:
        return
    dataset = loaded[0][1]
    mixed = uniform_soup([network for network, _ in loaded], dataset.train)
    names = [f"learning rate {config.train.lr:g}" for config in runs]
    rows = []
    for name, network in [*zip(names, (n for n, _ in loaded), strict=True), ("soup", mixed)]:
        found = measures.measure(network, dataset, methods=["column"])
        rows.append([name, *(display.plain(n, float(found[n])) for n in plots.MAIN)])
    of = ", ".join(map(plots.name_of, (runs[0].dataset, runs[0].model)))
    display.show_cells(
        ["Network", *map(plots.heading, plots.MAIN)], rows,
        f"{of}, seed {runs[0].seed}, source {plots.source(dataset.source_id)}. The soup averages "
        "the weights of the other rows.",
    )  # fmt: skip


def show_soups() -> None:
    """Display every comparison of soups with their networks, local or shipped.

    Figures of accuracy against compressibility, for the networks by LR and for the soup; then a
    table of all measures. Without any comparison, the command that makes one.
    """
    found = soups.stored()
    for file, one in found.items():
        if isinstance(one, str):
            display.say_unusable(one, f"lrsc results soup, with the data set and model of {file}")
            continue
        display.say_row(*plots.names_of(one))
        lead = (
            "Means over seeds; bars: one standard deviation; numbers: the learning rate, and how "
            "many networks a soup has. A soup averages the weights of one seed's networks, which "
            "started from the same weights."
        )
        figure = plots.tradeoff(_as_interventions(one), plots.MAIN[1:])
        one.attrs["origin"] = "shipped" if one.attrs.get("file") else "local"
        display.show_runs(one, one.attrs["made_by"], lead, figure)
        display.show_cells(*_soup_table(one), readings.of_soup(one))
    if not found:
        display.say(
            "**No evidence here yet.** No soup of networks on the paper's data is measured. To "
            "make one from runs trained here: `lrsc sweep semi_synthetic --profile desk "
            "--dataset colored_mnist --model resnet18 --raw`, then `lrsc results soup --dataset "
            "colored_mnist --model resnet18 --lrs 0.001,0.015,0.15`."
        )


def _as_interventions(found: xr.Dataset) -> xr.Dataset:
    """The networks as the intervention 'lr' and the soups as one of their own."""
    mixed = found["kind"].values == "soup"
    networks = len(np.unique(found["lr"].values[~mixed]))
    return found.assign_coords(
        hyperparameter=("run", np.where(mixed, "soup", "lr").astype(object)),
        value=("run", np.where(mixed, networks, found["lr"].values)),
    )


def _soup_table(found: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    measures = [name for name in display.MEASURES if name in found]
    heads = ["Network", *(plots.heading(n, found) for n in measures)]
    lr, rows = found["lr"].values, []
    mixed = found["kind"].values == "soup"
    lrs = np.unique(lr[~mixed])
    for name, here in [*((f"learning rate {v:g}", lr == v) for v in lrs), ("soup", mixed)]:
        rows.append([name, *(display.mean_sd(n, found[n].values[here]) for n in measures)])
    return heads, rows


def _only(ds: xr.Dataset, name: str) -> xr.Dataset:
    if not ds.sizes.get("run"):
        return ds
    return ds.isel(run=ds["hyperparameter"].values == name)


def _range(ds: xr.Dataset, name: str) -> str:
    if not ds.sizes.get("run"):
        return "–"
    _, mean, _ = plots.by_lr(plots.against_value(ds), name)
    known = mean[np.isfinite(mean)]
    return display.span(name, known.min(), known.max()) if len(known) else "–"
