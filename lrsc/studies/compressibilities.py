"""Other measures of compressibility, from the raw material of runs that are done (figure 26).

Raw material stays with the runs; what is computed from it here is one small file.
"""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from lrsc import datasets, measures, results
from lrsc.metrics import compressibility, pq_index, sparsity

NAME = "compressibility"  # of the file
QS = (1.0, 2.0)
KEPT = (0.05, 0.1, 0.2, 0.5)  # the shares kappa of entries that are kept
# those of filters are of L2 norms, once a layer (mean) and once over all layers
VARIABLES = {n: about.long_name for n, about in measures.VARIABLES.items() if about.of == "filters"}
_LABELS = {
    "q": ("q", list(QS), {"units": "1", "long_name": "order of the norm"}),
    "kept": ("kept", list(KEPT), {"units": "1", "long_name": "share of the entries kept"}),
}
_NEEDS = ("representation", "filter_norm", "filter_weight")


def of_run(run: xr.Dataset) -> xr.Dataset:
    """The measures of one run's result that holds raw material, with the run's attributes.

    Dimensions q and kept: the order of the norm, and the share of entries kept. The classifier's
    rows are no filters and are left out. Raises ValueError where the
    raw material is missing.
    """
    missing = [name for name in _NEEDS if name not in run]
    if missing:
        raise ValueError(
            f"the result of run {run.attrs.get('run_id')!r} has no {missing[0]!r}: expected raw "
            "material, train the run with `lrsc sweep --raw`"
        )
    z = torch.from_numpy(run["representation"].values).float()
    norm = torch.from_numpy(run["filter_norm"].values).double()
    layer = torch.from_numpy(run["filter_weight"].values)
    layers = [norm[layer == i] for i in layer.unique() if i != layer.max()]
    together = [torch.cat(layers)]
    found: dict[str, np.ndarray | float] = {
        "activation_compressibility_at": _grid([z]),
        "filter_compressibility": _grid(layers),
        "filter_compressibility_network": _grid(together),
        "filter_sparsity": _mean(sparsity, layers),
        "filter_pq_index": _mean(pq_index, layers),
        "filter_pq_index_network": _mean(pq_index, together),
        "filter_norm_spread": _mean(spread, layers),
    }
    variables = {
        name: (("q", "kept") if np.ndim(value) else (), value, {"units": "1", "long_name": text})
        for (name, text), value in zip(VARIABLES.items(), found.values(), strict=True)
    }
    return xr.Dataset(variables, _LABELS, run.attrs)


def spread(norms: Tensor) -> Tensor:
    """Standard deviation over mean of one layer's filter norms: n values -> a scalar.

    Pruning by norm tells filters apart by it; an untrained layer has what chance gives. NaN where
    all are zero.
    """
    return norms.std(correction=0) / norms.mean()


def norm_spread(net: nn.Module) -> float:
    """`filter_norm_spread` of a network; its last weight is the classifier's and is left out."""
    weights = [p.detach().double().flatten(1) for p in net.parameters() if p.dim() >= 2]
    return _mean(spread, [weight.norm(dim=1) for weight in weights[:-1]])


def of_runs(run_ids: Collection[str], root: str | Path | None = None) -> xr.Dataset | None:
    """These runs in long form, exported or from local raw material; None if there are none."""
    exported = _exported(root)
    chosen = []
    if exported is not None:
        chosen.append(exported.isel(run=np.isin(exported["run_id"].values, list(run_ids))))
    have = set() if exported is None else set(exported["run_id"].values.tolist())
    paths = [results.run_path(name, root) for name in run_ids if name not in have]
    local = [run for path in paths if (run := results.load_run(path)) is not None]
    if any(_has_raw(run) for run in local):
        chosen.append(_combined([run for run in local if _has_raw(run)]))
    chosen = [found for found in chosen if found.sizes["run"]]
    return xr.concat(chosen, "run", join="outer") if chosen else None


def export(
    root: str | Path | None = None, output: str | Path | None = None, ship: bool = False
) -> Path:
    """Write those of all local runs on real data, and all exported before, to one file.

    It goes to the results folder, or where `results.write_derived` says. Raises ValueError if there
    is nothing to write.
    """
    real = [
        run for run in results.local_runs(root)
        if _has_raw(run) and not datasets.is_stand_in(run.attrs["source_id"])
    ]  # fmt: skip
    found = [_combined(real)] if real else []
    exported = _exported(root)
    if exported is not None:
        found.append(exported)
    if not found:
        raise ValueError("no run with raw material is done: measure one with lrsc sweep")
    together = results.once(xr.concat(found, "run", join="outer"))
    together.attrs = {"experiment": NAME, "made_by": f"lrsc results export {NAME}"}
    return results.write_derived(together, NAME, root=root, output=output, ship=ship)


def _exported(root: str | Path | None) -> xr.Dataset | None:
    """Raises ValueError for a file that cannot be used."""
    needs = (*results.COORDINATES, *VARIABLES)
    parts = [results.shipped(NAME, needs), results.local_derived(NAME, needs, root)]
    found = [part for part in parts if part is not None]
    return results.once(xr.concat(found, "run", join="outer")) if found else None


def _has_raw(run: xr.Dataset) -> bool:
    return run.attrs["status"] != "diverged" and all(name in run for name in _NEEDS)


def _combined(runs: list[xr.Dataset]) -> xr.Dataset:
    return results.combine([of_run(run) for run in runs]).assign_coords(_LABELS)


def _grid(vectors: list[Tensor]) -> np.ndarray:
    """Compressibility for each q (rows) and share kept (columns), mean over rows of vectors."""
    values = [[_mean(compressibility, vectors, q, kappa) for kappa in KEPT] for q in QS]
    return np.array(values)


def _mean(measure, vectors: list[Tensor], *options: float) -> float:
    """Mean over layers (vectors) or samples (rows of the one matrix); NaN if they overflow."""
    if not all(bool(v.isfinite().all()) for v in vectors):
        return float("nan")
    return float(torch.stack([measure(v, *options).mean() for v in vectors]).mean())
