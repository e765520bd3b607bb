"""Our own studies in the book: how we interpreted the paper, and benchmarks."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from lrsc import experiments, metrics, models, plots, results
from lrsc.claims import scorecard
from lrsc.pages import display, readings, sections
from lrsc.studies import compressibilities

_THROUGHPUT = {"dataset", "model", "engine", "replicas", "steps_per_second", "floor_arithmetic",
               "floor_bytes"}  # fmt: skip


def show_choices(ds: xr.Dataset, variables: Sequence[str] = plots.MAIN, by: str = "data") -> None:
    """Display what a choice changes: one row per option of `by`, one column per measure and LR.

    by: the coordinate that holds the choice ('data': options of the data set; 'precision').

    Means over seeds; the last row is table S1 at the ends of its own LR range. Displays "not
    measured" if there is no run.
    """
    if not ds.sizes.get("run"):
        return display.say_unmeasured()
    lrs = np.unique(ds["lr"].values)
    heads = [f"{plots.heading(name, ds)} at LR {lr:g}" for name in variables for lr in lrs]
    rows = []
    groups = experiments.alike(ds)
    named = [str(here[by].values[0]) or "as decided" for here in groups]
    named = [
        name if named.count(name) == 1 else f"{name}, {here.attrs['apart']}"
        for name, here in zip(named, groups, strict=True)
    ]
    both = list(zip(named, groups, strict=True))
    for choice, here in sorted(both, key=_by_numbers) if by == "data" else both:
        cells = [
            display.mean_sd(name, here[name].values[here["lr"].values == lr])
            for name in variables for lr in lrs
        ]  # fmt: skip
        rows.append([choice, str(here.sizes["run"]), *cells])
    paper = plots.paper_range(ds) if by == "data" else None
    if paper:
        low, high = paper["lr"]
        cells = [f"paper, smallest and largest over LR {low:g} to {high:g}", ""]
        for name in variables:
            ends = [display.plain(name, value) for value in paper.get(name, ())]
            cells += ends if len(ends) == len(lrs) == 2 else ["–"] * len(lrs)
        rows.append(cells)
    text = f"Mean over seeds ± standard deviation. {display.caption_of(ds, None)}"
    display.show_cells([by.capitalize(), "Runs", *heads], rows, text)
    display.say(readings.of_choices(dict(both), variables))


def _by_numbers(named: tuple[str, xr.Dataset]) -> list:
    """For sorting: numbers in a name by their size, "as decided" first."""
    parts = re.split(r"(\d+(?:\.\d+)?)", named[0].removeprefix("as decided"))
    return [float(part) if i % 2 else part for i, part in enumerate(parts)]


def show_reference_prunability(dataset: str, model: str) -> None:
    """Display what table S1's smallest prunability means for the accuracy after pruning."""
    paper = experiments.reference(dataset, model)
    if paper is None:
        raise ValueError(f"table S1 has no row for {dataset!r} and {model!r}")
    accuracy, ratio = paper["unbiased_accuracy"][0], paper["prunability"][0]
    text = (
        f"At the lower end, S1 has an accuracy of {accuracy:.1%} and a prunability of {ratio:.2f}. "
        f"As a ratio, this means an average accuracy of {accuracy * ratio:.1%} after pruning."
    )
    display.say(text)


@sections.each_alike
def show_pruned_accuracy(ds: xr.Dataset) -> None:
    """Display prunability and the accuracy behind it, LR by LR, beside table S1's prunability."""
    if not ds.sizes.get("run") or "accuracy_pruned_column" not in ds:
        return display.say_unmeasured()
    after = ds["accuracy_pruned_column"].mean("kappa")
    after.attrs = {"units": "1", "long_name": "Accuracy after column pruning, mean over κ"}
    names = "unbiased_accuracy", "mean_pruned_accuracy", "prunability", "prunability_magnitude"
    sections.show_table(ds.assign(mean_pruned_accuracy=after), variables=names)


def show_settings(experiment: str = "choices") -> None:
    """Display how near each setting of Colored MNIST comes to tables S1 and S2, best first.

    Setting: share of conflicting samples, scale of the inputs, initialisation and, where there is
    batch normalisation, its statistics. Distances are in units of `scorecard.MARGINS`.
    """
    rows, seen = [], None
    row = {"dataset": "colored_mnist", "hyperparameter": "settings"}
    for mode in models.STATISTICS:
        found = experiments.measured(experiment, "paper", **row, statistics=mode)
        if found is None:
            continue
        seen = found if seen is None else seen
        fits = scorecard.fits(found)
        rows += fits if mode == "running" else [r for r in fits if r["statistics"]]
    if seen is None:
        return display.say_unmeasured()
    rows.sort(key=lambda row: (row["model"], row["table"], row["deciding"]))
    joint = [
        [*_setting(row), f"{row['deciding']:.2f}",
         ", ".join(f"{plots.name_of(m)} {v:.2f}" for m, v in row["models"].items())]
        for row in scorecard.jointly(rows)
    ]  # fmt: skip
    heads = ["Options of the data", "Initialisation", "Statistics", "LRs of ResNet18",
             "Mean distance", "By model"]  # fmt: skip
    display.show_cells(
        heads, joint,
        "Distance from S1 in accuracy, class selectivity and class separation, which rank the "
        "settings, averaged over models, for settings measured with several models. Compare only "
        "rows with the same LRs. The next table has the differences for each model:",
    )  # fmt: skip
    command = "lrsc sweep choices --profile paper --hyperparameter settings"
    heads = [
        "Model, table", "Options of the data", "Initialisation", "Statistics", "LRs",
        *(f"{plots.style(seen, m)[0]}, ours − paper's" for m in scorecard.MEASURES),
        "Distance: accuracy, CSI, separation", "Distance: the other measures",
    ]  # fmt: skip
    display.show_cells(
        heads, [_setting_cells(row) for row in rows],
        "One seed a run. Of two LRs the first number of a cell is at the lower end of "
        "the paper's range, the second at the upper. Distances: mean size of the differences, in "
        "units of 3 points of accuracy and of 0.1 in the other measures; 1 and less is within. "
        f"{display.caption_of(seen, command)}",
    )  # fmt: skip


def _setting_cells(row: Mapping) -> list[str]:
    def cell(measure: str) -> str:
        gaps = row["gaps"].get(measure)
        scale, form = (100, "+.1f") if plots.is_percent(measure) else (1, "+.2f")
        return "–" if gaps is None else " | ".join(f"{scale * gap:{form}}" for gap in gaps)

    name, far = (
        f"{plots.name_of(row['model'])}, {row['table']}",
        (row["deciding"], row["following"]),
    )
    return [name, *_setting(row), *map(cell, scorecard.MEASURES), *(f"{v:.2f}" for v in far)]


def _setting(row: Mapping) -> list[str]:
    """Options of the data, initialisation, statistics and LRs."""
    statistics = row["statistics"] or "–"
    init = row["model_options"].removeprefix("init = ") or (
        "torchvision" if row["statistics"] else "–"
    )
    lrs = ", ".join(f"{lr:g}" for lr in row["ends"])
    return [row["data"] or "as decided", init, statistics, lrs]


def show_pruning_criteria() -> None:
    """Display the accuracy left by each pruning criterion, by statistics, LR and initialisation."""
    held = ("accuracy", "criterion", "statistics", "init", "lr", "kappa")
    script = "python book/trials/pruning_criteria.py"
    found = display.usable(script, results.shipped, "pruning_criteria", held)
    paper = experiments.reference("colored_mnist", "resnet18")
    if found is None or paper is None:
        return display.say_unmeasured()
    ratio = found["accuracy"] / found["accuracy"].sel(kappa=0)
    mean = ratio.sel(kappa=found["kappa"] > 0).mean("kappa", skipna=False)
    tried = [(i, lr) for i in found["init"].values for lr in found["lr"].values
             if bool(np.isfinite(mean.sel(init=i, lr=lr)).any())]  # fmt: skip
    caption = (
        f"ResNet18 on Colored MNIST, ρ = {found.attrs['rho']:g}, seed 0, source "
        f"{found.attrs['source_id']}, {found.attrs['n_train']:,} training images, accuracies on "
        f"{found.attrs['test_samples']:,} fixed test images. Made by "
        f"`python {found.attrs['made_by']}`."
    )
    display.show(plots.pruning_criteria(ratio, paper["prunability"]), caption=(
        "Relative accuracy against the share pruned; rows are numbered as in the table. "
        f"The grey band is S1's range, LR 0.001 to 0.25. {caption}"
    ))  # fmt: skip
    heads = ["What is pruned", "Statistics"] + [f"LR {lr:g}, {init}" for init, lr in tried]
    rows = [
        [f"{k}. {name}" if mode == models.STATISTICS[0] else "", str(mode)]
        + [f"{float(mean.sel(criterion=name, statistics=mode, init=i, lr=lr)):.2f}"
           for i, lr in tried]
        for k, name in enumerate(found["criterion"].values.tolist(), 1)
        for mode in found["statistics"].values
    ]  # fmt: skip
    display.show_cells(heads, rows, f"Prunability, mean over κ = 0.1 to 0.9. {caption}")
    display.say(readings.of_criteria(mean))


def show_norm_spread(model: str = "resnet18") -> None:
    """Display prunability against the spread of the filter norms, for all shipped runs."""
    runs = _shipped_runs(model)
    if runs is None:
        return display.say_unmeasured()
    ids, command = runs["run_id"].values.tolist(), f"lrsc results export {compressibilities.NAME}"
    spread = display.usable(command, compressibilities.of_runs, ids)
    if spread is None or "filter_norm_spread" not in spread:
        return display.say_unmeasured()
    found = runs.isel(run=[ids.index(name) for name in spread["run_id"].values.tolist()])
    found = found.assign(filter_norm_spread=("run", spread["filter_norm_spread"].values))
    found = found.isel(run=np.isfinite(found["filter_norm_spread"].values))
    if not found.sizes["run"]:
        return display.say_unmeasured()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        initial = compressibilities.norm_spread(models.build(model, (3, 32, 32), 10))
    lead = (
        f"{plots.name_of(model)}, a dot a run, larger at larger LRs. Spread: standard deviation "
        "over mean of a layer's filter norms, mean over layers; dashed, of an untrained network. "
        "Prunability in running statistics of batch normalisation. All runs whose raw material was "
        "at hand."
    )
    for n in np.unique(found["n_train"].values)[::-1]:
        here = found.isel(run=found["n_train"].values == n)
        figure = plots.norm_spread(here, initial)
        display.show(figure, caption=f"{lead} {display.caption_of(here, '')}")
        x, y = (torch.from_numpy(here[n].values) for n in ("filter_norm_spread", "prunability"))
        r, low, high = metrics.rank_correlation_interval(x, y)
        text = f"Over these runs the two have a rank correlation of {r:+.2f} ({low:+.2f} to "
        display.say(f"**What it shows.** {text}{high:+.2f}).".replace("-", "\u2212"))


def _shipped_runs(model: str) -> xr.Dataset | None:
    """Prunability of every shipped run of a model that did not diverge, each once."""
    parts = []
    for of in sections.shipped_runs("prunability"):
        of = experiments.in_statistics(of, "running")
        here = (of["model"].values == model) & np.isfinite(of["prunability"].values)
        parts.append(of[["prunability"]].isel(run=here))
    found = xr.concat(parts, "run", join="outer") if parts else None
    if found is None or not found.sizes["run"]:
        return None
    profiles = [experiments.profile_of(results.parsed(text)) for text in found["config"].values]
    file = f"book/results/{compressibilities.NAME}.nc"
    return found.assign_coords(profile=("run", profiles)).assign_attrs(origin="shipped", file=file)


def show_benchmark(name: str, columns: Mapping[str | tuple[str, ...], str], **where: Any) -> None:
    """Display what a script in benchmarks/ measured (book/results/<name>.json) as a table.

    columns: field of a row, or several to be joined -> heading; a heading that ends in (%) shows a
    share in percent. where: fields that the rows shown must have. A dash: not measured.
    """
    if (found := benchmark(name, **where)) is None:
        return None

    def one(heading: str, value: Any) -> str:
        if value is None:
            return "–"
        if not isinstance(value, float):
            return plots.name_of(str(value)).replace(" x ", " × ").replace(" ", "\u00a0")
        value *= 100 if heading.endswith("(%)") else 1
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    def cell(fields: str | tuple[str, ...], heading: str, row: Mapping) -> str:
        names = (fields,) if isinstance(fields, str) else fields
        return ", ".join(one(heading, row.get(name)) for name in names)

    rows = [[cell(f, h, row) for f, h in columns.items()] for row in found["rows"]]
    machine = ", ".join(f"{value} {name}" if name in ("cores", "threads") else f"{name} {value}"
                        for name, value in found["machine"].items())  # fmt: skip
    made = f"Made by `{found['made_by']}`." if "made_by" in found else ""
    display.show_cells(list(columns.values()), rows, f"Measured on: {machine}. {made}")


def show_throughput(name: str, **where: Any) -> None:
    """Display how steps per second grow with runs side by side; where: as in `show_benchmark`."""
    if (found := benchmark(name, **where)) is None:
        return
    rows, machine = found["rows"], found["machine"]
    if not rows or not all(row.keys() >= _THROUGHPUT for row in rows):
        return display.say_unmeasured()
    caption = (
        f"Training steps per second, all runs together. {machine.get('device', 'Device unknown')}, "
        f"{machine.get('cores', 'unknown')} cores. Made by `{found.get('made_by', '')}`."
    )
    display.show(plots.throughput(rows), caption=caption)


def benchmark(name: str, **where: Any) -> dict | None:
    """What a benchmark wrote; None, which is displayed, for no file or one that is not of it.

    where: fields that the rows returned have.
    """
    path = results.shipped_path(name).with_suffix(".json")
    why = "is missing"
    if path.is_file():
        why = "is damaged or not a benchmark"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            rows, machine = found["rows"], found["machine"]
            if isinstance(machine, dict) and all(isinstance(row, dict) for row in rows):
                chosen = [r for r in rows if all(r.get(k) == v for k, v in where.items())]
                return found | {"rows": chosen}
        except (ValueError, KeyError, TypeError):  # it holds no JSON, or something else
            pass
    display.say(
        f"*Not measured yet: `book/results/{path.name}` {why}. A script in `benchmarks/` "
        "writes it.*"
    )
    return None
