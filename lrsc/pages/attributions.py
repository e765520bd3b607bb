"""What the sections on attributions show: galleries, paired measures, agreement of two methods."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lrsc import plots, results
from lrsc.pages import display, readings
from lrsc.studies import contrast

TITLES = {
    "entropy": "entropy of the map (nat)",
    "core": "share on the core region",
    "spurious": "share on the spurious region",
    "background": "share on the background",
}
METHODS = {"integrated_gradients": "Integrated Gradients", "deeplift": "DeepLIFT"}


def contrasted(dataset: str, model: str) -> xr.Dataset:
    """The comparison of low- and high-LR networks; without samples if there is none.

    In that case, displays how to make one and, for a file that cannot be used, why.
    """
    command = f"lrsc results contrast --dataset {dataset} --model {model} --lrs LOW,HIGH"
    found = display.usable(command, contrast.stored, dataset, model)
    if found is None:
        display.say(
            "**No comparison yet.** Train networks at a low and a high LR here (`lrsc sweep`, with "
            f"`--raw` for those that ship), then run `{command}`."
        )
        return xr.Dataset()
    return found


def compared(
    dataset: str, model: str, live: xr.Dataset, profile: str, **options: Any
) -> xr.Dataset:
    """Compare the networks of local runs at the lowest and the highest LR, without diverged ones.

    live: the runs; options: of `contrast.compare`. If fewer than two LRs have a run that did not
    diverge, displays this and returns no samples.
    """
    lrs = np.unique(live["lr"].values[live["status"].values != "diverged"])
    if len(lrs) < 2:
        left = f"only LR {lrs[0]:g} has one" if len(lrs) else "none has one"
        display.say(
            f"*Nothing to compare: two learning rates need a run that did not diverge, but {left}.*"
        )
        return xr.Dataset()
    return contrast.compare(dataset, model, (float(lrs[0]), float(lrs[-1])), profile, **options)


def show_gallery(found: xr.Dataset, methods: Sequence[str] = ("integrated_gradients",)) -> None:
    """Display images that only the high LR gets right, with the maps of both LRs' networks."""
    if not found.sizes.get("sample"):
        return display.say_unmeasured()
    share = (
        f"right in at least {found.attrs['at_least']:.0%} of the networks at learning rate "
        f"{found.attrs['high']:g} and at most {found.attrs['at_most']:.0%} of those at "
        f"{found.attrs['low']:g}"
    )
    lead = (
        f"Test samples that are {share}: {found.attrs['only_high']:,} of "
        f"{found.attrs['n_test']:,}, of which these were drawn by seed {found.attrs['drawn_by']}. "
        "Under each image: magnitude of the attributions, mean over networks, bright where "
        "large."
    )
    if "foreground" in found:
        lead += f" Line: edge of the foreground found by {_foreground(found)}."
    display.show(plots.gallery(found, methods), caption=f"{lead} {_caption(found)}")
    changes = {
        title: contrast.paired(found, name, True)
        for kind, title in TITLES.items() if (name := f"{methods[0]}_{kind}") in found
    }  # fmt: skip
    display.say(f"**What it shows.** {readings.of_gallery(found, changes)}")


def show_paired(found: xr.Dataset, method: str = "integrated_gradients") -> None:
    """Display measures of the maps, high against low LR sample by sample, and paired tests."""
    if not found.sizes.get("sample"):
        return display.say_unmeasured()
    kinds = [k for k in TITLES if f"{method}_{k}" in found]
    panels = {f"{method}_{k}": TITLES[k] for k in kinds}
    text = f"Each dot is a sample, the mean over networks; {METHODS[method]}."
    if "background" in kinds:
        text += f" Background: everything outside the foreground found by {_foreground(found)}."
    display.show(plots.paired(found, panels), caption=f"{text} {_caption(found)}")
    rows, only_high = [], {}
    for name, shown in METHODS.items():
        for kind in kinds:
            for selected, group in ((True, "only high LR right"), (False, "others")):
                test = contrast.paired(found, f"{name}_{kind}", selected)
                if name == method and selected:
                    only_high[TITLES[kind]] = test
                rows.append([shown, TITLES[kind], group, *_cells(test)])
    heads = ["Method", "Measure", "Samples", "n", f"LR {found.attrs['low']:g}",
             f"LR {found.attrs['high']:g}", "High minus low", "p"]  # fmt: skip
    text = (
        "Difference with its 95 % bootstrap interval over samples; p of Wilcoxon's signed-rank "
        "test, two-sided, not corrected for the number of rows."
    )
    display.show_cells(heads, rows, text, readings.of_paired(only_high))


def show_methods(ds: xr.Dataset, command: str | None = None) -> None:
    """Display how far the two methods agree, and each one's completeness error, by row and LR."""
    names = ("attribution_agreement", "completeness_error", "completeness_error_deeplift")
    if not ds.sizes.get("run") or any(name not in ds for name in names):
        return display.say_unmeasured()
    rows = []
    for row, lr in ((r, lr) for r in plots.rows_of(ds) for lr in np.unique(r["lr"].values)):
        here = row.isel(run=row["lr"].values == lr)
        known = int(np.isfinite(here[names[0]].values).sum())
        if known:
            shown = (display.mean_sd(name, here[name].values) for name in names)
            rows.append([plots.row_name(row), f"{lr:g}", str(known), *shown])
    if not rows:
        return display.say_absent(ds)
    heads = ["Data set, model", "Learning rate", "Runs", "Rank correlation of the maps",
             "Completeness error, Integrated Gradients (logits)", "the same, DeepLIFT"]  # fmt: skip
    display.show_cells(heads, rows, display.caption_of(ds, command))


def show_contrasts(besides: Sequence[tuple[str, str]] = ()) -> None:
    """Display the gallery of every comparison, local or shipped, except those in `besides`."""
    shown = 0
    for name in results.derived_names("contrast"):
        command = "lrsc results contrast"
        found = display.usable(command, results.derived, name, contrast.HELD)
        if found is None or (pair := (found.attrs["dataset"], found.attrs["model"])) in besides:
            continue
        display.say_row(*pair)
        show_gallery(found)
        shown += 1
    if not shown:
        display.say_unmeasured()


def _cells(test: dict[str, float]) -> list[str]:
    if not np.isfinite(test["difference"]):
        return [f"{test['n']:.0f}", "–", "–", "–", "–"]
    interval = f"{test['difference']:+.3f}"
    if np.isfinite(test["from"]):
        interval += f" ({test['from']:+.3f} to {test['to']:+.3f})"
    p = "< 0.0001" if test["p"] < 1e-4 else f"{test['p']:.4f}"
    return [f"{test['n']:.0f}", f"{test['low']:.3f}", f"{test['high']:.3f}", interval, p]


def _foreground(found: xr.Dataset) -> str:
    method = str(found.attrs["foreground"])
    stand_in = " (a classical segmentation by colour, which stands in for DeepLabV3)"
    return {"grabcut": f"GrabCut{stand_in}", "deeplabv3": "DeepLabV3"}.get(method, method)


def _caption(found: xr.Dataset) -> str:
    a = found.attrs
    counts = {a[group]: int((found["lr"].values == a[group]).sum()) for group in ("low", "high")}
    networks = [f"{n} network{'s' * (n > 1)} at learning rate {lr:g}" for lr, n in counts.items()]
    file = str(a.get("file", ""))
    return (
        f"Source {plots.source(str(a['source_id']))}; model {plots.name_of(str(a['model']))}; "
        f"training samples {a['n_train']:,}; {' and '.join(networks)}, seeds "
        f"{', '.join(str(s) for s in np.unique(found['seed'].values))}; profile {a['profile']}; "
        f"device {a['device']}"
        + (f"; {a['diverged']} diverged and left out." if a.get("diverged") else ".")
        + (f" Result file: [{file}](../{file})." if file else "")
        + f" Made by `{a['made_by']}`."
    )
