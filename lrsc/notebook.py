"""What the book's notebooks share: checked parameters, and results shown as figures and tables."""

import base64
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import torch
import xarray as xr

from lrsc import errors, experiments, plots, results
from lrsc.datasets import published

NAMES = ("dataset", "model", "lrs", "seeds", "profile")
MEASURES = (*plots.MAIN, "csi", "class_separation")
SHOWN_KAPPAS = (0.0, 0.1, 0.3, 0.5, 0.9)
_SHELL = {"In", "Out", "get_ipython", "exit", "quit", "open"}


def parameters(namespace: Mapping[str, Any], experiment: str) -> SimpleNamespace:
    """A section's parameters, checked: dataset, model, lrs, seeds, profile; and `command`.

    ``namespace``: ``globals()`` of the notebook, or a dict. ``lrs`` and ``seeds`` may be None (the
    profile's own), a list, one number, or a string that holds a JSON list, as papermill passes
    one; they come back as tuples. ``command`` is the line that runs the notebook with them. Raises
    ValueError for an unknown parameter (papermill only logs it) and for a bad value.
    """
    for name, value in namespace.items():
        if name.startswith("_") or name in _SHELL or isinstance(value, ModuleType):
            continue
        if name not in NAMES and _is_literal(value):  # all that papermill can inject
            raise errors.unknown("notebook parameter", name, NAMES)
    missing = [name for name in NAMES if name not in namespace]
    if missing:
        raise ValueError(
            f"notebook parameter {missing[0]!r} is not set: run the cell tagged 'parameters' first"
        )
    given = {name: namespace[name] for name in NAMES}
    rows = [(row.dataset, row.model) for row in experiments.EXPERIMENTS[experiment]]
    errors.check_names("dataset", [given["dataset"]], dict.fromkeys(d for d, _ in rows))
    models = [model for dataset, model in rows if dataset == given["dataset"]]
    errors.check_names(f"model for {given['dataset']}", [given["model"]], models)
    errors.check_names("profile", [given["profile"]], experiments.PROFILES)
    given["lrs"] = _numbers("lrs", given["lrs"], "learning rates, finite and > 0", _is_lr)
    given["seeds"] = _numbers("seeds", given["seeds"], "whole numbers >= 0", _is_seed)
    return SimpleNamespace(**given, command=_command(experiment, given))


def evidence(experiment: str, dataset: str, model: str) -> xr.Dataset:
    """The measured results of a section's row in the largest profile; no runs if there are none.

    Quick runs are no evidence. Displays what is measured, or what is missing and how to get it.
    """
    from IPython.display import Markdown, display

    try:
        found = experiments.open_experiment(experiment, dataset=dataset, model=model)
    except ValueError as error:
        display(Markdown(f"**No evidence here yet.** {_sentence(str(error))}"))
        return xr.Dataset()
    profile = str(found["profile"].values[0])
    if profile == "quick":
        how = f"`lrsc sweep {experiment} --profile desk`"
        text = f"**No evidence here yet.** Only the quick profile has been run. Measure with {how}."
        display(Markdown(text))
        return xr.Dataset()
    planned = len(experiments.configs(experiment, profile, dataset, model))
    display(Markdown(summary(found, planned)))
    return found


def show_rest(experiment: str, besides: Sequence[tuple[str, str]]) -> None:
    """Display the rows (data set, model) of an experiment that have no part of their own.

    A table of the runs done in each profile that is evidence, then the curves of each measured row.
    """
    from IPython.display import HTML, Markdown, display

    done: dict[tuple[str, str], dict[str, str]] = {}
    for row in experiments.status():
        key = row["dataset"], row["model"]
        if row["experiment"] == experiment and row["profile"] != "quick" and key not in besides:
            done.setdefault(key, {})[row["profile"]] = f"{row['done']} of {row['runs']}"
    headings = ["Data set", "Model", "Desk profile", "Paper profile"]
    cells = [
        [plots.name_of(dataset), plots.name_of(model), *(of.get(p, "-") for p in ("desk", "paper"))]
        for (dataset, model), of in done.items()
    ]
    display(HTML(_html_table(headings, cells)))
    display(Markdown(f"Measure them with `lrsc sweep {experiment} --profile desk` (or `paper`)."))
    for (dataset, model), of in done.items():
        if any(not text.startswith("0 ") for text in of.values()):
            display(Markdown(f"**{plots.name_of(dataset)}, {plots.name_of(model)}**"))
            found = evidence(experiment, dataset, model)
            show_curves(found)
            show_curves(found, ("csi", "class_separation"))


def summary(ds: xr.Dataset, planned: int) -> str:
    """Markdown: how much of a profile is measured, and what the main measures do over the LRs."""
    lrs = np.unique(ds["lr"].values)
    over = f"{len(lrs)} learning rates from {lrs[0]:g} to {lrs[-1]:g}"
    runs = f"{ds.sizes['run']} of the {planned} runs of the {ds['profile'].values[0]} profile"
    lines = [f"Measured: {runs}, {f'learning rate {lrs[0]:g}' if len(lrs) == 1 else over}."]
    lines += [f"- {plots.trend(ds, name)}" for name in plots.MAIN]
    return lines[0] + "\n\n" + "\n".join(lines[1:])


def show_curves(
    ds: xr.Dataset, variables: Sequence[str] = plots.MAIN, command: str | None = None
) -> None:
    """Display the normalised and the plain curves of ``variables`` side by side, with a caption.

    No runs are said to be unmeasured. ``command`` re-makes the results (default: the sweep).
    """
    if not ds.sizes.get("run"):
        return _say_unmeasured()
    figures = plots.normalised_curves(ds, variables), plots.plain_curves(ds, variables, _paper(ds))
    lead = "First figure: every curve scaled to 0..1; second: plain units."
    show(*figures, caption=f"{lead} {_caption(ds, command)}")


def show_pruning(ds: xr.Dataset, command: str | None = None) -> None:
    """Display the pruning curves of both methods side by side, with a caption."""
    if not ds.sizes.get("run"):
        return _say_unmeasured()
    found = [m for m in ("column", "magnitude") if f"accuracy_pruned_{m}" in ds]
    figures = [plots.pruning_curves(ds, method) for method in found]
    lead = f"Unbiased accuracy after {' and '.join(found)} pruning."
    show(*figures, caption=f"{lead} {_caption(ds, command)}")


def show_table(ds: xr.Dataset, command: str | None = None) -> None:
    """Display LR x measures, mean and standard deviation over seeds, beside the paper's range."""
    from IPython.display import HTML, Markdown, display

    if not ds.sizes.get("run"):
        return _say_unmeasured()
    lead = "Mean ± standard deviation over seeds; prunability is the column method's."
    display(HTML(table(ds, _paper(ds))), Markdown(f"{lead} {_caption(ds, command)}"))


def show(*figures, caption: str) -> None:
    """Display figures, side by side where there is room, and a Markdown caption under them.

    A figure's label becomes its alternative text.
    """
    from IPython.display import HTML, Markdown, display

    images = "".join(_image(figure) for figure in figures)
    row = "display:flex;flex-wrap:wrap;gap:1rem;align-items:flex-start;margin-bottom:0.7rem"
    display(HTML(f'<div style="{row}">{images}</div>'), Markdown(caption))


def show_report(report, ds: xr.Dataset) -> None:
    """Display what a sweep did: how many runs were trained now, how they ended, the time taken."""
    from IPython.display import Markdown, display

    seconds = float(ds["wall_seconds"].sum())
    status = ds["status"].values.tolist()
    ended = ", ".join(f"{status.count(each)} {each}" for each in dict.fromkeys(status))
    now = len(report.trained)
    text = f"{now} run{'' if now == 1 else 's'} trained now, {len(report.done_before)} done before"
    if report.elsewhere:
        text += f", {len(report.elsewhere)} at work in another process"
    text += f". Status: {ended}. Training and measuring took {seconds:.0f} s in all."
    display(Markdown(text))


def show_choices(ds: xr.Dataset, variables: Sequence[str] = plots.MAIN, by: str = "data") -> None:
    """Display what a choice changes: a row an option of `by`, a column a measure and LR.

    by: the coordinate that holds the choice ('data': options of the data set; 'precision').

    Means over seeds; the last row is table S1 at the ends of its own LR range. No runs are said
    to be unmeasured.
    """
    from IPython.display import HTML, Markdown, display

    if not ds.sizes.get("run"):
        return _say_unmeasured()
    lrs = np.unique(ds["lr"].values)
    heads = [by.capitalize(), "Runs"]
    for name in variables:
        label = plots.style(ds, name)[0] + (" (%)" if plots.is_percent(name) else "")
        heads += [f"{label} at LR {lr:g}" for lr in lrs]
    rows = []
    for choice in dict.fromkeys(ds[by].values.tolist()):
        here = ds.isel(run=ds[by].values == choice)
        cells = [choice or "as decided", str(here.sizes["run"])]
        for name in variables:
            found = {lr: rest for lr, *rest in zip(*plots.by_lr(here, name), strict=True)}
            for lr in lrs:
                mean, sd = found.get(lr, (np.nan, np.nan))
                runs = int(np.isfinite(here[name].values[here["lr"].values == lr]).sum())
                cells.append(_mean_sd(name, mean, sd, runs))
        rows.append(cells)
    paper = _paper(ds) if by == "data" else None
    if paper:
        low, high = paper["lr"]
        cells = [f"paper, smallest and largest over LR {low:g} to {high:g}", ""]
        for name in variables:
            ends = [_plain(name, value) for value in paper.get(name, ())]
            cells += ends if len(ends) == len(lrs) == 2 else ["–"] * len(lrs)
        rows.append(cells)
    display(HTML(_html_table(heads, rows)))
    text = "Mean over seeds ± standard deviation."
    display(Markdown(f"{text} {_caption(ds, None)}"))


def show_reference_prunability(dataset: str, model: str) -> None:
    """Display what table S1's smallest prunability means for the accuracy after pruning."""
    from IPython.display import Markdown, display

    paper = experiments.reference(dataset, model)
    if paper is None:
        raise ValueError(f"table S1 has no row for {dataset!r} and {model!r}")
    accuracy, ratio = paper["unbiased_accuracy"][0], paper["prunability"][0]
    text = (
        f"At the lower end S1 has an accuracy of {accuracy:.1%} and a prunability of {ratio:.2f}. "
        f"As a ratio this is a mean accuracy of {accuracy * ratio:.1%} after pruning."
    )
    display(Markdown(text))


def show_pruned_accuracy(ds: xr.Dataset) -> None:
    """Display prunability and the accuracy behind it, LR by LR, beside table S1's prunability."""
    from IPython.display import HTML, Markdown, display

    if not ds.sizes.get("run"):
        return _say_unmeasured()
    after = ds["accuracy_pruned_column"].mean("kappa")
    after.attrs = {"units": "1", "long_name": "accuracy after column pruning, mean over kappa"}
    ds = ds.assign(mean_pruned_accuracy=after)
    names = (
        "unbiased_accuracy", "mean_pruned_accuracy", "prunability", "prunability_magnitude",
    )  # fmt: skip
    display(HTML(table(ds, _paper(ds), names)), Markdown(_caption(ds, None)))


def show_pruning_criteria() -> None:
    """Display what other readings of column pruning leave of one network, beside table S1's."""
    from IPython.display import HTML, Markdown, display

    path = results.shipped_path("pruning_criteria")
    if not path.is_file():
        return _say_unmeasured()
    found = results.load(path)
    accuracy = found["accuracy"]
    ratio = (accuracy.sel(kappa=found["kappa"] > 0) / accuracy.sel(kappa=0)).mean("kappa")
    heads = ["What is pruned", "Prunability"]
    heads += [f"Accuracy (%) at κ = {kappa:g}" for kappa in SHOWN_KAPPAS]
    rows = [
        [str(name), f"{float(ratio.sel(criterion=name)):.3f}"]
        + [f"{100 * float(accuracy.sel(criterion=name, kappa=k)):.1f}" for k in SHOWN_KAPPAS]
        for name in found["criterion"].values
    ]
    display(HTML(_html_table(heads, rows)))
    display(Markdown(
        f"One ResNet18 on Colored MNIST, LR {found.attrs['lr']:g}, seed {found.attrs['seed']}, "
        f"source mnist, all training images, accuracies on {found.attrs['test_samples']:,} fixed "
        f"test images. Made by `python {found.attrs['made_by']}`."
    ))  # fmt: skip


def show_benchmark(name: str, columns: Mapping[str | tuple[str, ...], str], **where: Any) -> None:
    """Display what a script in benchmarks/ measured (book/results/<name>.json) as a table.

    columns: field of a row, or several to be joined -> heading; a heading that ends with (%) has a
    share in percent. where: fields that the rows shown must have. What is not measured is a dash.
    """
    from IPython.display import HTML, Markdown, display

    path = results.shipped_path(name).with_suffix(".json")
    if not path.is_file():
        return _say_unmeasured()
    found = json.loads(path.read_text())

    def one(heading: str, value: Any) -> str:
        if value is None:
            return "–"
        if not isinstance(value, float):
            return plots.name_of(str(value)).replace(" x ", " × ").replace(" ", "\u00a0")
        value *= 100 if heading.endswith("(%)") else 1
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    def cell(fields: str | tuple[str, ...], heading: str, row: Mapping) -> str:
        names = (fields,) if isinstance(fields, str) else fields
        return ", ".join(one(heading, row[name]) for name in names)

    chosen = [row for row in found["rows"] if all(row[k] == v for k, v in where.items())]
    rows = [[cell(f, h, row) for f, h in columns.items()] for row in chosen]
    display(HTML(_html_table(list(columns.values()), rows)))
    machine = ", ".join(f"{value} {name}" if name in ("cores", "threads") else f"{name} {value}"
                        for name, value in found["machine"].items())  # fmt: skip
    made = f"Made by `{found['made_by']}`." if "made_by" in found else ""
    display(Markdown(f"Measured on: {machine}. {made}"))


def show_throughput(name: str, **where: Any) -> None:
    """Display how steps a second grow with the runs side by side; where: as `show_benchmark`."""
    path = results.shipped_path(name).with_suffix(".json")
    if not path.is_file():
        return _say_unmeasured()
    found = json.loads(path.read_text())
    rows = [row for row in found["rows"] if all(row[k] == v for k, v in where.items())]
    caption = (
        f"Training steps a second of all runs together. {found['machine']['device']}, "
        f"{found['machine']['cores']} cores. Made by `{found['made_by']}`."
    )
    show(plots.throughput(rows), caption=caption)


def show_examples(dataset, n: int = 10) -> None:
    """Display samples of a data set, aligned and conflicting, with the source in the caption."""
    known = dataset.train.bias is not None
    lead = f"Training samples; under or beside each: class{' / bias' if known else ''}."
    caption = f"{lead} Source {plots.source(dataset.source_id)}, {len(dataset.train):,} samples."
    show(plots.examples(dataset, n), caption=caption)


def show_card(dataset) -> None:
    """Display where a data set is from: source as loaded, shapes, licence, citation, how to get."""
    from IPython.display import HTML, display

    names = published.TABLE[dataset.name].needs or [dataset.name]
    origin = {name: published.TABLE[name] for name in names}
    splits = {"training": dataset.train, "validation": dataset.val, "test": dataset.test}
    said = {
        "Loaded from": plots.source(dataset.source_id).replace("`", ""),
        "Samples": ", ".join(f"{len(s):,} {k}" for k, s in splits.items() if s is not None),
        "Input": " × ".join(map(str, dataset.input_shape)),
        "Classes": f"{dataset.n_classes}: {', '.join(dataset.class_names[:10])}"
        + (", ..." if dataset.n_classes > 10 else ""),
        "Published data": "; ".join(f"{k}: {d.citation}" for k, d in origin.items() if d.citation)
        or "none: generated from the data seed",
        "Licence": "; ".join(f"{k}: {d.licence}" for k, d in origin.items() if d.licence)
        or "none needed: made by this software (MIT)",
        "Home": "; ".join(d.homepage for d in origin.values() if d.homepage),
        "Get it": "; ".join(f"lrsc data get {k}" for k, d in origin.items() if d.fetched),
    }
    display(HTML(_html_table(["", dataset.name], [[k, v] for k, v in said.items() if v])))


def show_counts(dataset) -> None:
    """Display how many samples each (class, bias) group has, in the training and the test set."""
    from IPython.display import HTML, Markdown, display

    if dataset.train.bias is None:
        per_class = torch.bincount(dataset.train.y, minlength=dataset.n_classes)
        fewest, most = int(per_class.min()), int(per_class.max())
        each = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        text = f"{len(dataset.train):,} training samples, {each} of each class; no bias labels."
        return display(Markdown(text))
    train, test = dataset.train, dataset.test
    tables = [_counts(split, dataset.n_classes) for split in (train, test)]
    conflicting = int(train.conflicting.sum())
    fewest, most = int(tables[1].min()), int(tables[1].max())
    each = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
    text = (
        f"{len(train):,} training samples, of which {conflicting:,} conflict "
        f"(ρ = {dataset.rho:.4f}); {len(test):,} test samples, {each} in each (class, bias) group. "
        "Rows: class y; columns: bias b; cells: training samples."
    )
    heads = ["y \\ b", *map(str, range(dataset.n_classes))]
    rows = [[str(y), *(f"{n:,}" for n in row)] for y, row in enumerate(tables[0].tolist())]
    display(Markdown(text), HTML(_html_table(heads, rows)))


def table(
    ds: xr.Dataset,
    reference: Mapping[str, tuple[float, float]] | None = None,
    variables: Sequence[str] = MEASURES,
) -> str:
    """HTML table, LR x measures; accuracies in percent, as their heads say.

    ``reference``: variable -> (low, high), and ``lr``: the paper's ranges, as a last row.
    """
    heads = ["Learning rate", "Runs"]
    for name in variables:
        heads.append(plots.style(ds, name)[0] + (" (%)" if plots.is_percent(name) else ""))
    columns = {name: plots.by_lr(ds, name) for name in variables}
    rows = []
    for i, lr in enumerate(np.unique(ds["lr"].values)):
        here = ds.isel(run=ds["lr"].values == lr)
        valid = int(np.isfinite(here[variables[0]].values).sum())
        cells = [f"{lr:g}", f"{valid}\u00a0of\u00a0{here.sizes['run']}"]
        for name, (_, mean, sd) in columns.items():
            cells.append(_mean_sd(name, mean[i], sd[i], valid))
        rows.append(cells)
    if reference:
        ranges = [
            " to ".join(_plain(name, value) for value in reference[name])
            if name in reference
            else "–"
            for name in variables
        ]
        low, high = reference["lr"]
        rows.append([f"paper: {low:g} to {high:g}", "≥\u00a03 each", *ranges])
    return _html_table(heads, rows)


def _counts(split, n: int) -> np.ndarray:
    index = (split.y * n + split.bias).cpu().numpy()
    return np.bincount(index, minlength=n * n).reshape(n, n)


def _command(experiment: str, given: Mapping[str, Any]) -> str:
    chosen = [f"-p {name} {given[name]}" for name in ("dataset", "model", "profile")]
    for name in ("lrs", "seeds"):
        if given[name] is not None:
            chosen.append(f'-p {name} "{json.dumps(given[name])}"')
    return f"papermill notebooks/{experiment}.ipynb out.ipynb " + " ".join(chosen)


def _caption(ds: xr.Dataset, command: str | None) -> str:
    """Caption with a link to a shipped file, as seen from a page in notebooks/."""
    file = str(ds.attrs.get("file", ""))
    if command is None:
        options = "".join(f" --{n} {ds[n].values[0]}" for n in ("profile", "dataset", "model"))
        command = f"lrsc sweep {ds.attrs['experiment']}{options}" + (" --raw" if file else "")
    return plots.caption(ds, command, f"../{file}" if file else None)


def _paper(ds: xr.Dataset) -> dict | None:
    """Table S1's ranges, where the results are of the paper's own data."""
    if (ds["profile"].values == "quick").all():
        return None
    return experiments.reference(str(ds["dataset"].values[0]), str(ds["model"].values[0]))


def _say_unmeasured() -> None:
    from IPython.display import Markdown, display

    display(Markdown("*Not measured yet.*"))


def _sentence(text: str) -> str:
    text = re.sub(r"lrsc sweep.*$", r"`\g<0>`", text[0].upper() + text[1:])
    return text if text.endswith(".") else text + "."


def _numbers(name: str, value: Any, expected: str, valid) -> tuple | None:
    """None, or a non-empty tuple of valid and distinct numbers."""
    example = "[0.05, 0.5]" if name == "lrs" else "[0, 1, 2]"
    advice = f"give a list such as {example}, or None for the profile's own"
    found = value
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{name} is a string that holds no JSON list: {found!r}; {advice}"
            ) from error
    if value is None:
        return None
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values:
        raise ValueError(f"{name} is empty; {advice}")
    for each in values:
        if isinstance(each, bool) or not isinstance(each, int | float) or not valid(each):
            raise ValueError(f"{name} must be {expected}; found {each!r} in {found!r}; {advice}")
    if len(set(values)) < len(values):
        raise ValueError(f"{name} names a value twice: {found!r}; {advice}")
    return tuple(values)


def _is_literal(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_literal(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(_is_literal(each) for each in value)
    return value is None or isinstance(value, bool | int | float | str)


def _is_lr(value: float) -> bool:
    return math.isfinite(value) and value > 0


def _is_seed(value: float) -> bool:
    return isinstance(value, int) and value >= 0


def _image(figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=180)
    data = base64.b64encode(file.getvalue()).decode()
    alt = html.escape(figure.get_label(), quote=True)
    size = "flex:1 1 320px;min-width:0;width:100%;max-width:560px;height:auto"
    return f'<img src="data:image/png;base64,{data}" alt="{alt}" style="{size}">'


def _plain(name: str, value: float) -> str:
    return plots.number(name, value).removesuffix(" %")


def _mean_sd(name: str, mean: float, sd: float, runs: int) -> str:
    if not np.isfinite(mean):
        return "–"
    return _plain(name, mean) + (f"\u00a0±\u00a0{_plain(name, sd)}" if runs > 1 else "")


def _html_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in rest)
        + "</tr>"
        for first, *rest in rows
    )
    return (
        '<div style="overflow-x:auto"><table class="table" style="font-size:0.85em">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
