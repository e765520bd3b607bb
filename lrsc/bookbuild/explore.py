"""The data of the page where a reader picks a curve: all shipped desk and paper runs, as JSON."""

import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from lrsc import experiments, plots
from lrsc.config import STATISTICS

SCRIPTS = ("bokeh.min.js", "bokeh-api.min.js")  # of the bokeh package, copied into the book
_FREE = ("lr", "max_epochs", "batch_size", "n_train")  # settings that do not tell two series apart


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
    found: list[dict] = []
    with tempfile.TemporaryDirectory() as empty:  # no local runs: what ships with the book
        for name in experiments.names():
            for profile, mode in itertools.product(("paper", "desk"), STATISTICS):
                ds = experiments.measured(name, profile, root=empty, statistics=mode)
                if ds is None:
                    continue
                if mode != "running":  # where networks without batch normalisation are already
                    ds = ds.isel(run=ds["statistics"].values != "")
                found += _series(name, profile, ds)
    used = {name for one in found for name in one["values"]}
    measures = {
        name: {"label": label, "colour": colour, "percent": plots.is_percent(name)}
        for name, (label, colour, _) in plots.STYLES.items()
        if name in used
    }
    return {"measures": measures, "series": found}


def _series(experiment: str, profile: str, ds: xr.Dataset) -> list[dict]:
    """One entry for each data set, model and further settings."""
    columns = (ds[name].values.tolist() for name in ("config", "source_id", "statistics"))
    keys = [(*_settings(text), *rest) for text, *rest in zip(*columns, strict=True)]
    found = []
    for key in dict.fromkeys(keys):
        here = ds.isel(run=[i for i, other in enumerate(keys) if other == key])
        dataset, model, settings, source, mode = key
        settings = (*settings, f"{mode} statistics") if mode else settings
        values = {
            name: _plain(here[name].values * (100 if plots.is_percent(name) else 1))
            for name in plots.STYLES
            if name in here and here[name].dims == ("run",) and np.isfinite(here[name]).any()
        }
        if values:
            label = ", ".join([experiment.replace("_", " "), f"{profile} profile", *settings])
            found.append({
                "dataset": plots.name_of(dataset), "model": plots.name_of(model),
                "label": f"{label}, source {source}", "lr": here["lr"].values.tolist(),
                "seed": here["seed"].values.tolist(), "status": here["status"].values.tolist(),
                "n_train": int(here["n_train"].values.max()), "values": values,
            })  # fmt: skip
    return found


def _settings(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Data set, model, and what else sets a run apart from the usual ones."""
    config = json.loads(text)  # which holds what is not the default
    changed = [
        f"{name} {value}"
        for part in ("train", "data", "model_options")
        for name, value in config.get(part, {}).items()
        if name not in _FREE
    ]
    return config["dataset"], config["model"], tuple(changed)


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
</form>
<noscript><p>This page draws with a script, which this browser does not run.</p></noscript>
<div class="explore-figure" id="explore-figure" role="group" aria-label="The curve"
aria-describedby="explore-summary"></div>
<p id="explore-summary" role="status" aria-live="polite"></p>
<details><summary>The single runs as a table</summary>
<div class="explore-table" tabindex="0" role="region" aria-label="Single runs">
<table class="table" id="explore-table"><thead></thead><tbody></tbody></table></div></details>
"""
