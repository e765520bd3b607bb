"""Which runs may be compared, and what sets the others apart."""

import math
from collections.abc import Callable
from typing import Any

import xarray as xr


def _named(usual: str, form: Callable[[Any], str] = str) -> Callable[[Any], str]:
    """A value in words; those of nothing, which are empty, None or NaN, are all the usual one."""
    return lambda v: usual if v is None or v == "" or v != v else form(v)


def _data(text: str) -> str:
    """Options of the data but the number of samples, which is told apart."""
    others = [option for option in text.split(", ") if not option.startswith("n_train = ")]
    return ", ".join(filter(None, others)) or _DATA


def _network(text: str) -> str:
    name = text.removeprefix("init = ")
    return text if name == text or "," in name else f"{name}'s initialisation"


_DATA = "usual options of the data"
_NETWORK = "usual initialisation and network"
_PLAIN = "no batch normalisation"
_USUAL = ("", _DATA, _NETWORK, _PLAIN, "fp32")
# what runs that are compared have in common -> how a text names its value
SETTINGS: dict[str, Callable[[Any], str]] = {
    "n_train": _named("", lambda n: f"{n:,.0f} training samples"),
    "data": _named(_DATA, _data),
    "source_id": _named("", "source {}".format),
    "model_options": _named(_NETWORK, _network),
    "statistics": _named(_PLAIN, "{} statistics".format),
    "precision": _named(""),
    "rho": _named("", lambda rho: f"rho {rho:.2g}"),  # as counted, also in data of a user's own
    "profile": _named("", "{} profile".format),
}
_IMPLIED = ("rho", "profile")  # which are named only where nothing else tells groups apart


def alike(ds: xr.Dataset) -> list[xr.Dataset]:
    """Runs in long form -> groups that may be averaged, correlated or drawn together.

    The runs of a group share data set, model and all SETTINGS; seed, LR and other swept values
    differ. A run found in two files is kept once. A group's attribute `apart` says how it differs
    from others of its data set and model, as in "60,000 training samples", and is empty if there is
    no other; `settings` lists everything that is not the usual.
    """
    n = ds.sizes.get("run", 0)
    told = {n: tell for n, tell in SETTINGS.items() if n in ds.coords and ds[n].dims == ("run",)}
    columns = [[tell(v) for v in ds[name].values.tolist()] for name, tell in told.items()]
    pairs = _rows(ds, n, "dataset", "model")
    runs = _rows(ds, n, "run_id", "hyperparameter", "value")
    groups: dict[tuple, dict[tuple, int]] = {}
    for i, key in enumerate(zip(pairs, *columns, strict=True)):
        # without a name no run is known to be the same as another
        same = runs[i] if "run_id" in ds.coords and runs[i][0] else (i,)
        groups.setdefault(key, {}).setdefault(same, i)
    found = []
    for key, rows in groups.items():
        others = [other[1:] for other in groups if other[0] == key[0]]
        said = {"apart": _apart(key[1:], others, list(told))}
        all_of = dict(zip(told, key[1:], strict=True))
        said["settings"] = ", ".join(
            text for name, text in all_of.items() if name != "rho" and text not in _USUAL
        )
        found.append(ds.isel(run=list(rows.values())).assign_attrs(said))
    return found


def _rows(ds: xr.Dataset, n: int, *names: str) -> list[tuple]:
    columns = [ds[name].values.tolist() for name in names if name in ds.coords]
    return [tuple("" if isinstance(v, float) and math.isnan(v) else v for v in row)
            for row in zip(*columns, strict=True)] if columns else [()] * n  # fmt: skip


def _apart(key: tuple, groups: list[tuple], names: list[str]) -> str:
    """The settings of a group in which the groups differ."""
    kept: list[int] = []
    for k, name in enumerate(names):
        before, after = (
            len({tuple(g[i] for i in at) for g in groups}) for at in (kept, [*kept, k])
        )
        if after > before or (name not in _IMPLIED and len({g[k] for g in groups}) > 1):
            kept.append(k)
    return ", ".join(filter(None, (key[k] for k in kept)))
