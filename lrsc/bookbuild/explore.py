"""The data of the page where a reader picks curves: all shipped runs over the LR, as JSON."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lrsc import experiments, plots
from lrsc.config import STATISTICS

SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")  # of the bokeh package, copied into the book


def page(folder: Path) -> str:
    """The page's controls and data as raw HTML; copies the plotting scripts into the stage."""
    import bokeh

    static, package = folder / "book" / "_static" / "bokeh", Path(bokeh.__file__).parent
    static.mkdir(parents=True, exist_ok=True)
    for path in (*(f"server/static/js/{name}" for name in SCRIPTS), "LICENSE.txt"):
        shutil.copy(package / path, static)
    data = json.dumps(everything(), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    scripts = [f"_static/bokeh/{name}" for name in SCRIPTS]
    tags = "".join(f'<script defer src="../{url}"></script>' for url in scripts)
    return (
        f'```{{raw}} html\n{_FORM}\n<script type="application/json" id="explore-data">{data}'
        f'</script>\n{tags}<script defer src="../_static/explore.js"></script>\n```'
    )


def everything() -> dict[str, Any]:
    """Measures and series of runs, ready for JSON: NaN is None, accuracies are in percent."""
    with tempfile.TemporaryDirectory() as empty:  # no local runs: what ships with the book
        parts = [part for name in experiments.names() for part in _shipped(name, empty)]
    found = xr.concat(parts, "run", join="outer") if parts else xr.Dataset()
    series = [
        one for name in (plots.interventions_of(found) if parts else ())
        for group in experiments.alike(found.isel(run=found["hyperparameter"].values == name))
        if (one := _series(group, name))["values"]
    ]  # fmt: skip
    used = {name for one in series for name in one["values"]}
    measures = {
        name: {"label": label, "percent": plots.is_percent(name)}
        for name, (label, *_) in plots.STYLES.items() if name in used
    }  # fmt: skip
    return {"measures": measures, "series": series}


def _shipped(name: str, root: str) -> Iterator[xr.Dataset]:
    """An experiment's runs over the LR, in each of the statistics of batch normalisation."""
    swept = [key for key in experiments.row_keys(name) if experiments.knob(name, *key) == "lr"]
    read = experiments.sources(name, root)
    for mode in STATISTICS:
        ds = experiments.measured(name, ("paper", "desk"), root, read=read, statistics=mode)
        if ds is None:
            continue
        rows = zip(*(ds[n].values for n in ("dataset", "model", "hyperparameter")), strict=True)
        kept = np.array([row in swept for row in rows])
        if mode != "running":  # where networks without batch normalisation are already
            kept &= ds["statistics"].values != ""
        known = np.isin(ds["hyperparameter"].values, list(plots.HYPERPARAMETERS))
        ds["hyperparameter"] = ds["hyperparameter"].where(known, "lr")  # "settings" of the data
        yield ds[[n for n in plots.STYLES if n in ds and ds[n].dims == ("run",)]].isel(run=kept)


def _series(here: xr.Dataset, intervention: str) -> dict[str, Any]:
    """Runs that compare, with their name in words.

    Of an LR and seed that several experiments trained, as up to another cap, the first run.
    """
    places = list(zip(here["lr"].values.tolist(), here["seed"].values.tolist(), strict=True))
    here = here.isel(run=[places.index(place) for place in dict.fromkeys(places)])
    seeds = sorted({int(seed) for seed in here["seed"].values})
    label = [] if intervention == "lr" else [plots.hyperparameter(intervention)[0]]
    label += [str(here.attrs["settings"])]
    label += [f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"]
    dataset, model = plots.names_of(here)
    return {
        "dataset": dataset, "model": model, "label": ", ".join(label),
        "lr": here["lr"].values.tolist(), "seed": here["seed"].values.tolist(),
        "status": here["status"].values.tolist(),
        "values": {
            str(name): _plain(value.values * (100 if plots.is_percent(str(name)) else 1))
            for name, value in here.items() if np.isfinite(value).any()
        },
    }  # fmt: skip


def _plain(values: np.ndarray) -> list:
    return [float(f"{v:.5g}") if np.isfinite(v) else None for v in values.astype(float)]


_FORM = """
<form class="explore" id="explore-form" aria-label="Choose a curve">
<label>Data set <select name="dataset"></select></label>
<label>Model <select name="model"></select></label>
<label>Runs <select name="runs"></select></label>
<label>Metric <select name="metric"></select></label>
<label>Learning-rate axis <select name="scale"><option value="log">logarithmic</option>
<option value="linear">linear</option></select></label>
<button type="button" id="explore-keep" class="btn btn-outline-primary">Keep this curve</button>
</form>
<noscript><p>This page needs JavaScript to draw its figure.</p></noscript>
<div class="explore-figure" id="explore-figure" role="group" aria-label="The curves"
aria-describedby="explore-summary"></div>
<ol class="explore-curves" id="explore-curves"></ol>
<p id="explore-summary" role="status" aria-live="polite"></p>
<details><summary>All runs as a table</summary>
<div class="explore-table" tabindex="0" role="region" aria-label="Single runs">
<table class="table" id="explore-table"><thead></thead><tbody></tbody></table></div></details>
"""
