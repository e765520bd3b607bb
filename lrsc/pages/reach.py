"""What is shown of one's own network: the page of an audit, and LRs by several rules."""

import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc import __version__, experiments, plots
from lrsc.pages.display import show_cells, show_html, show_trial

GROUPS = 12  # lowest groups that are listed where there are more
LEAST_GROUP = 10  # test samples, below which a group is marked
NEAR = 1.6  # factor within which two LRs count as the same
STORED = ("synthetic", "semi_synthetic", "standard_classification", "naturalistic")
_COSTS = {  # of a network: what it is called, unit, divisor
    "parameters": ("Parameters", "million", 1e6), "macs": ("Multiply-accumulates", "million", 1e6),
    "bytes": ("File", "MB", 1e6), "seconds": ("Latency", "ms", 1e-3),
}  # fmt: skip
_BETTER = (
    "Higher is better for accuracies, class selectivity and separation, prunability, and the share "
    "of the attribution on the core region; lower for the accuracy gap, bias selectivity, and the "
    "share on the spurious region. Compressibility and sparsity say how few neurons carry the "
    "activations, entropy how widely the evidence is spread."
)
_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5f6670; --line: #d5d9de; --back: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --soft: #a0a7b0; --line: #3c4148; --back: #15171a }
  figure.drawn svg { filter: invert(0.92) hue-rotate(180deg) }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; overflow-wrap: anywhere } h2 { font-size: 1.15rem; margin-top: 2.2rem }
table { border-collapse: collapse; display: block; overflow-x: auto; font-size: .92rem }
td, th { padding: .25rem .8rem .25rem 0; text-align: left; border-bottom: 1px solid var(--line) }
td.n, th.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
th.n { white-space: normal; overflow-wrap: anywhere; min-width: 4rem } th { vertical-align: bottom }
td:first-child { min-width: 7rem; overflow-wrap: anywhere }
.soft, figcaption { color: var(--soft); font-size: .88rem }
figure { margin: 1rem 0 } svg { width: 40rem; max-width: 100%; height: auto }
@media (max-width: 40rem) {
  table { font-size: .74rem } td, th { padding-right: .4rem } td.n { white-space: normal }
  td:first-child { min-width: 5.6rem } th.n { min-width: 3.4rem }
}
@media print { body { margin: 0; max-width: none } h2, figure { break-inside: avoid } }
"""


def show_finders() -> None:
    """Display which LRs `largest_lr` and other rules choose on stored grids, and their results."""
    show_trial("lr_finders", _finders)


def _finders(found: dict, command: str) -> None:
    heads = ["Data, network", "Rule", "LR", "Nearest run's LR", "Unbiased accuracy (%)",
             "Worst group (%)", "Prunability"]  # fmt: skip
    cells = [row for key, grid in found.items() for row in _of_grid(key, grid)]
    show_cells(heads, cells, _summary(found, command))


def _of_grid(key: str, found: dict) -> list[list[str]]:
    """The grid's best LR, then a row a rule."""
    best, head = f"{found['best']:g}", f"{_named(key)}, {found['n_train']:,}"
    rows = [[head, "best of the grid", best, best, f"{100 * found['grid'][best]:.1f}", "", ""]]
    accuracies = ("unbiased_accuracy", "worst_group_accuracy")
    measures = (*((name, 100, 1) for name in accuracies), ("prunability", 1, 2))
    for rule, gives in found["named"].items():
        shown = [
            f"{many * gives[name]:.{digits}f}"
            if np.isfinite(np.array(gives.get(name), float))
            else "–"
            for name, many, digits in measures
        ]
        at = f"{gives['of_lr']:.3g}" if "of_lr" in gives else "none near"
        rows.append(["", rule, f"{gives['lr']:.3g}", at, *shown])
    return rows


def _named(key: str) -> str:
    return ", ".join(plots.name_of(name) for name in key.split("/"))


def _summary(found: dict, command: str) -> str:
    factors = {key: row["factor"] for key, row in found.items()}
    far = ", ".join(
        f"{_named(key)} ({by:.2g} times{_above(found[key])})"
        for key, by in factors.items() if by > NEAR
    )  # fmt: skip
    return (
        f"`largest_lr` names an LR within a factor of {NEAR:g} of the grid's best in "
        f"{sum(by <= NEAR for by in factors.values())} of {len(factors)} grids, without test data "
        "and with no more updates than two training runs of the grid's median length."
        f"{f' Missed: {far}.' if far else ''} Measures come from the stored run at the nearest LR "
        "or, where none is near, from networks trained at it: with three seeds on the synthetic "
        "data, with one on others, or not yet. With so few seeds, differences of a point or two "
        f"mean nothing. Made by `{command}`."
    )


def _above(row: dict) -> str:
    """Whether the LR that is called useful lies above all that the grid has."""
    useful = row["named"]["largest_lr, useful"]["lr"]
    return ", above the grid's largest" if useful > max(map(float, row["grid"])) else ""


def show_audit(*audits: Any) -> None:
    """Display the page of one or more audits (`lrsc.audit`) in a frame of its own."""
    made = html.escape(page([one.dataset for one in audits]))
    show_html(
        f'<div><iframe srcdoc="{made}" title="Audit" style="width:100%;height:42rem;border:1px '
        'solid #8884"></iframe></div>'
    )


def page(audits: Sequence[xr.Dataset]) -> str:
    """HTML of audits of one data set, side by side. ValueError for those of different ones."""
    first = audits[0].attrs
    for other in audits[1:]:
        if (other.attrs["data"], other.attrs["checksum"]) != (first["data"], first["checksum"]):
            raise ValueError(
                f"audits must be of the same data, found {first['data']!r} and "
                f"{other.attrs['data']!r}"
            )
    names = _names(audits)
    title = f"{' and '.join(names)} on {first['data']}"
    parts = [(head, made(audits, names)) for head, made in _SECTIONS]
    body = "".join(f"<h2>{head}</h2>\n{text}\n" for head, text in parts if text)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>"
        f"<h1>{html.escape(title)}</h1>\n{body}"
        f'<p class="soft">Made by lrsc {__version__}. Intervals: 95 % bootstrap over the test '
        "samples (Wilson's, where all of them are right, or none is). They do not cover variation "
        "between training seeds.</p></body></html>\n"
    )


def _names(audits: Sequence[xr.Dataset]) -> list[str]:
    names = [str(one.attrs["model"]) for one in audits]
    return [f"{name} ({k + 1})" if names.count(name) > 1 else name for k, name in enumerate(names)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Rows under their heads; the columns after the first ones hold numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if k >= text_columns else ''}>{html.escape(cell)}</{tag}>"
            for k, cell in enumerate(row)
        )

    def numbers(row: Sequence[str]) -> list[str]:  # narrow columns break before intervals only
        whole = [cell.replace(" ", "\u00a0").replace("\u00a0(", " (") for cell in row]
        return [*row[:text_columns], *whole[text_columns:]]

    lines = [cells(head, "th"), *(cells(numbers(row), "td") for row in rows)]
    return "<table>" + "".join(f"<tr>{line}</tr>\n" for line in lines) + "</table>"


def _figure(figure, caption: str, drawn: bool = True) -> str:
    made = io.StringIO()
    figure.savefig(made, format="svg", transparent=True)
    svg = made.getvalue()
    svg = svg[svg.index("<svg") :].replace(
        "<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1
    )
    kind = ' class="drawn"' if drawn else ""
    return f"<figure{kind}>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _one(found: xr.Dataset, name: str) -> str:
    """A number with its interval, as people write it; a dash where there is none."""
    if name not in found["measure"].values:
        return "-"
    row = found.sel(measure=name)
    many, digits, unit = (100, 1, " %") if bool(row["percent"]) else (1, 3, "")
    value, low, high = (f"{many * float(row[key]):.{digits}f}" for key in ("value", "low", "high"))
    interval = f" ({low} to {high})" if low != high else ""
    return f"{value}{unit}{interval}" if value != "nan" else "-"


def _short_number(value: float) -> str:
    return f"{value:,.2f}" if value >= 1 else f"{value:.2g}"


def _short(audits: Sequence[xr.Dataset], names: list[str]) -> str:
    said = []
    for found, name in zip(audits, names, strict=True):
        has = set(found["measure"].values.tolist())
        text = f"<b>{html.escape(name)}</b>: {_one(found, 'unbiased_accuracy')} of "
        text += f"{found.attrs['n_test']:,} test samples are right"
        if "worst_group_accuracy" in has:
            text += f", {_one(found, 'worst_group_accuracy')} in the worst group"
        if "shrunk_kappa" in found:
            before, after = map(_short_number, found["cost"].sel(quantity="bytes").values / 1e6)
            text += (
                f". Without {100 * float(found['shrunk_kappa']):.0f} % of the filters of each "
                f"layer it keeps its accuracy to a point; {100 * float(found['removed']):.0f} % of "
                f"all can be taken out, which shrinks its file from {before} to {after} MB"
            )
        said.append(f"<p>{text}.</p>")
    return "\n".join(said)


def _numbers(audits: Sequence[xr.Dataset], names: list[str]) -> str:
    order = dict.fromkeys(name for one in audits for name in one["measure"].values.tolist())
    rows = []
    for name in order:
        has = [one.sel(measure=name) for one in audits if name in one["measure"].values]
        label = str(has[0]["label"].values)
        if name == "worst_group_accuracy" and len({str(one["label"].values) for one in has}) > 1:
            label = "Accuracy of the worst group"
        samples = f"{int(has[0]['samples']):,}"
        rows.append([label, samples, *(_one(one, name) for one in audits)])
    return f"<p class=soft>{_BETTER}</p>" + _table(["Measure", "Test samples", *names], rows)


def _groups(audits: Sequence[xr.Dataset], names: list[str]) -> str:
    if "group" not in audits[0].dims:
        return ""
    first = audits[0]
    worst = np.min([one["group_value"].values for one in audits], 0)
    lowest = np.lexsort((-first["group_samples"].values, worst))
    few = first["group_samples"].values < LEAST_GROUP
    rows = [
        [str(first["group"].values[k]), f"{int(first['group_samples'][k]):,}{'*' * int(few[k])}",
         *(f"{100 * float(one['group_value'][k]):.1f} % ({100 * float(one['group_low'][k]):.1f} to "
           f"{100 * float(one['group_high'][k]):.1f})" for one in audits)]
        for k in lowest[:GROUPS]
    ]  # fmt: skip
    left = len(lowest) - len(rows)
    more = f", the {len(rows)} lowest of {len(lowest)}" if left else ""
    star = f" * fewer than {LEAST_GROUP} samples." if few.any() else ""
    text = f"Accuracy of each group{more}.{star}"
    return f"<p class=soft>{html.escape(text)}</p>" + _table(
        ["Group", "Test samples", *names], rows
    )


def _gallery(audits: Sequence[xr.Dataset], names: list[str]) -> str:
    made = []
    for found, name in zip(audits, names, strict=True):
        if "image" in found:
            kind = "conflicting" if "shown_bias" in found else "test"
            caption = (
                f"{name}: {found.sizes['shown']} {kind} samples with their class, wrong ones "
                "first, and the evidence for it (magnitude of Integrated Gradients, bright where "
                "large)."
            )
            made.append(_figure(plots.audited_samples(found), caption, drawn=False))
    return "\n".join(made)


def _pruning(audits: Sequence[xr.Dataset], names: list[str]) -> str:
    if not any("accuracy_pruned" in one for one in audits):
        return ""
    has = [one for one in audits if "accuracy_pruned" in one]
    many = int(has[0]["pruned_samples"])
    renewed = (
        " Recalibrated: batch normalisation's statistics re-estimated from training samples."
        if any(one.sizes["statistics"] > 1 for one in has) else ""
    )  # fmt: skip
    caption = (
        f"Accuracy on {many:,} test samples after removing the filters of smallest norm, the same "
        "share in each layer, without further training. Bands: 95 % intervals; dotted: the share "
        f"of the largest class, which is the chance floor.{renewed}"
    )
    return _figure(plots.audited_pruning(audits, names), caption)


def _costs(audits: Sequence[xr.Dataset], names: list[str]) -> str:
    rows = []
    for found, name in zip(audits, names, strict=True):
        if "cost" not in found:
            continue
        kappa, batch = float(found["shrunk_kappa"]), int(found["batch"])
        rows.append([name, "Filters taken out", "", f"{100 * float(found['removed']):.0f} %"])
        for quantity, (label, unit, divisor) in _COSTS.items():
            cost = found["cost"].sel(quantity=quantity).values / divisor
            before, after = (f"{_short_number(value)} {unit}" for value in cost)
            extra = f", batch of {batch}" if quantity == "seconds" else ""
            rows.append(["", label + extra, before, after])
        rows.append(["", f"Accuracy at {100 * kappa:.0f} %", "",
                     f"{100 * float(found['shrunk_accuracy']):.1f} %"])  # fmt: skip
    if not rows:
        return ""
    text = (
        "The largest share of each layer's filters that can be set to zero for at most one point "
        "of accuracy on the samples of the figure above. Those that no shortcut adds to another "
        "layer's are taken out. Latency is the median on this machine."
    )
    return f"<p class=soft>{text}</p>" + _table(["", "", "Before", "After"], rows, 2)


def _plane(audits: Sequence[xr.Dataset], names: list[str]) -> str:
    first = audits[0]
    stored = _stored(str(first.attrs["data"]))
    if not stored["run"].size or "prunability" not in first["measure"].values:
        return ""
    sizes = sorted({int(n) for n in stored["n_train"].values})
    caption = (
        f"Accuracy against prunability, in running statistics: {stored.sizes['run']} runs "
        f"stored with the book ({' or '.join(f'{n:,}' for n in sizes)} training images, "
        f"{', '.join(sorted(set(stored['model'].values.tolist())))}), larger points at larger "
        f"learning rates; this audit's network saw {first.attrs['n_train']:,} training images. "
        "Compare only runs of the same model and number of training images."
    )
    return _figure(plots.audited_plane(stored, audits, names), caption)


def _stored(data: str) -> xr.Dataset:
    """Accuracy and prunability of the runs of this data set that ship."""
    names = ["unbiased_accuracy", "prunability"]
    parts = []
    for name in STORED:
        found = experiments.shipped(name)
        if found is None or "prunability" not in found:
            continue
        found = experiments.in_statistics(found, "running")
        here = (found["dataset"] == data) & found["prunability"].notnull()
        parts.append(found[names].isel(run=here.values))
    return xr.concat(parts, "run") if parts else xr.Dataset({n: ("run", []) for n in names})


def _missing(audits: Sequence[xr.Dataset], names: list[str]) -> str:
    lines = dict.fromkeys(
        line for one in audits for line in str(one.attrs["note"]).split("\n") if line
    )
    return "".join(f"<p>{html.escape(line)}</p>" for line in lines)


_SECTIONS: tuple[tuple[str, Callable[[Sequence[xr.Dataset], list[str]], str]], ...] = (
    ("In short", _short), ("Numbers", _numbers), ("Groups", _groups),
    ("What it looks at", _gallery), ("How far it can be pruned", _pruning),
    ("What shrinking saves", _costs), ("Compared with the book's runs", _plane),
    ("Left out", _missing),
)  # fmt: skip
