"""What sections with several interventions a data set show: trade-offs, curves, table S2."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lrsc import experiments, measures, plots, results
from lrsc.config import RunConfig
from lrsc.experiments import paper
from lrsc.pages.display import (
    MEASURES,
    caption_of,
    html_table,
    mean_sd,
    plain,
    say_unmeasured,
    say_unread,
    say_unusable,
    show,
)
from lrsc.pages.sections import show_curves, with_measures
from lrsc.runs import identify, load_checkpoint
from lrsc.studies import soups
from lrsc.training import uniform_soup

AGAINST = ("prunability", "activation_compressibility", "csi")
# measure -> the columns of table S2
_S2 = {"unbiased_accuracy": "test_accuracy", "prunability": "prunability", "csi": "csi"}


def interventions(experiment: str, dataset: str, model: str) -> xr.Dataset:
    """The measured runs of all interventions on a data set and model; none if there are none.

    Of each intervention the largest profile there is; quick runs are no evidence. Displays how
    much of each is measured, and the command for the rest.
    """
    from IPython.display import HTML, Markdown, display

    say_unread(experiment)
    found = _opened(experiment, dataset, model)
    rows = experiments.EXPERIMENTS[experiment]
    names = [r.hyperparameter for r in rows if (r.dataset, r.model) == (dataset, model)]
    cells = []
    for name in dict.fromkeys(names):
        here = _only(found, name)
        runs = here.sizes.get("run", 0)
        profile = str(here["profile"].values[0]) if runs else "–"
        planned = len(experiments.configs(
            experiment, profile if runs else "desk", dataset, model, hyperparameter=name
        ))  # fmt: skip
        cells.append([plots.hyperparameter(name)[0], f"{runs} of {planned}", profile])
    display(HTML(html_table(["Intervention", "Runs measured", "Profile"], cells)))
    command = f"lrsc sweep {experiment} --profile desk --dataset {dataset} --model {model}"
    display(Markdown(
        f"What is missing is measured by `{command}` (or `paper`), "
        "a single intervention with `--hyperparameter`."
    ))  # fmt: skip
    return found


def show_tradeoffs(ds: xr.Dataset, command: str | None = None) -> None:
    """Display accuracy against prunability, compressibility and CSI, a line an intervention."""
    if not ds.sizes.get("run"):
        return say_unmeasured()
    figures = [plots.tradeoff(ds, name) for name in AGAINST]
    lead = "Means over seeds; bars: one standard deviation; numbers: the intervention's value."
    show(*figures, caption=f"{lead} {caption_of(ds, command)}")


def show_interventions(
    ds: xr.Dataset, variables: Sequence[str] = plots.MAIN, command: str | None = None
) -> None:
    """Display each intervention's curves against its own value."""
    from IPython.display import Markdown, display

    if not ds.sizes.get("run"):
        return say_unmeasured()
    for name in plots.interventions_of(ds):
        display(Markdown(f"**{plots.hyperparameter(name)[0]}**"))
        show_curves(plots.against_value(_only(ds, name)), variables, command)


def show_s2(ds: xr.Dataset, dataset: str, command: str | None = None) -> None:
    """Display the range of each measure over an intervention's values, beside table S2's."""
    from IPython.display import HTML, Markdown, display

    heads = ["Intervention", "Values"]
    for name in _S2:
        label = plots.style(ds, name)[0] + (" (%)" if plots.is_percent(name) else "")
        heads += [label, "paper"]
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
            row += [_range(_only(ds, name), measured), _span(measured, *theirs)]
        cells.append(row)
    display(HTML(html_table(heads, cells)))
    text = (
        "Smallest and largest mean over seeds; values and `paper` as in table S2, which has at "
        "least three seeds."
    )
    display(Markdown(f"{text} {caption_of(ds, command)}" if ds.sizes.get("run") else text))


def show_soup(runs: Sequence[RunConfig]) -> None:
    """Average the weights of runs that started from the same ones, now; display what that gives.

    The runs must have one data set, model and seed, and their weights in the results folder.
    """
    from IPython.display import HTML, Markdown, display

    paths = [results.weights_path(identify(config)) for config in runs]
    if not all(path.is_file() for path in paths):
        return display(Markdown(
            "*The weights of these runs are not here: they stay on the machine that trained them.*"
        ))  # fmt: skip
    loaded = [load_checkpoint(path, config) for path, config in zip(paths, runs, strict=True)]
    dataset = loaded[0][1]
    mixed = uniform_soup([network for network, _ in loaded], dataset.train)
    names = [f"learning rate {config.train.lr:g}" for config in runs]
    rows = []
    for name, network in [*zip(names, (n for n, _ in loaded), strict=True), ("soup", mixed)]:
        found = measures.measure(network, dataset, methods=["column"])
        rows.append([name, *(plain(n, float(found[n])) for n in plots.MAIN)])
    heads = [plots.style(xr.Dataset(), n)[0] + (" (%)" if plots.is_percent(n) else "")
             for n in plots.MAIN]  # fmt: skip
    display(HTML(html_table(["Network", *heads], rows)))
    of = ", ".join(map(plots.name_of, (runs[0].dataset, runs[0].model)))
    display(Markdown(
        f"{of}, seed {runs[0].seed}, source {plots.source(dataset.source_id)}. The soup has the "
        "mean of the weights of the other rows."
    ))  # fmt: skip


def show_soups() -> None:
    """Display every comparison of soups with their networks that ships with the book.

    Accuracy against compressibility, the networks along the LR and the soup; then all numbers.
    Where there is none, how to make one.
    """
    from IPython.display import HTML, Markdown, display

    found = soups.shipped()
    for file, one in found.items():
        if isinstance(one, str):
            say_unusable(one, f"lrsc results soup, with the data set and model of {file}")
            continue
        names = [plots.name_of(str(one[n].values[0])) for n in ("dataset", "model")]
        display(Markdown(f"**{', '.join(names)}**"))
        show(*(plots.tradeoff(_as_interventions(one), name) for name in AGAINST[:2]),
             caption=f"Means over seeds; bars: one standard deviation; numbers: the learning rate, "
             f"and how many networks a soup has. {_soup_caption(one)}")  # fmt: skip
        display(HTML(html_table(*_soup_table(one))))
    if not found:
        display(Markdown(
            "**No evidence here yet.** No soup of networks on the paper's data is measured. Make "
            "one from runs that are trained here, as in `lrsc sweep semi_synthetic --profile desk "
            "--dataset colored_mnist --model resnet18 --raw` and then `lrsc results soup --dataset "
            "colored_mnist --model resnet18 --lrs 0.001,0.015,0.15`."
        ))  # fmt: skip


def _as_interventions(found: xr.Dataset) -> xr.Dataset:
    """The networks as the intervention 'lr' and the soups as one of their own."""
    mixed = found["kind"].values == "soup"
    networks = len(np.unique(found["lr"].values[~mixed]))
    return found.assign_coords(
        hyperparameter=("run", np.where(mixed, "soup", "lr").astype(object)),
        value=("run", np.where(mixed, networks, found["lr"].values)),
    )


def _soup_table(found: xr.Dataset) -> tuple[list[str], list[list[str]]]:
    measures = [name for name in MEASURES if name in found]
    heads = ["Network", *(plots.style(found, n)[0] + (" (%)" if plots.is_percent(n) else "")
                          for n in measures)]  # fmt: skip
    lr, rows = found["lr"].values, []
    mixed = found["kind"].values == "soup"
    lrs = np.unique(lr[~mixed])
    for name, here in [*((f"learning rate {v:g}", lr == v) for v in lrs), ("soup", mixed)]:
        values = [found[n].values[here] for n in measures]
        rows.append([name, *(mean_sd(n, v.mean(), v.std(ddof=1) if len(v) > 1 else 0.0, len(v))
                             for n, v in zip(measures, values, strict=True))])  # fmt: skip
    return heads, rows


def _soup_caption(found: xr.Dataset) -> str:
    seeds = ", ".join(map(str, np.unique(found["seed"].values)))
    source, profile, device = (str(found[n].values[0]) for n in ("source_id", "profile", "device"))
    file = str(found.attrs["file"])
    return (
        f"Source {plots.source(source)}; training samples {int(found['n_train'].values[0]):,}; "
        f"seeds {seeds}; profile {profile}; device {device}. A soup has the mean of the weights of "
        "its seed's networks, which started from the same ones. "
        f"Result file: [{file}](../{file}). Made by `{found.attrs['made_by']}`."
    )


def _opened(experiment: str, dataset: str, model: str) -> xr.Dataset:
    try:
        found = experiments.open_experiment(experiment, dataset=dataset, model=model)
    except ValueError:  # nothing is measured, which is said in the table
        return xr.Dataset()
    found = found.isel(run=found["profile"].values != "quick")
    return with_measures(found) if found.sizes["run"] else xr.Dataset()


def _only(ds: xr.Dataset, name: str) -> xr.Dataset:
    if not ds.sizes.get("run"):
        return ds
    return ds.isel(run=ds["hyperparameter"].values == name)


def _range(ds: xr.Dataset, name: str) -> str:
    if not ds.sizes.get("run"):
        return "–"
    _, mean, _ = plots.by_lr(plots.against_value(ds), name)
    known = mean[np.isfinite(mean)]
    return _span(name, known.min(), known.max()) if len(known) else "–"


def _span(name: str, low: float, high: float) -> str:
    return f"{plain(name, low)} to {plain(name, high)}"
