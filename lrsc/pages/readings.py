"""What a figure shows, in two or three sentences whose numbers are read from the results."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from lrsc import plots, significance
from lrsc.claims import evidence
from lrsc.pages import display
from lrsc.plots import words

LEVEL = 0.05
STAYS = "hardly changes,"
# what the paper reports to rise with the learning rate
RISE = (*plots.MAIN, "prunability_corrected", "csi", "class_separation")


def say_each(rows: Sequence[xr.Dataset], read: Callable[[xr.Dataset], str]) -> None:
    """Display what is read from each row, under its name where there are several."""
    texts = {plots.row_name(row): text for row in rows if (text := read(row))}
    if len(texts) == 1:
        return display.say(f"**What it shows.** {next(iter(texts.values()))}")
    if texts:
        display.say("\n".join(f"- **{name}:** {text}" for name, text in texts.items()))


def of_curves(ds: xr.Dataset, variables: Sequence[str] = plots.MAIN) -> str:
    """How each variable changes from the smallest value swept to the largest, and if it should.

    p is of Welch's test over seeds, given where it is above LEVEL. Empty for fewer than two values.
    """
    by, seeds = plots.axis_name(ds), []
    said: dict[str, list[str]] = {"rises": [], "falls": [], STAYS: []}
    paper, rise, weak = plots.paper_range(ds), [], []
    for name in (v for v in variables if v in ds):
        table = evidence.grid(ds, name)
        if table.shape[1] < 2:
            continue
        low, high = (table.iloc[:, at].dropna().to_numpy() for at in (0, -1))
        seeds.append(min(len(low), len(high)))
        of, label = significance.difference(low, high), _label(ds, name)
        way = STAYS if words.is_flat(ds, name) else "rises" if of.effect > 0 else "falls"
        verb = f" {way}" if not said[way] else ""
        said[way].append(f"{label}{verb} from {_ends(name, table)}")
        if of.p >= LEVEL:  # False where it cannot be tested, as NaN
            said[way][-1] += f" (p = {of.p:.3f})"
        if name in RISE and np.ptp(paper.get(name, (0, 1))) > words.FLAT:
            rise.append((label, way == "rises"))
            weak += [label] * bool(way == "rises" and of.p >= LEVEL)
    if not seeds:
        return ""
    lrs = np.unique(ds["lr"].values)
    parts = "; ".join(", ".join(texts) for texts in said.values() if texts)
    if by != "learning rate":
        return f"From {lrs[0]:g} to {lrs[-1]:g} ({by}), {parts}."
    text = f"From learning rate {lrs[0]:g} to {lrs[-1]:g}, {parts}."
    if min(seeds) < significance.SEEDS:
        text += f" With {_counted(min(seeds), 'seed')} at an end, differences are not tested."
    return text + _beside_paper(rise, weak)


def _ends(name: str, table) -> str:
    """Means at both ends of a table of seeds and LRs, and a higher one between them."""
    means = table.mean()
    first, last = (plots.number(name, float(means.iloc[at])) for at in (0, -1))
    text, best = f"{first.removesuffix(' %')} to {last}", means.idxmax()
    if means[best] > means.iloc[[0, -1]].max() + words.FLAT:
        text += f", with {plots.number(name, float(means[best]))} at {best:g}"
    return text


def of_rows(rows: Sequence[xr.Dataset], variables: Sequence[str]) -> str:
    """In how many rows each variable is higher at the largest LR than at the smallest."""
    parts = []
    for name in variables:
        ends = [plots.ends(_plain(row, name), name) for row in rows if name in row]
        known = [pair for pair in ends if pair is not None and pair[0] != pair[1]]
        if known:
            higher = sum(high[1] > low[1] for low, high in known)
            parts.append(f"{_label(rows[0], name)} in {higher} of {len(known)} rows")
    return f"Higher at the largest learning rate: {', '.join(parts)}." if parts else ""


def _plain(row: xr.Dataset, name: str) -> xr.Dataset:
    """A variable without orders and shares, at those used elsewhere."""
    return row.sel(q=2.0, kept=0.1) if {"q", "kept"} <= set(row[name].dims) else row


def of_pruning(ds: xr.Dataset, method: str = "column", kappa: float = 0.5) -> str:
    """What is left at the smallest and the largest LR without a share kappa; empty for no curve."""
    name = f"accuracy_pruned_{method}"
    if name not in ds:
        return ""
    at = int(np.argmin(abs(ds["kappa"].values - kappa)))
    before = plots.ends(ds, "unbiased_accuracy")
    after = plots.ends(ds.assign(left=("run", ds[name].values[:, at])), "left")
    if before is None or after is None:
        return ""
    what = "filters or neurons of each layer" if method == "column" else "weights"
    parts = [
        f"{plots.number('unbiased_accuracy', left)} instead of "
        f"{plots.number('unbiased_accuracy', whole)} at learning rate {lr:g}"
        for (lr, whole), (_, left) in zip(before, after, strict=True)
    ]
    parts = list(dict.fromkeys(parts))
    share = float(ds["kappa"].values[at])
    text = f"Without {100 * share:.0f} % of the {what}, accuracy is {_listed(parts)}."
    if "chance" in ds and np.isfinite(ds["chance"].values).any():
        text += f" Chance is {plots.number('unbiased_accuracy', float(ds['chance'].mean()))}."
    return text


def of_shares(ds: xr.Dataset) -> str:
    """Where attribution lies at the end of training, at the smallest and at the largest LR."""
    parts = []
    for region in words.REGIONS:
        if (name := f"curve_attribution_{region}") in ds:
            values = _reduced(ds, name, lambda run: run[-1])
            if len(values := list(dict.fromkeys(values))) > 1:
                parts.append(f"{region} {values[0][1]:.2f} to {values[1][1]:.2f}")
    if not parts:
        return ""
    return (
        f"At the end of training, from learning rate {values[0][0]:g} to {values[1][0]:g}, shares "
        f"of the attribution change: {', '.join(parts)}."
    )


def of_dynamics(ds: xr.Dataset) -> str:
    """How high the loss ratio gets, and from when on half of the conflicting samples are right."""
    text, name = "", "curve_dynamics_loss_ratio"
    if name in ds and len(ends := _reduced(ds, name, np.max)) == 2 and ends[0] != ends[1]:
        (low, first), (high, last) = ends
        text = f"The loss ratio peaks at {first:.2f} at learning rate {low:g}, at {last:.2f} at "
        text += f"{high:g}."
    if (name := "curve_dynamics_bc_accuracy") in ds:
        of_run = zip(ds["dynamics_step"].values, ds[name].values, strict=True)
        when = [next((s for s, right in zip(*run, strict=True) if right >= 0.5), np.nan)
                for run in of_run]  # fmt: skip
        both = plots.ends(ds.assign(when=("run", np.array(when, float))), "when")
        if both is not None and both[0] != both[1]:
            text += " Half of the conflicting training samples are right from iteration "
            text += " and ".join(f"{step:,.0f} on at {lr:g}" for lr, step in both) + "."
    return text.strip()


def of_dominance(kept: Mapping[tuple[float, int], Sequence[float]]) -> str:
    """(LR, seed) -> shares of the class- and of the bias-dominant neurons that stay so."""
    parts, shares = [], []
    for lr in dict.fromkeys((min(kept)[0], max(kept)[0])):
        of_class, of_bias = np.nanmean([v for at, v in kept.items() if at[0] == lr], axis=0)
        parts.append(
            f"at learning rate {lr:g}, {100 * of_class:.0f} % of the class-dominant neurons stay "
            f"so and {100 * of_bias:.0f} % of the bias-dominant ones"
        )
        shares.append(of_class)
    text = "; ".join(parts)
    text = f"{text[0].upper()}{text[1:]}. The paper reports that class-dominant neurons persist, "
    text += "more so at the high learning rate"
    if len(shares) == 2:
        text += f"; here {'more' if shares[1] > shares[0] + words.FLAT else 'no more'} so"
    return text + "."


def of_updates(responses: Mapping[str, Sequence[Mapping]], every: int) -> str:
    """How far the spurious share moves after a neuron's largest updates, and after others.

    responses, every: as `plots.update_response` has them.
    """
    parts = []
    for title, of_seeds in responses.items():
        large, other = (
            100 * float(np.mean([of[kind][-1] for of in of_seeds])) for kind in ("large", "other")
        )
        parts.append(f"by {large:+.2f} points at {title} ({other:+.2f} after other moments)")
    after = int(next(iter(responses.values()))[0]["lag"][-1]) * every
    text = f"From an update to {after:,} iterations later the spurious share changes "
    return f"{text}{_listed(parts)}.".replace(" -", " \u2212").replace("(-", "(\u2212")


def of_gallery(found: xr.Dataset, changes: Mapping[str, Mapping[str, float]]) -> str:
    """How many samples only the high LR gets right, and where the maps of these differ.

    changes: as for `of_paired`.
    """
    share = found.attrs["only_high"] / found.attrs["n_test"]
    text = f"{100 * share:.1f} % of the test samples are right only at the high learning rate."
    parts = [f"the {title} goes from {of['low']:.3f} to {of['high']:.3f}"
             for title, of in changes.items() if np.isfinite(of["difference"])]  # fmt: skip
    return f"{text} On these, from the low to the high one, {_listed(parts)}." if parts else text


def of_orders(rows: Sequence[xr.Dataset], name: str) -> str:
    """In how many rows compressibility is higher at the largest LR, at each order and share."""
    counts, known = {}, 0
    for q in rows[0]["q"].values:
        for kept in rows[0]["kept"].values:
            ends = [plots.ends(row.sel(q=q, kept=kept), name) for row in rows]
            pairs = [pair for pair in ends if pair is not None and pair[0] != pair[1]]
            counts[q, kept] = sum(high[1] > low[1] for low, high in pairs)
            known = max(known, len(pairs))
    if not known:
        return ""
    (q, kept), least = min(counts.items(), key=lambda of: of[1])
    text = f"It is higher at the largest learning rate in {max(counts.values())} of {known} rows"
    if least == max(counts.values()):
        return f"{text}, at every order and share."
    return f"{text} at most, and at least in {least}, with q = {q:g} and κ = {kept:g}."


def of_choices(choices: Mapping[str, xr.Dataset], variables: Sequence[str]) -> str:
    """Under how many options main measures are higher at the largest LR, and how these differ.

    choices: an option's name -> its runs.
    """
    parts = []
    for name in (v for v in variables if v in plots.MAIN):
        ends = [plots.ends(ds, name) for ds in choices.values()]
        known = [pair for pair in ends if pair is not None]
        several = [pair for pair in known if pair[0][0] < pair[1][0]]
        last = [high for (_, (lr, high)) in known if lr == max(pair[1][0] for pair in known)]
        if len(last) < 2:
            continue
        higher = sum(high[1] > low[1] for low, high in several)
        at = f"higher at the largest learning rate under {higher} of {len(several)} options, "
        parts.append(
            f"{_label(next(iter(choices.values())), name)} is {at * bool(several)}between "
            f"{plots.number(name, min(last))} and {plots.number(name, max(last))} there"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def of_criteria(mean: xr.DataArray) -> str:
    """Which pruning criterion leaves most at the largest LR, in each of the statistics.

    mean: over kappa, with the dimensions criterion, statistics, init and lr.
    """
    lr = mean["lr"].values.max()
    parts = []
    for mode in mean["statistics"].values:
        here = mean.sel(statistics=mode, lr=lr).max("init").dropna("criterion").to_series()
        if here.size:
            parts.append(
                f"with {mode} statistics {here.min():.2f} ({here.idxmin()}) to {here.max():.2f} "
                f"({here.idxmax()})"
            )
    said = f"At learning rate {lr:g} prunability by criterion is, {'; '.join(parts)}."
    return said if parts else ""


def of_soup(found: xr.Dataset, variables: Sequence[str] = plots.MAIN) -> str:
    """Each measure of the soups, and of their networks, as means over seeds."""
    mixed, parts = found["kind"].values == "soup", []
    for name in variables:
        soup, networks = (float(np.nanmean(found[name].values[of])) for of in (mixed, ~mixed))
        shown = plots.number(name, soup), plots.number(name, networks)
        parts.append(f"{_label(found, name)} {shown[0]} (networks {shown[1]})")
    return f"Soup beside the mean of its networks: {_listed(parts)}."


def of_correlations(found: Sequence[tuple[float, float, float]]) -> str:
    """Rank correlations with their intervals, one a row."""
    known = [each for each in found if np.isfinite(each[0])]
    clear = [low < high and (low > 0 or high < 0) for _, low, high in known]
    return (
        f"accuracy goes up with the loss ratio in {sum(r > 0 for r, *_ in known)} of {len(known)} "
        f"rows; the interval excludes zero in {sum(clear)}."
    )


def of_tradeoffs(ds: xr.Dataset, variables: Sequence[str]) -> str:
    """Which intervention reaches the highest mean of each measure, and at which value."""
    parts = []
    for name in (v for v in variables if v in ds):
        means = ds[name].to_series().groupby([ds["hyperparameter"].values, ds["value"].values])
        if (mean := means.mean().dropna()).size:
            which, value = mean.idxmax()
            shown, most = plots.hyperparameter(which)[0], plots.number(name, float(mean.max()))
            parts.append(f"{shown} at {value:g} has the highest {_label(ds, name)}, {most}")
    tried = len(set(ds["hyperparameter"].values.tolist()))
    if tried < 2:
        return "One intervention is measured: there is nothing to compare yet."
    return f"Of {tried} interventions measured, {'; '.join(parts)}."


def of_paired(kinds: Mapping[str, Mapping[str, float]]) -> str:
    """How maps change on the samples that only the high LR gets right: title -> a paired test."""
    parts = []
    for title, of in kinds.items():
        way = "falls" if of["difference"] < 0 else "rises"
        way = way if of["p"] < LEVEL else "is no different"
        parts.append(f"the {title} {way} ({of['low']:.3f} to {of['high']:.3f})")
    return (
        "On the samples that only the high learning rate gets right, from the low learning rate to "
        f"the high one, {', '.join(parts)}."
    )


def _reduced(
    ds: xr.Dataset, name: str, reduce: Callable[[np.ndarray], float]
) -> list[tuple[float, float]]:
    """A number a curve: (LR, mean over runs) at the smallest and the largest LR; empty for none."""
    known = [run[np.isfinite(run)] for run in ds[name].values]
    values = np.array([reduce(run) if len(run) else np.nan for run in known])
    return list(plots.ends(ds.assign(reduced=("run", values)), "reduced") or [])


def _label(ds: xr.Dataset, name: str) -> str:
    label = plots.style(ds, name)[0]
    return label if label[:2].isupper() else label[0].lower() + label[1:]


def _beside_paper(rise: Sequence[tuple[str, bool]], weak: Sequence[str]) -> str:
    """What the paper says of these labels, with whether each rises here, or so only by chance."""
    no = [label for label, rises in rise if not rises]
    if not rise:
        return ""
    if len(no) == len(rise):
        return f" The paper reports that {_listed(no)} {'rises' if len(no) == 1 else 'rise'}."
    text = " The paper reports the same direction"
    if no:
        does = "does" if len(no) == 1 else "do"
        text = f" The paper reports that all of these rise; here {_listed(no)} {does} not"
    chance = f"; the rise of {_listed(weak)} may be chance"
    return text + chance * bool(weak) + "."


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _listed(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))
