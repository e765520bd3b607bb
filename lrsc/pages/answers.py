"""The front page in words: a verdict, what reproduces and what not, why, what is open, the size."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lrsc import claims, experiments, plots
from lrsc.claims import evidence, scorecard
from lrsc.config import STATISTICS
from lrsc.pages import by_figure, scores
from lrsc.pages.display import span

FEW = "same direction, too few"
NO_EFFECT = "No effect is seen, with few rows and seeds, of the claims"
_SHORT = {"C1": "robustness", "C3": "compressibility of the activations",
          "C2": "compressibility of the parameters (prunability)"}  # fmt: skip
_CHOICES = ("colored_mnist", "resnet18")  # on which our choices were tried


def answers(rows: Sequence[xr.Dataset]) -> dict[str, str]:
    """What the page says, in Markdown, each part under its head, from the stored results.

    rows: those of the front page's figure.
    """
    verdicts, table = claims.verdicts(), scorecard.rows()
    does, does_not, is_open = by_verdict(verdicts)
    return {
        "In short": in_short(verdicts, table),
        "What reproduces": does,
        "What does not": f"{prunability(verdicts, table)} {does_not} {against_paper(table)}",
        "Why": f"{why_prunability(table)} {why_accuracy(table)}",
        "What is open": f"{mechanism(verdicts)} {is_open} {absent(by_figure.figures(verdicts))}",
        "At what scale": f"{scale(table)} {drawn(rows, table)}",
    }


def in_short(verdicts: Sequence[dict], table: Sequence[dict]) -> str:
    """The verdicts on the paper's two findings, and at what size, in a sentence."""
    parts = []
    for claim in (c for name in _SHORT for c in verdicts if c["id"] == name):
        of = [row["effect"] for row in claim["rows"]]
        count = f", {sum(effect > 0 for effect in of)} of {len(of)} rows" if of else ""
        verdict = "undecided" if claim["verdict"] == FEW else claim["verdict"]
        parts.append(f"{_SHORT[claim['id']]} is {verdict} ({claim['id']}{count})")
    measured = [row for row in table if row["status"] == "measured"]
    less = sum(row["profile"] != "paper" for row in measured)
    return (
        f"Of the paper's findings at large learning rates, {', '.join(parts[:-1])}, and "
        f"{parts[-1]}. "
        f"{less} of the {len(measured)} measured rows have fewer training samples than the "
        "paper's, or a part of its range."
    )


def by_verdict(verdicts: Sequence[dict]) -> tuple[str, str, str]:
    """Which claims are supported, which are contradicted or show no effect, which are open."""
    of: dict[str, list[dict]] = {}
    for claim in verdicts:
        of.setdefault(claim["verdict"], []).append(claim)
    known = of.get("supported", [])
    does = f"{len(known)} of the paper's {len(verdicts)} claims ([Scorecard](scorecard.ipynb))"
    does += f": {_listed(known)}. " if known else ". "
    against = len(of.get("contradicted", []))
    does += f"{against} contradicted." if against else "None is contradicted."
    heads = {"contradicted": "Contradicted", "no effect seen": NO_EFFECT}
    does_not = [f"{said}: {_listed(of[v])}." for v, said in heads.items() if v in of]
    few = [claim for claim in of.get(FEW, []) if claim["id"] not in ("C2", "C7")]  # said apart
    absent = of.get("not measured", [])
    is_open = (
        f"{len(few)} more point the paper's way, with too few rows or seeds to decide (" * bool(few)
    )
    is_open += f"{', '.join(claim['id'] for claim in few)})." if few else ""
    if absent:
        texts = "; ".join(f"{claim['text']} ({claim['id']})" for claim in absent)
        is_open += f" {len(absent)} {'is' if len(absent) == 1 else 'are'} not measured: {texts}."
    return does, " ".join(does_not), is_open.strip()


def prunability(verdicts: Sequence[dict], table: Sequence[dict]) -> str:
    """What is known of the claim on prunability: verdict, effects, rows in which it falls."""
    claim = next((c for c in verdicts if c["id"] == "C2" and c["rows"]), None)
    if claim is None or claim["verdict"] == "supported":
        return ""
    said = "undecided" if claim["verdict"] == FEW else claim["verdict"]
    plain = {(row["dataset"], row["model"]) for row in table
             if row["status"] == "measured" and not row["statistics"]}  # fmt: skip
    without = sum((row["dataset"], row["model"]) in plain for row in claim["rows"])
    text = f"Prunability (C2): {said}. It changes by {_effect(claim)} in networks without batch "
    text += f"normalisation ({without} of these rows) and with its means estimated anew"
    other = claim.get("by_statistics", {}).get("running")
    corrected = [row["corrected"] for row in claim["rows"] if row.get("corrected") is not None]
    if corrected:
        of = f"{sum(v > 0 for v in corrected)} of {len(corrected)} rows rise"
        text += f"; corrected for chance, by {float(np.mean(corrected)):+.3f} ({of})"
    text = text.replace("-", "\u2212")
    text += f". With running means it changes by {_effect(other)}." if other else "."
    named = [
        f"{plots.name_of(row['model'])} on {plots.name_of(row['dataset'])} ({row['effect']:+.3f})"
        for row in claim["rows"] if row.get("high") is not None and row["high"] < 0
    ]  # fmt: skip
    falls = f" It falls by more than seeds vary with {' and '.join(named)}; why is open."
    return text + falls.replace("(-", "(\u2212") * bool(named)


def mechanism(verdicts: Sequence[dict]) -> str:
    """The claim on the loss ratio in each of its definitions; empty where all support it."""
    claim = next((c for c in verdicts if c["id"] == "C7" and c["rows"]), None)
    known = claim["by_definition"] if claim else {}
    if all(one["verdict"] == "supported" for one in known.values()):
        return ""
    each = ", ".join(f"{_effect(one)} on {name}" for name, one in known.items())
    return f"Mechanism: accuracy and the largest loss ratio have a rank correlation (C7) of {each}."


def against_paper(table: Sequence[dict]) -> str:
    """In how many rows of S1 and S2 our range has the ends of the paper's, within the margins."""
    parts = []
    for measure in ("unbiased_accuracy", "prunability"):
        margin = scorecard.MARGINS[measure]
        gaps = [gap for row in table if (gap := scorecard.difference(row, measure)) is not None]
        met = sum(max(map(abs, gap)) <= margin for gap in gaps)
        shown = f"{100 * margin:g} points" if plots.is_percent(measure) else f"{margin:g}"
        label = plots.STYLES[measure][0].lower()
        parts += [f"{label} within {shown} in {met} of {len(gaps)} rows"] if gaps else []
    return (
        "Levels rarely equal the paper's: at both ends of its range " + ", ".join(parts) + "."
    ) * bool(parts)


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
    low, high = of[0][setting][[0, -1], 0]
    kept, _, anew = (span("prunability", *each[setting][[0, -1], 1]) for each in of)
    n = len(set(found[0]["seed"].values.tolist()))
    seeds = "one seed" if n == 1 else f"{n} seeds"
    data, init = setting[0].replace("rho", "ρ"), setting[1].removeprefix("init = ")
    of_trial = ", ".join(filter(None, [data, init and f"{init}'s initialisation"]))
    normalised = [row["statistics"] for row in table if row["statistics"]]
    return (
        "Prunability depends on a choice that the paper does not report: after filters are set to "
        "zero, the running means of batch normalisation belong to a network that is gone. In a "
        f"trial of {seeds} of ResNet18 on Colored MNIST ({plots.samples_of(found[0])} images, not "
        f"a run of the figure: {of_trial}), from LR "
        f"{low:g} to {high:g} it goes from {kept} with these means, and from {anew} with means "
        f"estimated anew{_paper('prunability')}; {normalised.count('running')} of the "
        f"{len(normalised)} measured rows with batch normalisation use running means "
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
        + f"{least} to {most} seeds of each value that counts there (paper: at least 3)."
    )


def drawn(rows: Sequence[xr.Dataset], table: Sequence[dict]) -> str:
    """How the figure's lines and the claims' rows come from the measured rows."""
    first = sum(row["status"] == "measured" and row["table"] == "S1" for row in table)
    names = [plots.names_of(row) for row in rows]
    twice = [f"{model} on {data}" for data, model in dict.fromkeys(names)
             if names.count((data, model)) > 1]  # fmt: skip
    text = f"{first} of the measured rows are S1's, on which C1, C3 and C4 are tested"
    if twice:
        text += f", each at one size; the figure has {len(rows)} lines, since it draws "
        text += f"{' and '.join(twice)} at several sizes of the training set"
    few = [
        f"{model} on {data} with {plots.samples_of(row)} images"
        for (data, model), row in zip(names, rows, strict=True) if _fewest_seeds(row) == 1
    ]  # fmt: skip
    return f"{text}{'; of one seed at an end: ' * bool(few)}{' and '.join(few)}."


def _fewest_seeds(row: xr.Dataset) -> int:
    """Of the smallest and the largest LR of a line."""
    ends = evidence.ends(evidence.grid(row, "unbiased_accuracy"))
    return min(int(np.isfinite(values).sum()) for values in ends)


def absent(figures: Sequence[dict]) -> str:
    """How many of the paper's figures and tables have no measurement here."""
    missing = sum(f["status"] in ("absent", "quick only") for f in figures)
    return (
        f"{missing} of the paper's {len(figures)} figures and tables have no measurement here "
        "([Figure by figure](by_figure.md))."
    )


def _effect(claim: dict) -> str:
    """Effect, interval and number of rows of a claim or one of its variants."""
    low, high = (f"{v:+.3f}" if v is not None else "?" for v in (claim["low"], claim["high"]))
    text = f"{claim['effect']:+.3f} ({low} to {high}, {claim['n_rows']} rows)"
    return text.replace("-", "\u2212")


def _listed(known: Sequence[dict]) -> str:
    """Claims by text and name, with the rows whose effect is in the claim's direction."""
    texts = []
    for claim in known:
        rows, n = claim["rows"], claim["n_rows"]
        up = sum(row["effect"] > 0 for row in rows)
        if n < len(rows):  # parts of rows, all of which have to hold
            up = n - len({(row["dataset"], row["model"]) for row in rows if not row["effect"] > 0})
        count = f", {up} of {n} rows"
        if n == 1:
            seeds = scores.seeds_of(claim)
            count = f", one row{seeds and f' of {seeds}'}"
        if claim["small"]:
            count += f"; the effect is small, {claim['effect']:+.3f}"
        texts.append(f"{claim['text']} ({claim['id']}{count if rows else ''})")
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
