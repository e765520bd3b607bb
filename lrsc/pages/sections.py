"""What every section shows: the evidence there is, its curves and tables, what a sweep did."""

import functools
import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc import experiments, measures, plots, results
from lrsc.pages import display, readings
from lrsc.plots.curves import LEAST_LRS

EVIDENCE = ("paper", "desk")  # profiles of evidence; quick runs are none


def each_alike(show: Callable[..., None]) -> Callable[..., None]:
    """A function that displays runs, so that it does for one group after the other.

    Groups as `lrsc.experiments.alike` has them, each under its name where there are several.
    """

    @functools.wraps(show)
    def shown(ds: xr.Dataset, *more: Any, **options: Any) -> None:
        groups = experiments.alike(ds)
        if len(groups) < 2:
            return show(ds, *more, **options)
        for group in groups:
            display.say_row(*plots.names_of(group), group.attrs["apart"])
            show(group, *more, **options)

    return shown


def evidence(
    experiment: str, dataset: str, model: str, hyperparameter: str | None = None
) -> xr.Dataset:
    """The measured results of a section's row; no runs if there are none.

    It holds every profile but quick; `lrsc.experiments.alike` separates their runs, as all figures
    and tables do. A profile with runs at a single LR is described in words only if another has
    more.
    hyperparameter: selects the row of that name for this data set and model; figures are then drawn
    against its values. Displays what is measured, or what is missing and how to get it.
    """
    row: dict[str, Any] = {"dataset": dataset, "model": model}
    row |= {"hyperparameter": hyperparameter} if hyperparameter else {}
    options = "".join(f" --{name} {value}" for name, value in row.items())
    how = _how_to_measure(experiment, row, options)
    display.say_unread(experiment)
    found = measured_row(experiment, **row)
    if not found.sizes:
        quick = experiments.measured(experiment, "quick", **row) is not None
        of = "".join(f", {value!r}" for value in row.values())
        why = (
            "Only the quick profile has been run." if quick
            else f"Nothing is measured yet of experiment {experiment!r}{of}."
        )  # fmt: skip
        display.say(f"**No evidence here yet.** {why} Measure it with {how}.")
        return xr.Dataset()
    found = plots.against_value(found) if hyperparameter else found
    lrs = {}
    for profile in dict.fromkeys(found["profile"].values.tolist()):
        part = found.isel(run=found["profile"].values == profile)
        lrs[profile] = len(np.unique(part["lr"].values))
        display.say(summary(part, len(experiments.configs(experiment, profile, **row))))
    drawn = [p for p, n in lrs.items() if n > 1 or max(lrs.values()) == 1]
    return found.isel(run=np.isin(found["profile"].values, drawn))


def with_measures(found: xr.Dataset) -> xr.Dataset:
    """With all measures of a run, empty where the version that wrote the file had others."""
    empty, missing = np.full(found.sizes["run"], np.nan), {}
    for name, about in measures.VARIABLES.items():
        if name not in found and not about.dims and about.of != "filters":
            missing[name] = ("run", empty, about.attrs)
    return found.assign(missing)


def _how_to_measure(experiment: str, row: dict[str, Any], options: str) -> str:
    """The command that measures a row, in each profile that has a plan for it."""
    rows = [
        each for each in experiments.EXPERIMENTS[experiment]
        if all(getattr(each, name) == value for name, value in row.items())
    ]  # fmt: skip
    profiles = [p for p in experiments.PROFILES[1:] if any(p in each.plans for each in rows)]
    first, *others = profiles
    command = f"`lrsc sweep {experiment} --profile {first}{options}`"
    return command + "".join(f" (or `{other}`)" for other in others)


def measured_rows(*names: str, **options: Any) -> dict[tuple[str, str], xr.Dataset]:
    """(data set, model) -> its results, for all rows of these experiments that have evidence.

    A row holds all profiles but quick, which `lrsc.experiments.alike` separates. Files that cannot
    be read are displayed as such. options: as those of `measured_row`.
    """
    display.say_unread(*names)
    rows: dict[tuple[str, str], xr.Dataset] = {}
    for name in names:
        read = experiments.sources(name)
        for pair in dict.fromkeys((r.dataset, r.model) for r in experiments.EXPERIMENTS[name]):
            found = measured_row(name, *pair, read=read, **options)
            if found.sizes:
                rows[pair] = found
    return rows


def measured_row(experiment: str, dataset: str, model: str, **options: Any) -> xr.Dataset:
    """The results of rows in all profiles but quick and in one of the statistics; empty for none.

    Statistics of batch normalisation: the paper's where all runs were measured so, else running.
    options: of `experiments.open_experiment`.
    """
    asked = experiment, EVIDENCE, None, dataset, model
    found = experiments.measured(*asked, **options)
    if found is None:
        return xr.Dataset()
    if len(set(found["statistics"].values.tolist()) - {""}) > 1:
        found = experiments.open_experiment(*asked, **options, statistics="running")
    return with_measures(found)


def shipped_runs(variable: str) -> Iterator[xr.Dataset]:
    """The runs of each shipped file that holds a variable; a run of several files only once."""
    seen: set[str] = set()
    for name in experiments.names():
        found = experiments.shipped(name)
        if found is not None and variable in found:
            runs = found["run_id"].values.tolist()
            yield found.isel(run=[run not in seen for run in runs])
            seen.update(runs)


def measured(experiment: str, *datasets: str) -> xr.Dataset:
    """What is measured of an experiment on some data sets, or all, for figures and tables.

    Every row holds all profiles but quick, which figures and tables separate. Interventions that
    are measured, at a size of the training set, only where they do nothing are left out: runs of
    the LR.
    """
    rows = [
        _swept(row) for (dataset, _), row in measured_rows(experiment).items()
        if not datasets or dataset in datasets
    ]  # fmt: skip
    return results.concat(rows).assign_attrs(rows[0].attrs) if rows else xr.Dataset()


def _swept(row: xr.Dataset) -> xr.Dataset:
    names, runs, sizes = (row[of].values for of in ("hyperparameter", "run_id", "n_train"))
    usual = set(runs[names == "lr"])
    kept = [n == "lr" or not usual.issuperset(runs[(names == n) & (sizes == size)])
            for n, size in zip(names, sizes, strict=True)]  # fmt: skip
    return row.isel(run=np.flatnonzero(kept))


def show_unmeasured(experiment: str) -> None:
    """Display which rows of an experiment have no evidence yet, and what measures each."""
    done: dict[tuple, dict[str, dict]] = {}
    for row in experiments.status():
        if row["experiment"] == experiment and row["profile"] != "quick":
            key = row["dataset"], row["model"], row["hyperparameter"]
            done.setdefault(key, {})[row["profile"]] = row
    absent: dict[tuple, list[dict[str, dict]]] = {}
    for (*pair, _), of in done.items():
        if not any(row["done"] for row in of.values()):
            absent.setdefault((*pair, next(iter(of))), []).append(of)
    cells = []
    for (dataset, model, profile), rows in absent.items():
        knobs = [plots.hyperparameter(row[profile]["hyperparameter"])[0] for row in rows]
        several = sum(key[:2] == (dataset, model) for key in done) > 1
        name = f"{plots.name_of(dataset)}, {plots.name_of(model)}"
        name += f": {', '.join(knobs)}" if several else ""
        runs = sum(row[profile]["runs"] for row in rows)
        command = f"lrsc sweep {experiment} --profile {profile} --dataset {dataset} --model {model}"
        cells.append([name, f"{runs} ({profile} profile)", command])
    if not cells:
        return display.say("*Every row of this section has been measured.*")
    display.show_cells(["Not measured yet", "Runs it takes", "Measure it with"], cells)


def summary(ds: xr.Dataset, planned: int) -> str:
    """How much of a profile is measured, in words."""
    lrs = np.unique(ds["lr"].values)
    name = plots.axis_name(ds)
    of = "learning rates" if name == "learning rate" else f"values of {name}"
    over = f"{len(lrs)} {of} from {lrs[0]:g} to {lrs[-1]:g}"
    runs = f"{ds.sizes['run']} of the {planned} runs of the {ds['profile'].values[0]} profile"
    samples = " or ".join(f"{int(n):,}" for n in np.unique(ds["n_train"].values))
    runs += f" on {samples} training samples"
    return f"Measured: {runs}, {f'{name} {lrs[0]:g}' if len(lrs) == 1 else over}."


def show_curves(
    ds: xr.Dataset, variables: Sequence[str] = plots.MAIN, command: str | None = None
) -> None:
    """Display the curves of ``variables`` over the LR, a panel per row and measure, with a caption.

    The numbers are in a folded table per row, which is open for a row with one LR, as it has no
    curve. Displays "not measured" if there is no run. ``command`` reproduces the results (default:
    the sweep).
    """
    if not ds.sizes.get("run"):
        return display.say_unmeasured()
    rows = plots.rows_of(ds)
    several = [len(np.unique(row["lr"].values)) > 1 for row in rows]
    drawn = [row for row, curve in zip(rows, several, strict=True) if curve]
    groups = [[row for row in drawn if (len(np.unique(row["lr"].values)) >= LEAST_LRS) is more]
              for more in (True, False)]  # fmt: skip
    parts = [of[i : i + 3] for of in groups for i in range(0, len(of), 3)]
    figures = [plots.curves(part, variables) for part in parts]
    names = [n for name in variables for n in (name, f"{name}_corrected") if n in ds]
    tables = [_table(row, names, not curve) for row, curve in zip(rows, several, strict=True)]
    labels = ", ".join(plots.style(ds, name)[0] for name in variables)
    over = " or ".join(dict.fromkeys(map(plots.axis_name, rows)))
    lead = f"{labels} over the {over}; in the tables mean ± standard deviation over seeds."
    display.show(*figures, caption=f"{lead} {display.caption_of(ds, command)}", under=tables)
    readings.say_each(drawn, lambda row: readings.of_curves(row, variables))


def _table(row: xr.Dataset, variables: Sequence[str], opened: bool) -> str:
    return (
        f"<details{' open' if opened else ''}><summary>All numbers: "
        f"{html.escape(plots.row_name(row))}</summary>{display.table(row, variables)}</details>"
    )


def show_pruning(ds: xr.Dataset, command: str | None = None) -> None:
    """Display the pruning curves of both methods, with a caption."""
    if not ds.sizes.get("run") or "accuracy_pruned_column" not in ds:
        return display.say_unmeasured()
    lead = "Unbiased accuracy after pruning by columns and by magnitude."
    display.show_runs(ds, command, lead, plots.pruning_curves(ds))
    readings.say_each(plots.rows_of(ds), readings.of_pruning)


@each_alike
def show_attribution_shares(ds: xr.Dataset, command: str | None = None) -> None:
    """Display where attribution lies along training, if the runs have such curves."""
    name = "curve_attribution_core"
    if not ds.sizes.get("run") or name not in ds:
        return display.say_unmeasured()
    known = np.isfinite(ds[name].values).any(axis=1) & (ds["status"].values != "diverged")
    if not known.any():
        return display.say_absent(ds)
    ds = ds.isel(run=known)
    lead = "Integrated Gradients of the true label, shares of the absolute values."
    display.show_runs(ds, command, lead, plots.attribution_shares(ds))
    readings.say_each([ds], readings.of_shares)


def show_table(
    ds: xr.Dataset, command: str | None = None, variables: Sequence[str] = display.MEASURES
) -> None:
    """Display LR x measures, mean and standard deviation over seeds, beside the paper's range."""
    if not ds.sizes.get("run"):
        return display.say_unmeasured()
    tables = "".join(_table(row, variables, True) for row in plots.rows_of(ds))
    lead = "Mean ± standard deviation over seeds; prunability is the column method's."
    display.show_html(tables, f"{lead} {display.caption_of(ds, command)}")


def show_report(report, ds: xr.Dataset) -> None:
    """Display what a sweep did: how many runs were trained now, how they ended, the time taken."""
    seconds = float(ds["wall_seconds"].sum())
    status = ds["status"].values.tolist()
    ended = ", ".join(f"{status.count(each)} {each}" for each in dict.fromkeys(status))
    now = len(report.trained)
    text = f"{now} run{'' if now == 1 else 's'} trained now, {len(report.done_before)} done before"
    if report.elsewhere:
        text += f", {len(report.elsewhere)} at work in another process"
    text += f". Status: {ended}. Training and measuring took {seconds:.0f} s in all."
    if set(status) == {"diverged"}:
        text += " **All runs diverged: what follows has no values. Take smaller learning rates.**"
    display.say(text)
