"""The five lines of the front page: what reproduces, what does not, why, what is open, the size."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lrsc import claims, experiments, plots
from lrsc.claims import scorecard
from lrsc.config import STATISTICS
from lrsc.pages import by_figure
from lrsc.pages.display import span

AGAINST = ("contradicted", "no effect seen")  # verdicts on claims that do not reproduce
_CHOICES = ("colored_mnist", "resnet18")  # on which our choices were tried


def answers(rows: Sequence[xr.Dataset]) -> dict[str, str]:
    """What the five lines say, in Markdown, each under its head, from the stored results.

    rows: those of the front page's figure.
    """
    verdicts, table = claims.verdicts(), scorecard.rows()
    does, does_not, is_open = by_verdict(verdicts)
    return {
        "What reproduces": does,
        "What does not": f"{does_not} {not_rising(rows)} {against_paper(table)}",
        "Why": f"{why_prunability(table)} {why_accuracy(table)}",
        "What is open": f"{is_open} {absent(by_figure.figures(verdicts))}",
        "At what scale": scale(table),
    }


def by_verdict(verdicts: Sequence[dict]) -> tuple[str, str, str]:
    """Which claims are supported, which are contradicted or show no effect, which are open."""
    of: dict[str, list[dict]] = {}
    for claim in verdicts:
        of.setdefault(claim["verdict"], []).append(claim)
    known = of.pop("supported", [])
    does = f"{len(known)} of the paper's {len(verdicts)} claims"
    does += f": {_listed(known, counted=True)}." if known else "."
    against = [f"{v}: {_listed(of.pop(v), counted=True)}." for v in AGAINST if v in of]
    is_open = [f"{verdict} ({len(c)}): {_listed(c)}." for verdict, c in of.items()]
    return does, " ".join(map(_capital, against)), " ".join(map(_capital, is_open))


def not_rising(rows: Sequence[xr.Dataset]) -> str:
    """In how many rows each main measure is no higher at the largest LR than at the smallest."""
    parts = []
    for name in plots.MAIN:
        known = [found[:2] for ds in rows if (found := by_figure.rises(ds, name))]
        falls = sum(high <= low for low, high in known)
        label = plots.STYLES[name][0].lower()
        parts += [f"{label} in {falls} of {len(known)} rows"] if falls else []
    return f"No higher at the largest LR than at the smallest: {', '.join(parts)}." * bool(parts)


def against_paper(table: Sequence[dict]) -> str:
    """In how many rows of S1 and S2 our range has the ends of the paper's, within the margins."""
    parts = []
    for measure in ("unbiased_accuracy", "prunability"):
        margin = scorecard.MARGINS[measure]
        gaps = [gap for row in table if (gap := scorecard.difference(row, measure)) is not None]
        met = sum(max(map(abs, gap)) <= margin for gap in gaps)
        shown = f"{100 * margin:g} points" if plots.is_percent(measure) else f"{margin:g}"
        label = plots.STYLES[measure][0].lower()
        parts += [f"of {label} in {met} of {len(gaps)} rows (within {shown})"] if gaps else []
    return f"Both ends of the paper's range are met: {', '.join(parts)}." * bool(parts)


def why_prunability(table: Sequence[dict]) -> str:
    """What prunability depends on beside the LR: the statistics of batch normalisation.

    Of the runs of `choices` in a setting that has two LRs in all statistics, the last such one.
    """
    found = [experiments.measured("choices", "paper", None, *_CHOICES, "settings", statistics=mode)
             for mode in STATISTICS]  # fmt: skip
    of = [{} if ds is None or "prunability" not in ds else _by_setting(ds) for ds in found]
    shared = [setting for setting in of[0] if all(len(each.get(setting, ())) > 1 for each in of)]
    if found[0] is None or not shared:
        return ""
    setting = shared[-1]
    (low, high), at = of[0][setting][[0, -1], 0], ", ".join(filter(None, setting))
    kept, _, anew = (span("prunability", *each[setting][[0, -1], 1]) for each in of)
    measured = [row["statistics"] for row in table if row["status"] == "measured"]
    return (
        "Prunability depends on a choice that the paper does not report: the statistics that batch "
        "normalisation uses once filters are set to zero. ResNet18 on Colored MNIST, "
        f"{plots.samples_of(found[0])} training images, {at and f'{at}, '}LR {low:g} to {high:g}: "
        f"{kept} with the means kept from training, which belong to the network before pruning, "
        f"and {anew} with means estimated anew after it{_paper('prunability')}. Of "
        f"{len(measured)} measured rows {measured.count('running')} have the former "
        "([What our choices change](choices.ipynb))."
    )


def why_accuracy(table: Sequence[dict]) -> str:
    """What the number of training images does to accuracy, at the largest LR of `choices`."""
    ds = experiments.measured("choices", "desk", None, *_CHOICES, "lr")
    sizes = [row["n"] for row in table if row["status"] == "measured"]
    if ds is None or not sizes:
        return ""
    ds = ds.isel(run=ds["lr"].values == ds["lr"].values.max())
    of = dict(zip(ds["n_train"].values.tolist(), ds["unbiased_accuracy"].values, strict=True))
    usual, largest = max(set(sizes), key=sizes.count), max(of)
    if usual not in of or usual == largest:
        return ""
    small, large = (plots.number("unbiased_accuracy", of[n]) for n in (usual, largest))
    return (
        "Accuracy depends on the number of training images: a ResNet18 on the same data at LR "
        f"{ds['lr'].values[0]:g} has {small} with {usual:,} of them and {large} with {largest:,}"
        f"{_paper('unbiased_accuracy')}."
    )


def scale(table: Sequence[dict]) -> str:
    """How many rows of tables S1 and S2 are measured, and on how many training images."""
    measured = [row for row in table if row["status"] == "measured"]
    if not measured:
        return f"None of the {len(table)} rows of the paper's tables S1 and S2 is measured."
    rest = [row["n"] for row in measured if row["profile"] != "paper"]
    of = " and ".join(f"{rest.count(n)} with {n:,}" for n in sorted(set(rest)))
    least, most = min(row["seeds"] for row in measured), max(row["seeds"] for row in measured)
    return (
        f"{len(measured)} of the {len(table)} rows of the paper's tables S1 and S2 are measured, "
        f"{len(measured) - len(rest)} of them at the paper's size and over its whole range of LRs. "
        + f"The others, over a part of the range or smaller: {of} training images. " * bool(of)
        + f"{least} to {most} seeds in each, where the paper has at least 3."
    )


def absent(figures: Sequence[dict]) -> str:
    """How many of the paper's figures and tables have no measurement here."""
    missing = sum(f["status"] in ("absent", "quick only") for f in figures)
    return (
        f"{missing} of the paper's {len(figures)} figures and tables have no measurement here "
        "([Figure by figure](by_figure.md))."
    )


def _listed(known: Sequence[dict], counted: bool = False) -> str:
    """Claims by their text, with the rows whose effect is in the claim's direction."""
    texts = []
    for claim in known:
        effects = [row["effect"] for row in claim["rows"]]
        count = f" (in {sum(e > 0 for e in effects)} of {len(effects)} rows)" if effects else ""
        texts.append(claim["text"] + count * counted)
    return "; ".join(texts)


def _by_setting(ds: xr.Dataset) -> dict[tuple[str, str], np.ndarray]:
    """(data, options of the model) -> LR and prunability of its runs, by LR."""
    of: dict[tuple[str, str], list] = {}
    names = ("data", "model_options", "lr", "prunability")
    known = ds.isel(run=np.isfinite(ds["prunability"].values))
    for data, options, *pair in zip(*(known[n].values.tolist() for n in names), strict=True):
        of.setdefault((data, options), []).append(pair)
    return {setting: np.array(sorted(pairs)) for setting, pairs in of.items()}


def _paper(measure: str) -> str:
    """Table S1's range of a measure and of the LR, for the network on which choices were tried."""
    known = experiments.reference(*_CHOICES)
    if known is None:
        return ""
    unit = " %" if plots.is_percent(measure) else ""
    low, high = known["lr"]
    return f" (paper, LR {low:g} to {high:g}: {span(measure, *known[measure])}{unit})"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
