"""An audit of any trained classifier: robustness, selectivity, prunability, with intervals."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from lrsc import attribution, errors, measures, metrics, models, pruning, training
from lrsc.datasets import BiasedDataset, Split
from lrsc.errors import shown
from lrsc.files import write
from lrsc.measures.variables import VARIABLES
from lrsc.pruning.curves import pruned_labels

BOOTSTRAPS, FEW_BOOTSTRAPS = 1000, 100  # resamples of test samples; where each is recomputed
LEAST_GROUP = 10  # test samples, below which a group is marked
POINT = 0.01  # of accuracy, that shrinking may cost
SHOWN = 8  # samples in the gallery
BATCH = 8  # samples of which the latency is measured


@dataclasses.dataclass(frozen=True)
class Size:
    """Test samples that an audit looks at, and how often each number is resampled."""

    test: int | None
    pruned: int
    chosen: int
    attributed: int
    passes: int


FULL = Size(None, 2000, measures.SAMPLES, 100, 11)
QUICK = Size(1000, 500, 500, 10, 5)


@dataclasses.dataclass(frozen=True)
class Audit:
    """What `audit` found of one network; `print` summarises it.

    dataset: values with 95 % intervals and numbers of samples along `measure`; accuracies of
    (class, bias) groups along `group`; pruning curves along `kappa`, for each of the statistics;
    costs before and after shrinking; the gallery's samples and attribution maps. Its attributes
    name the network and data; `note` says what is missing and why.
    """

    dataset: xr.Dataset

    def to_html(self, path: str | Path, *others: "Audit") -> Path:
        """Write one page that needs nothing else; others: audits beside it, on the same data.

        Returns its path. Raises ValueError for audits of different data sets.
        """
        from lrsc.pages.reach import page

        place = errors.path("path", path)
        write(place, page([self.dataset, *(other.dataset for other in others)]).encode())
        return place

    def __str__(self) -> str:
        found, about = self.dataset, self.dataset.attrs
        lines = [f"{about['model']} on {about['data']}"]
        width = max(len(str(label)) for label in found["label"].values)
        for name in found["measure"].values.tolist():
            one = found.sel(measure=name)
            many = 100 if bool(one["percent"]) else 1
            value, low, high = (many * float(one[key]) for key in ("value", "low", "high"))
            unit, samples = " %" if many > 1 else "", f"{int(one['samples'])} samples"
            said = f"{value:8.3g}{unit:2s} ({low:.3g} to {high:.3g}; {samples})"
            said = f"{'-':>8s}   (not defined; {samples})" if math.isnan(value) else said
            lines.append(f"{one['label'].values!s:{width}s} {said}")
        return "\n".join([*lines, *filter(None, about["note"].split("\n"))])


def audit(
    model: "nn.Module | training.Trained",
    dataset: BiasedDataset,
    *,
    name: str | None = None,
    quick: bool = False,
    device: torch.device | str | None = None,
    layer: str | None = None,
) -> Audit:
    """Measure a trained network on a data set's test split, each number with a 95 % interval.

    model: a network, or what `fit` returned. name: title of the page, by default the network's
    class. quick: use 1000 test samples (500 for pruning, 10 for attributions) instead of all (2000,
    100). device: where to compute, by default the model's. layer: dotted name of the classifier,
    if it is not the layer that returns the logits.

    Intervals are bootstrap percentiles over test samples (Wilson's for an accuracy of 0 or 1); they
    do not cover variation between training seeds. Without bias labels, accuracies by group and
    other measures that need them are left out. Groups with fewer than 10 samples are marked. Batch
    normalisation uses its running statistics; a second pruning curve uses statistics re-estimated
    from training samples. Raises ValueError as `lrsc.measure` does.
    """
    net = model.model if isinstance(model, training.Trained) else model
    if not isinstance(net, nn.Module):
        raise ValueError(f"model must be a network or one run of fit, found {shown(model)}")
    if not isinstance(dataset, BiasedDataset):
        raise ValueError(f"dataset must be a BiasedDataset, found {shown(dataset)}")
    size = QUICK if quick else FULL
    if size.test is not None and len(dataset.test) > size.test:
        test = measures.fixed_samples(dataset.test, size.test)
        dataset = dataclasses.replace(dataset, test=test, source_id="part")
    device = None if device is None else training.arguments.device(device)
    seen = measures.observe(net, dataset, size.chosen, device, layer)
    found = _Found(seen.test, net, notes=[])
    _accuracies(found, seen.logits.argmax(1), dataset)
    _representation(found, seen)
    _attributions(found, seen, size)
    parts = [_pruning(found, dataset, size, layer), _gallery(found, seen)]
    if undefined := [row["label"] for row in found.rows if math.isnan(row["value"])]:
        found.notes.append(
            f"Not defined: {'; '.join(undefined)}. Chance is taken off accuracies above it only, "
            "and selectivity and separation compare classes of several samples."
        )
    made = xr.merge([found.table(), *parts], combine_attrs="drop_conflicts")
    made.attrs = {
        "model": name or type(net).__name__, "class": type(net).__name__, "data": dataset.name,
        "checksum": dataset.checksum, "n_train": len(dataset.train), "n_test": len(seen.test),
        "parameters": sum(p.numel() for p in net.parameters()),
        "class_names": list(dataset.class_names), "note": "\n".join(found.notes),
    }  # fmt: skip
    return Audit(made)


@dataclasses.dataclass
class _Found:
    """Numbers so far, and what is said of those that are missing."""

    test: Split
    net: nn.Module
    notes: list[str]
    rows: list[dict] = dataclasses.field(default_factory=list)
    groups: list[dict] = dataclasses.field(default_factory=list)

    def add(self, name: str, value: float, resampled: Tensor, n: int, label: str = "") -> None:
        """A number with the 95 % interval of its resampled values, of n samples."""
        about = VARIABLES.get(name)
        known = resampled[resampled.isfinite() & math.isfinite(value)]
        low, high = (
            torch.quantile(known, torch.tensor([0.025, 0.975]).to(known)).tolist()
            if len(known) else (math.nan, math.nan)
        )  # fmt: skip
        label = label or (about.label or about.long_name if about else name)
        percent = about.percent if about else label.startswith(("Accuracy", "Overall"))
        if low == high == value and value in (0, 1) and percent and name != "gap":
            low, high = _wilson(value, n)
        self.rows.append({"measure": name, "label": label, "value": value, "low": low,
                          "high": high, "samples": n, "percent": percent})  # fmt: skip

    def table(self) -> xr.Dataset:
        """All numbers along `measure`, and those of groups along `group`."""
        dims = (("measure", self.rows), ("group", self.groups))
        parts = []
        for dim, rows in dims:
            names = [key for key in rows[0] if key != dim] if rows else []
            prefix = "" if dim == "measure" else "group_"
            columns = {prefix + key: (dim, [row[key] for row in rows]) for key in names}
            parts.append(xr.Dataset(columns, {dim: [row[dim] for row in rows]} if rows else {}))
        return xr.merge(parts)


def _weights(n: int, times: int = BOOTSTRAPS) -> Tensor:
    """How often each of n samples is drawn in each resample: times x n, shares."""
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), times)
    return torch.from_numpy(counts).double() / n


def _accuracies(found: _Found, predicted: Tensor, dataset: BiasedDataset) -> None:
    test = found.test
    right = (predicted == test.y).double().cpu()
    weights = _weights(len(right))
    overall, label = weights @ right, "Accuracy, all samples"
    found.add("unbiased_accuracy", float(right.mean()), overall, len(right), label)
    if test.bias is None or not bool(test.known.any()):
        found.notes.append(
            "No bias labels: accuracies by group, the gap, and bias selectivity are left out."
        )
        return
    known, y, bias = (t.cpu() for t in (test.known, test.y, test.bias))
    for name, kind, rows in (
        ("aligned_accuracy", "aligned", (y == bias) & known),
        ("conflicting_accuracy", "conflicting", (y != bias) & known),
    ):
        if n := int(rows.sum()):
            again, label = _mean(weights, right, rows), f"Accuracy, {kind} samples"
            found.add(name, float(right[rows].mean()), again, n, label)
    groups = {
        f"class {_named(k, dataset.class_names)}, bias {_named(b, dataset.bias_names)}": rows
        for k in y.unique().tolist() for b in bias[known].unique().tolist()
        if bool((rows := (y == k) & (bias == b)).any())
    }  # fmt: skip
    worst = _groups(found, groups, right, weights)
    row = found.rows[-1]
    label = "Accuracy gap, all minus worst group"
    found.add("gap", float(right.mean()) - row["value"], overall - worst, row["samples"], label)


def _named(label: int, names: Sequence[str]) -> str:
    return names[label] if label < len(names) else str(label)


def _groups(found: _Found, groups: dict[str, Tensor], right: Tensor, weights: Tensor) -> Tensor:
    """Add accuracies of groups, and of the worst one, whose resampled values are returned."""
    resampled = torch.stack([_mean(weights, right, rows) for rows in groups.values()])
    values = [float(right[rows].mean()) for rows in groups.values()]
    sizes = [int(rows.sum()) for rows in groups.values()]
    lowest = min(range(len(sizes)), key=lambda k: (values[k], -sizes[k]))
    label = f"Accuracy of the worst group ({list(groups)[lowest]})"
    found.add("worst_group_accuracy", values[lowest], resampled[lowest], sizes[lowest], label)
    marks = torch.nanquantile(resampled, torch.tensor([0.025, 0.975]).double(), dim=1).T.tolist()
    for group, value, ends, n in zip(groups, values, marks, sizes, strict=True):
        low, high = _wilson(value, n) if value in (0, 1) else ends
        found.groups.append({"group": group, "value": value, "low": low, "high": high,
                             "samples": n})  # fmt: skip
    if few := sum(n < LEAST_GROUP for n in sizes):
        found.notes.append(
            f"{few} of {len(sizes)} groups have fewer than {LEAST_GROUP} test samples: their "
            "accuracies, marked with *, mean little, and so may the worst group's."
        )
    return resampled[lowest]


def _wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval (Wilson 1927) of a share of n samples, also where no resample differs."""
    z2 = 1.96**2
    centre, reach = (
        share + z2 / (2 * n),
        math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))),
    )
    return (centre - reach) / (1 + z2 / n), (centre + reach) / (1 + z2 / n)


def _mean(weights: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    """Resampled means over some rows; NaN where a resample has none of them."""
    return (weights[:, rows] @ values[rows]) / weights[:, rows].sum(1)


def _representation(found: _Found, seen: measures.Observed) -> None:
    wanted = ("csi", "bsi", "class_separation", "activation_compressibility", "sparsity")
    z, y, bias = seen.z.cpu(), seen.chosen.y.cpu(), seen.chosen.bias
    bias = None if bias is None else bias.cpu()
    values = measures.representation_measures(z, y, bias)
    names = [name for name in wanted if name in values]
    generator = torch.Generator().manual_seed(0)
    resampled = []
    for _ in range(FEW_BOOTSTRAPS):
        rows = torch.randint(len(z), (len(z),), generator=generator)
        again = measures.representation_measures(
            z[rows], y[rows], None if bias is None else bias[rows]
        )
        resampled.append([float(again[name]) for name in names])
    for name, each in zip(names, torch.tensor(resampled).double().T, strict=True):
        value = float(values[name])
        # samples that are drawn twice raise selectivity and separation: that much is taken off
        found.add(name, value, each - each.nanmean() + value, len(z))


def _attributions(found: _Found, seen: measures.Observed, size: Size) -> None:
    some = seen.chosen.take(torch.arange(min(size.attributed, len(seen.chosen))))
    try:
        a = attribution.integrated_gradients(found.net, some.inputs(some.x[:]), some.y)
        entropies = attribution.entropy(a)
    except ValueError as error:
        found.notes.append(f"Attributions are left out: {error}")
        return
    each = {"attribution_entropy": entropies}
    for region, mask in some.regions.items():
        each[f"attribution_{region}"] = attribution.share(a, mask)
    if not some.regions:
        found.notes.append(
            "The data set has no masks of core and spurious regions: shares of attribution are "
            "left out."
        )
    for name, values in each.items():
        values = values.double().cpu()
        values = values[values.isfinite()]
        if len(values):
            resampled = _weights(len(values)) @ values
            found.add(name, float(values.mean()), resampled, len(values))


def _pruning(found: _Found, dataset: BiasedDataset, size: Size, layer: str | None) -> xr.Dataset:
    """Pruning curves in running and, where it makes a difference, recalibrated statistics."""
    test, kappas = measures.fixed_samples(found.test, size.pruned), (0.0, *pruning.KAPPAS)
    apart = ["running", "recalibrated"] if models.batch_norms(found.net) else ["running"]
    ends, weights = torch.tensor([0.025, 0.975]).double(), _weights(len(test))
    curves = []
    for statistics in apart:
        asked = functools.partial(pruned_labels, statistics=statistics, recalibrate=dataset.train)
        try:
            labels = torch.cat([*asked([found.net], test, kappas, layer=layer)])
        except ValueError as error:
            found.notes.append(f"Pruning is left out: {error}")
            return xr.Dataset()
        right = (labels == test.y).double().cpu()
        again = weights @ right.T
        curves.append(torch.stack([right.mean(1), *torch.quantile(again, ends, dim=0)]))
        _prunability(found, right.mean(1), again, test, statistics if len(apart) > 1 else "")
    names = ("accuracy_pruned", "accuracy_pruned_low", "accuracy_pruned_high")
    values = torch.stack(curves, 1).numpy()
    made = xr.Dataset(
        {name: (("statistics", "kappa"), each) for name, each in zip(names, values, strict=True)},
        {"kappa": list(kappas), "statistics": apart},
    ).assign(chance=float(metrics.chance(test.y)), pruned_samples=len(test))
    return xr.merge([made, _shrinking(found, dataset, made, size, layer)])


def _prunability(found: _Found, curve: Tensor, again: Tensor, test: Split, statistics: str) -> None:
    """Of a curve from kappa 0 on and its resampled ones; statistics: empty where all are equal."""
    chance = metrics.chance(test.y).cpu()
    for name, ratio in (
        ("prunability", lambda c: (c[..., 1:] / c[..., :1]).mean(-1)),
        ("prunability_corrected",
         lambda c: metrics.chance_corrected(c[..., 1:], c[..., :1], chance).mean(-1)),
    ):  # fmt: skip
        label = VARIABLES[name].label + (f", {statistics} statistics" if statistics else "")
        key = f"{name}_{statistics}" if statistics == "recalibrated" else name
        found.add(key, float(ratio(curve)), ratio(again), len(test), label)


def _shrinking(
    found: _Found, dataset: BiasedDataset, curves: xr.Dataset, size: Size, layer: str | None
) -> xr.Dataset:
    """Size, MACs and latency before and after the largest kappa that costs one point at most."""
    curve = curves["accuracy_pruned"].isel(statistics=-1)
    kappa = float(curve["kappa"].where(curve >= curve.isel(kappa=0) - POINT).max())
    x = found.test.inputs(found.test.x[:BATCH])
    renew = dataset.train if models.batch_norms(found.net) else None
    try:
        shrunk = pruning.shrink(
            found.net, kappa, x, runs=size.passes, recalibrate=renew, layer=layer
        )
    except ValueError as error:
        found.notes.append(f"Shrinking is left out: {error}")
        return xr.Dataset()
    before, after = (dataclasses.astuple(cost) for cost in (shrunk.before, shrunk.after))
    names = [field.name for field in dataclasses.fields(pruning.Cost)]
    return xr.Dataset(
        {"cost": (("when", "quantity"), np.array([before, after], float))},
        {"when": ["before", "after"], "quantity": names},
    ).assign(
        shrunk_kappa=kappa, shrunk_accuracy=float(curve.sel(kappa=kappa)), batch=len(x),
        removed=shrunk.removed,
    )  # fmt: skip


def _gallery(found: _Found, seen: measures.Observed) -> xr.Dataset:
    """Random conflicting samples, else any, wrong ones first, with maps of the true label."""
    test, predicted = found.test, seen.logits.argmax(1)
    if len(test.x.shape) != 4:
        return xr.Dataset()
    wrong = predicted != test.y
    wanted = test.conflicting if test.bias is not None else wrong
    chance = torch.rand(len(test), generator=torch.Generator().manual_seed(0)).to(wrong.device)
    order = torch.argsort(2 * wanted.int() + wrong.int() + chance, descending=True)[:SHOWN]
    some = test.take(order)
    try:
        a = attribution.integrated_gradients(found.net, some.inputs(some.x[:]), some.y)
    except ValueError:
        return xr.Dataset()
    maps = attribution.normalised_maps(a).abs().cpu().numpy()
    bias = {} if some.bias is None else {"shown_bias": ("shown", some.bias.cpu().numpy())}
    return xr.Dataset(
        {
            "image": (("shown", "channel", "row", "column"), some.x[:].cpu().numpy()),
            "map": (("shown", "row", "column"), maps),
            "shown_label": ("shown", some.y.cpu().numpy()),
            "shown_predicted": ("shown", predicted[order].cpu().numpy()),
        }
        | bias
    )
