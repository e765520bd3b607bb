"""All measures of one model in one call: `lrsc.measure(model, dataset) -> xr.Dataset`."""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional as F

from lrsc import attribution, metrics, models, pruning, results, training
from lrsc.datasets import BiasedDataset, Split
from lrsc.errors import check_names, is_whole, shown
from lrsc.measures.variables import OF_NETWORK, PRUNABILITY, SINGLE, VARIABLES

SAMPLES = 1000  # random test inputs on which representations are measured (paper, supplement C)


def measure(
    model: "nn.Module | training.Trained",
    dataset: BiasedDataset,
    *,
    methods: str | Iterable[str] = pruning.METHODS,
    prune_samples: int | None = None,
    samples: int = SAMPLES,
    device: torch.device | str | None = None,
    layer: str | None = None,
    statistics: str | Sequence[str] = "running",
) -> xr.Dataset:
    """All measures of a trained model on a data set's unbiased test split.

    model: a network, or what `fit` returned; for a run that diverged all is NaN. methods: pruning
    methods; an empty list skips pruning. prune_samples: pruning is measured on this many fixed
    random test samples, None: on all. samples: fixed random test samples for the representation.
    device: where to compute, default where the model is; the model is moved there, not changed
    otherwise. layer: dotted module name of the linear layer whose input is the representation, and
    which pruning leaves alone; by default the one that returns the logits. statistics: of batch
    normalisation: 'running' (eval mode), 'batch' (those of fixed batches of 100 test samples),
    'recalibrated' (running ones, re-estimated from 2000 training samples, also after pruning), or
    several of these, which are then a dimension of the result; a network without batch
    normalisation is measured once.
    Accuracies are fractions; bias measures are left out where the data set has no bias labels, and
    samples of unknown bias are left out of them. Undefined measures, such as the selectivity of
    test samples of one class, are NaN with an attribute `note`. Weights that pruning does not
    handle are named in the attributes `pruned_share` and `left_alone` of prunability. The result's
    own attributes say from which data and by which versions it was made; `lrsc.results.save` writes
    it. Raises ValueError if the model does not take the data set's inputs or has no such layer, and
    for 'running' and 'recalibrated' where a layer keeps no running statistics.
    """
    training.arguments.check_dataset(dataset)
    if not len(dataset.test):
        raise ValueError("the test split holds 0 samples, expected at least 1")
    diverged = isinstance(model, training.Trained) and model.status == "diverged"
    model = model.model if isinstance(model, training.Trained) else model
    model = getattr(model, "_orig_mod", model)  # of torch.compile
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a network or one run of fit, found {shown(model)}")
    if isinstance(methods, str):
        methods = [methods]
    for name, value in (("samples", samples), ("prune_samples", prune_samples)):
        if value is not None and not is_whole(value, 1):
            raise ValueError(f"{name} must be a whole number >= 1, found {shown(value)}")
    if device is not None:
        device = training.arguments.device(device)
    names = [statistics] if isinstance(statistics, str) else list(statistics)
    if not names:
        raise ValueError("statistics is empty: give at least one of running, batch, recalibrated")
    if diverged:
        gone = nothing()
        others = ("attribution", "deeplift", "completeness", "chance")
        kept = [name for name in gone if not str(name).startswith(others)]
        found = gone[kept].expand_dims(statistics=names)
    else:
        seen = observe(model, dataset, samples, device, layer, names[0])
        (found,) = measure_each(
            [model], dataset, methods=methods, prune_samples=prune_samples, statistics=names,
            seen=[seen], samples=samples, layer=layer,
        )  # fmt: skip
    found.attrs |= {
        "dataset": dataset.name, "source_id": dataset.source_id, "checksum": dataset.checksum,
        "rho": dataset.rho, "n_train": len(dataset.train), "n_test": len(dataset.test),
    } | results.provenance(next(model.parameters()).device)  # fmt: skip
    return found.squeeze("statistics") if isinstance(statistics, str) else found


def measure_each(
    networks: Sequence[nn.Module],
    dataset: BiasedDataset,
    *,
    methods: Iterable[str] = pruning.METHODS,
    prune_samples: int | None = None,
    statistics: Sequence[str] | None = None,
    seen: "Sequence[Observed] | None" = None,
    samples: int = SAMPLES,
    layer: str | None = None,
    train: Split | None = None,
) -> list[xr.Dataset]:
    """`measure` of networks of one architecture, whose pruning curves are computed together.

    statistics: a dimension of the results; None: all, without the dimension if they make no
    difference. seen: what `observe` returned for the networks with the first of them, if already
    called. train: samples to recalibrate pruned networks with, by default the data set's. Nothing
    is copied to the host before all is computed. Other arguments and errors: as in `measure`.
    """
    if not networks:
        return []
    methods = list(methods)
    check_names("pruning method", methods, pruning.METHODS)  # results have names for these only
    train = dataset.train if train is None else train
    dataset = dataclasses.replace(dataset, test=dataset.test.loaded())  # read once for all
    # a network without batch normalisation is the same in all of them
    apart = (statistics or models.STATISTICS)[: None if models.batch_norms(networks[0]) else 1]
    found: list[list[dict]] = []
    for name in apart:
        if name != apart[0] or seen is None:
            seen = [observe(net, dataset, samples, None, layer, name) for net in networks]
        test = seen[0].test
        pruned_on = test if prune_samples is None else fixed_samples(test, prune_samples)
        right = [(what.logits.argmax(1) == test.y).double().mean()[None] for what in seen]
        pruned = pruning_measures(
            networks, pruned_on, methods, name, train, metrics.chance(test.y),
            torch.stack(right) if prune_samples is None or prune_samples >= len(test) else None,
            models.classifier_name(networks[0], layer),
        )  # fmt: skip
        found.append([
            accuracy_measures(what.logits, what.test, dataset.train)
            | representation_measures(what.z, what.chosen.y, what.chosen.bias)
            | {name: values[k] for name, values in pruned.items()}
            for k, what in enumerate(seen)
        ])  # fmt: skip
    results = [
        by_statistics(dict(zip(apart, each, strict=True)), statistics)
        for each in zip(*found, strict=True)
    ]
    for result, what, net in zip(results, seen or (), networks, strict=True):
        _note(result, what.chosen, net, layer)
    return results


def _note(found: xr.Dataset, chosen: Split, net: nn.Module, layer: str | None) -> None:
    """Say in attributes why measures are NaN, and what pruning did not look at."""
    notes = {
        "adjusted_average": "no group of the test samples is one of training",
        "class_separation": "no class has two of the test samples",
    }
    for names, labels, kind in (
        (("csi", "csi_all"), chosen.y, "class"),
        (("bsi", "bsi_all"), chosen.bias, "bias value"),
    ):
        several = labels is not None and len(labels[labels >= 0].unique()) > 1
        why = "no neuron is active" if several else f"the test samples show one {kind} only"
        notes |= dict.fromkeys(names, why)
    for name in PRUNABILITY.values():
        notes[name] = "the accuracy before pruning is 0"
        notes[f"{name}_corrected"] = "the accuracy before pruning is hardly above chance"
        if name in found and (alone := pruning.left_alone(net, layer)):
            pruned = sum(p.numel() for p in pruning.prunable(net, layer).values())
            found[name].attrs["left_alone"] = ", ".join(alone)
            share = pruned / (pruned + sum(p.numel() for p in alone.values()))
            found[name].attrs["pruned_share"] = share
    for name in notes.keys() & found.keys():
        if found[name].isnull().any():
            found[name].attrs["note"] = f"NaN: {notes[name]}"


def by_statistics(measures: Mapping[str, dict], names: Sequence[str] | None) -> xr.Dataset:
    """Measures of one network in some statistics -> Dataset with the dimension `statistics`.

    names: entries of the dimension; those in which the network was not measured repeat the first
    measurement. None: those measured, without the dimension if there is only one.
    """
    parts = {name: as_dataset(each) for name, each in measures.items()}
    first = next(iter(parts.values()))
    if names is None and len(parts) == 1:
        return first
    names = list(names or parts)
    shared = [name for name in SINGLE if name in first]
    found = [parts.get(name, first) for name in names]
    apart = xr.concat([part.drop_vars(shared) for part in found], "statistics", join="outer")
    about = {"units": "1", "long_name": "statistics of batch normalisation"}
    apart = apart.assign_coords(statistics=("statistics", np.array(names, object), about))
    return apart.assign(first[shared].data_vars)


@dataclasses.dataclass(frozen=True)
class Observed:
    """What a network does on the test split: logits of all samples, z of the chosen ones."""

    test: Split
    logits: Tensor
    chosen: Split
    z: Tensor


def observe(
    model: nn.Module,
    dataset: BiasedDataset,
    samples: int = SAMPLES,
    device: torch.device | str | None = None,
    layer: str | None = None,
    statistics: str = "running",
) -> Observed:
    """Run a network (moved to `device` if given) once over the test split.

    layer, statistics: as in `measure`, but a single one of the statistics.
    """
    own = next(model.parameters(), torch.empty(0)).device  # `check` refuses one without any
    device = torch.device(device or own)
    models.check(model.to(device), dataset)
    if layer is None:  # anew: training may have changed what returns the logits
        models.find(model, dataset.test.inputs(dataset.test.x[:8]).to(device))
    net, mode = models.settled(model, statistics, dataset.train)
    test = dataset.test.to(device).loaded()
    chosen = fixed_samples(test, samples)
    by_batch = mode == "batch" and models.batch_norms(net)
    size = len(chosen) if by_batch else models.pass_size(chosen.x.shape[1:])
    order = torch.arange(len(chosen)).split(size)
    z = torch.cat([models.representation(net, x, layer, mode) for x in chosen.batches(order)])
    return Observed(test, models.predict(net, test, mode), chosen, z)


def fixed_samples(split: Split, n: int) -> Split:
    """The same n random samples of a split every time (all of them where there are fewer)."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    return split.take(order[: int(n)])


def accuracy_measures(logits: Tensor, test: Split, train: Split) -> dict[str, Tensor]:
    """Accuracies and loss of logits on the test split; group measures need bias labels."""
    predicted = logits.argmax(1)
    found = {
        "unbiased_accuracy": (predicted == test.y).double().mean(),
        "chance": metrics.chance(test.y),
        "test_loss": F.cross_entropy(logits.double(), test.y),
    }
    if test.bias is None or not (known := test.known).any():
        return found
    predicted, y, bias = predicted[known], test.y[known], test.bias[known]
    found["group_accuracy"] = metrics.group_accuracies(predicted, y, bias)
    found["worst_group_accuracy"] = metrics.worst_group_accuracy(predicted, y, bias)
    if train.bias is not None and (known := train.known).any():
        found["adjusted_average"] = torch.tensor(torch.nan)
        with contextlib.suppress(ValueError):  # where no group is in both splits
            found["adjusted_average"] = metrics.adjusted_average(
                predicted, y, bias, train.y[known].to(y), train.bias[known].to(y)
            )
    return found


def representation_measures(z: Tensor, y: Tensor, bias: Tensor | None) -> dict[str, Tensor]:
    """Measures of representations z (N x d) with class and bias labels; NaN where not defined.

    Samples of unknown bias (a label below 0) are left out of bias selectivity.
    """
    z = z.float()
    active = metrics.active_neurons(z)
    nan = z.new_tensor(torch.nan)
    defined = y.unique(return_counts=True)[1].max() > 1
    found = {
        "activation_compressibility": metrics.compressibility(z).mean(),
        "sparsity": metrics.sparsity(z).mean(),
        "pq_index": metrics.pq_index(z).mean(),
        "class_separation": metrics.class_separation(z, y) if defined else nan,
    }
    for name, labels in (("csi", y), ("bsi", bias)):
        if labels is not None and (known := labels >= 0).any():
            several = len(labels[known].unique()) > 1
            index = metrics.class_selectivity(z[known], labels[known]) if several else nan * z[0]
            found |= {name: index[active].mean(), f"{name}_all": index.mean()}
    return found


def pruning_measures(
    networks: Sequence[nn.Module],
    split: Split,
    methods: Iterable[str],
    statistics: str = "running",
    train: Split | None = None,
    chance: Tensor | None = None,
    before: Tensor | None = None,
    layer: str | None = None,
) -> dict[str, Tensor]:
    """Pruning curves and prunabilities, a row a network; without suffix those of `column`.

    train: for recalibrated statistics; chance: that of the test labels, default of the split's;
    before: accuracies of the networks on the split, a row each, where they are known.
    """
    found = {}
    level = metrics.chance(split.y) if chance is None else chance
    for method in methods:
        kappas = pruning.KAPPAS if before is not None else (0.0, *pruning.KAPPAS)
        after = pruning.pruning_curves(
            networks, split, kappas, method, statistics=statistics, recalibrate=train, layer=layer
        )
        if before is None:
            before, after = after[:, :1], after[:, 1:]
        name = PRUNABILITY[method]
        found[f"accuracy_pruned_{method}"] = after
        found[name] = (after / before).mean(1)
        found[f"{name}_corrected"] = metrics.chance_corrected(after, before, level).mean(1)
    return found


def attribution_measures(
    model: nn.Module, split: Split, statistics: str = "running"
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Integrated Gradients and DeepLIFT of the true labels of a split, and measures of them.

    statistics: 'running', or 'batch': those of this split, which paths and references share.
    Returns the measures, means over samples, and each method's maps (N x H x W, or N x d): signed,
    each divided by its largest absolute value. Shares of regions need masks.
    """
    x = split.inputs(split.x[:])
    if statistics == "batch" and models.batch_norms(model):
        model = models.with_statistics_of(model, x)
    found, maps = {}, {}
    for name, method, prefix, suffix in (
        ("integrated_gradients", attribution.integrated_gradients, "attribution", ""),
        ("deeplift", attribution.deeplift, "deeplift", "_deeplift"),
    ):
        a = method(model, x, split.y)
        found[f"{prefix}_entropy"] = attribution.entropy(a).nanmean()
        for region, mask in split.regions.items():
            found[f"{prefix}_{region}"] = attribution.share(a, mask).nanmean()
        error = attribution.completeness_error(model, x, split.y, a)
        found[f"completeness_error{suffix}"] = error.mean()
        maps[name] = attribution.normalised_maps(a)
    sizes = (a.flatten(1).abs() for a in maps.values())
    found["attribution_agreement"] = metrics.rank_correlation(*sizes).nanmean()
    return found, maps


def as_dataset(measures: dict) -> xr.Dataset:
    """Measures by name -> Dataset with units and long names."""
    variables = {}
    for name, value in measures.items():
        about = VARIABLES[name]
        array = np.asarray(value.cpu() if isinstance(value, Tensor) else value)
        variables[name] = about.dims, array, about.attrs
    found = xr.Dataset(variables)
    if "kappa" in found.dims:
        zeroed = {"units": "1", "long_name": "share of parameters set to zero"}
        found = found.assign_coords(kappa=("kappa", np.array(pruning.KAPPAS), zeroed))
    return found


def nothing() -> xr.Dataset:
    """The measures of a diverged network: all NaN, so that its run keeps its place."""
    curve = torch.full((len(pruning.KAPPAS),), torch.nan)
    names = (name for name in OF_NETWORK if name != "group_accuracy")
    return as_dataset({n: curve if VARIABLES[n].dims else torch.nan for n in names})
