"""What every section shows: the evidence there is, its curves and tables, what a sweep did."""

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc import experiments, measures, plots, results
from lrsc.pages import display


def evidence(
    experiment: str, dataset: str, model: str, hyperparameter: str | None = None
) -> xr.Dataset:
    """The measured results of a section's row in the largest profile; no runs if there are none.

    hyperparameter: of the rows of this data set and model the one of that name; its figures are
    then drawn against its values. Quick runs are no evidence. Displays what is measured, or what
    is missing and how to get it.
    """
    row: dict[str, Any] = {"dataset": dataset, "model": model}
    row |= {"hyperparameter": hyperparameter} if hyperparameter else {}
    options = "".join(f" --{name} {value}" for name, value in row.items())
    how = _how_to_measure(experiment, row, options)
    display.say_unread(experiment)
    try:
        found = experiments.open_experiment(experiment, **row)
        profile = str(found["profile"].values[0])
        why = "Only the quick profile has been run." if profile == "quick" else ""
    except ValueError as error:
        why = _sentence(str(error).split(". Measure it with")[0])
    if why:
        display.say(f"**No evidence here yet.** {why} Measure it with {how}.")
        return xr.Dataset()
    planned = len(experiments.configs(experiment, profile, **row))
    found = plots.against_value(found) if hyperparameter else found
    found = with_measures(found)
    display.say(summary(found, planned))
    return found


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


def measured_rows(*names: str) -> dict[tuple[str, str], xr.Dataset]:
    """(data set, model) -> its results, for all rows of these experiments that have evidence.

    Of each row the largest profile there is; quick runs are no evidence. Files that cannot be read
    are displayed as such.
    """
    display.say_unread(*names)
    rows: dict[tuple[str, str], xr.Dataset] = {}
    for name in names:
        read = experiments.sources(name)
        for pair in dict.fromkeys((r.dataset, r.model) for r in experiments.EXPERIMENTS[name]):
            found = largest(name, *pair, read=read)
            if found.sizes:
                rows[pair] = found
    return rows


def largest(
    experiment: str, dataset: str, model: str | None = None, read: Any = None
) -> xr.Dataset:
    """A row's results, of each intervention in its largest profile but quick; empty for none.

    read: what `experiments.sources` returns, where it is read already.
    """
    found = experiments.measured(experiment, None, None, dataset, model, read=read)
    if found is not None:
        found = found.isel(run=found["profile"].values != "quick")
    return with_measures(found) if found is not None and found.sizes["run"] else xr.Dataset()


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

    Of each row (data set, network, intervention) the largest profile there is; quick runs are no
    evidence. Without runs where there are none. Files that cannot be read are displayed as such.
    """
    display.say_unread(experiment)
    read = experiments.sources(experiment)
    names = datasets or dict.fromkeys(row.dataset for row in experiments.EXPERIMENTS[experiment])
    found = [largest(experiment, name, read=read) for name in names]
    found = [each for each in found if each.sizes]
    if not found:
        return xr.Dataset()
    return results.concat(found).assign_attrs(found[0].attrs)


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
    """Markdown: how much of a profile is measured, and how the main measures change with the LR.

    The changes are left out where the runs differ in their data options.
    """
    lrs = np.unique(ds["lr"].values)
    name = plots.axis_name(ds)
    of = "learning rates" if name == "learning rate" else f"values of {name}"
    over = f"{len(lrs)} {of} from {lrs[0]:g} to {lrs[-1]:g}"
    runs = f"{ds.sizes['run']} of the {planned} runs of the {ds['profile'].values[0]} profile"
    lines = [f"Measured: {runs}, {f'{name} {lrs[0]:g}' if len(lrs) == 1 else over}."]
    if "data" not in ds.coords or len(set(ds["data"].values.tolist())) == 1:  # else means mix data
        lines += [f"- {plots.trend(ds, name)}" for name in plots.MAIN]
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def show_curves(
    ds: xr.Dataset, variables: Sequence[str] = plots.MAIN, command: str | None = None
) -> None:
    """Display the curves of ``variables`` over the LR, a panel a row and measure, with a caption.

    The numbers stand in a folded table a row, open for a row with one LR, which has no curve.
    Displays "not measured" where there is no run. ``command`` reproduces the results (default: the
    sweep).
    """
    if not ds.sizes.get("run"):
        return display.say_unmeasured()
    rows = plots.rows_of(ds)
    several = [len(np.unique(row["lr"].values)) > 1 for row in rows]
    drawn = [row for row, curve in zip(rows, several, strict=True) if curve]
    figures = [plots.curves(drawn, variables)] if drawn else []
    names = [n for name in variables for n in (name, f"{name}_corrected") if n in ds]
    tables = [_table(row, names, not curve) for row, curve in zip(rows, several, strict=True)]
    labels = ", ".join(plots.style(ds, name)[0] for name in variables)
    over = " or ".join(dict.fromkeys(map(plots.axis_name, rows)))
    lead = f"{labels} over the {over}; in the tables mean ± standard deviation over seeds."
    display.show(*figures, caption=f"{lead} {display.caption_of(ds, command)}", under=tables)


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


def show_attribution_shares(ds: xr.Dataset, command: str | None = None) -> None:
    """Display where attribution lies along training, where the runs have such curves."""
    name = "curve_attribution_core"
    if not ds.sizes.get("run") or name not in ds:
        return display.say_unmeasured()
    known = np.isfinite(ds[name].values).any(axis=1) & (ds["status"].values != "diverged")
    if not known.any():
        return display.say_absent(ds)
    ds = ds.isel(run=known)
    lead = "Integrated Gradients of the true label, shares of the absolute values."
    display.show_runs(ds, command, lead, plots.attribution_shares(ds))


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


def _sentence(text: str) -> str:
    text = re.sub(r"lrsc sweep.*$", r"`\g<0>`", text[0].upper() + text[1:])
    return text if text.endswith(".") else text + "."
