"""What figures, tables and captions say: names, numbers, means over seeds, sources."""

from collections.abc import Iterable, Sequence

import numpy as np
import xarray as xr

from lrsc import datasets, errors, experiments
from lrsc.measures.variables import VARIABLES

FLAT = 0.01  # change, in a measure's own unit, below which a curve counts as flat
MAIN = ("unbiased_accuracy", "prunability", "activation_compressibility")

# name -> (colour of Okabe and Ito's colour-blind-safe set, marker)
_LOOKS = {
    "unbiased_accuracy": ("#0072B2", "o"),
    "prunability": ("#D55E00", "s"),
    "activation_compressibility": ("#009E73", "^"),
    "csi": ("#CC79A7", "D"),
    "class_separation": ("#E69F00", "v"),
    "worst_group_accuracy": ("#56B4E9", "P"),
    "adjusted_average": ("#332288", "X"),
    "train_accuracy": ("#999933", "h"),
    "prunability_magnitude": ("#882255", "p"),
    "prunability_corrected": ("#A6611A", "8"),
    "sparsity": ("#117733", "<"),
    "pq_index": ("#AA4499", ">"),
    "bsi": ("#555555", "d"),
    "max_loss_ratio": ("#44AA99", "*"),
    "max_loss_ratio_fixed": ("#661100", "H"),
    "filter_pq_index": ("#AA4499", ">"),
    "filter_compressibility": ("#009E73", "^"),
    "filter_sparsity": ("#117733", "<"),
    "attribution_entropy": ("#0072B2", "o"),
    "deeplift_entropy": ("#D55E00", "s"),
    "attribution_core": ("#0072B2", "o"),
    "deeplift_core": ("#D55E00", "s"),
}
STYLES = {name: (VARIABLES[name].label, *look) for name, look in _LOOKS.items()}
REGIONS = {"core": "#0072B2", "spurious": "#D55E00", "noise": "#666666"}
NAMES = {
    "parity": "Parity", "moon_star": "Moon-Star", "colored_mnist": "Colored MNIST",
    "double_mnist": "Double MNIST", "mnist_cifar": "MNIST-CIFAR", "celeba": "CelebA",
    "corrupted_cifar10": "Corrupted CIFAR-10", "waterbirds": "Waterbirds", "fcn": "FCN",
    "cnn": "CNN", "resnet18": "ResNet18", "resnet50": "ResNet50",
    "wide_resnet101_2": "Wide ResNet-101-2", "swin_t": "Swin-T", "cpu": "CPU", "cuda": "GPU",
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "imagenet": "ImageNet",
}  # fmt: skip


# intervention, or way of training -> (label, what its values are, colour, marker)
HYPERPARAMETERS = {
    "lr": ("Learning rate", "learning rate", "#0072B2", "o"),
    "high_lr_l2": ("High LR + L2", "L2 coefficient, at a high learning rate", "#D55E00", "s"),
    "batch_size": ("Batch size", "1 / batch size", "#009E73", "^"),
    "momentum": ("Momentum", "momentum", "#CC79A7", "D"),
    "l1": ("L1", "L1 coefficient", "#E69F00", "v"),
    "l2": ("L2", "L2 coefficient", "#56B4E9", "P"),
    "focal_gamma": ("Focal loss", "gamma of the focal loss", "#332288", "X"),
    "asam_rho": ("ASAM", "rho of ASAM", "#882255", "h"),
    "step": ("LR × 0.1 at a step", "initial learning rate", "#D55E00", "s"),
    "adam": ("Adam", "learning rate of Adam", "#009E73", "^"),
    "longer": ("Trained longer", "learning rate", "#CC79A7", "D"),
    "psgd_kron_wsd": ("PSGD, WSD", "learning rate of PSGD", "#E69F00", "v"),
    "adamw_cosine": ("AdamW, cosine", "learning rate of AdamW", "#56B4E9", "P"),
    "soup": ("Soup", "networks in the soup", "#882255", "*"),
    "switch": ("LR switched", "step at which the learning rate falls", "#332288", "X"),
}


def hyperparameter(name: str) -> tuple[str, str, str, str]:
    """Label, meaning of the values, colour and marker of an intervention."""
    return HYPERPARAMETERS.get(name, (name, name.replace("_", " "), "#000000", "o"))


def interventions_of(ds: xr.Dataset) -> list[str]:
    """The interventions that occur among the runs, in the order of the paper's tables."""
    order = list(HYPERPARAMETERS)
    names = dict.fromkeys(ds["hyperparameter"].values.tolist())
    return sorted(names, key=lambda n: order.index(n) if n in order else len(order))


def against_value(ds: xr.Dataset) -> xr.Dataset:
    """One intervention's runs, so that figures and tables show its values in place of LRs."""
    (name,) = set(ds["hyperparameter"].values.tolist())
    about = {"long_name": hyperparameter(name)[1]}
    return ds.assign_coords(lr=("run", ds["value"].values, about))


def rows_of(ds: xr.Dataset | Iterable[xr.Dataset]) -> list[xr.Dataset]:
    """Groups of runs that may share a panel (`lrsc.experiments.alike`), of one knob each.

    An intervention's runs are given against its value. Raises ValueError if there is no run.
    """
    if not isinstance(ds, xr.Dataset):
        return [row for each in ds for row in rows_of(each)]
    check(ds, (), one_pair=False)
    if "hyperparameter" not in ds.coords:
        return experiments.alike(ds)
    return [
        row if name == "lr" or "value" not in ds.coords else against_value(row)
        for group in experiments.alike(ds) for name in interventions_of(group)
        for row in [group.isel(run=group["hyperparameter"].values == name)]
    ]  # fmt: skip


def row_name(ds: xr.Dataset, besides: str = "") -> str:
    """What sets a row apart, for a title: data set, network, intervention, size, statistics.

    besides: a data set that is named elsewhere and so left out here.
    """
    dataset, model = names_of(ds)
    knob, statistics = (
        str(ds[name].values[0]) if name in ds.coords else ""
        for name in ("hyperparameter", "statistics")
    )
    parts = ["" if dataset == name_of(besides) else dataset, model]
    one = "hyperparameter" in ds.coords and len(set(ds["hyperparameter"].values.tolist())) == 1
    parts += [hyperparameter(knob)[0]] if one and knob != "lr" else []
    parts += [f"{samples_of(ds)} samples", statistics]
    others = str(ds.attrs.get("apart", "")).split(", ")
    parts += [text for text in others if not text.endswith(("training samples", "statistics"))]
    return ", ".join(part for part in parts if part and part != "running")


def paper_range(ds: xr.Dataset) -> dict[str, tuple[float, float]]:
    """Table S1's ranges, if the results are on the paper's own data with plain SGD; else none."""
    knobs = set(ds["hyperparameter"].values.tolist()) if "hyperparameter" in ds.coords else {"lr"}
    if knobs != {"lr"} or (ds["profile"].values == "quick").all():
        return {}
    return experiments.reference(str(ds["dataset"].values[0]), str(ds["model"].values[0])) or {}


def is_flat(ds: xr.Dataset, name: str) -> bool:
    """Whether a measure's means differ by no more than runs of one LR do, or than `FLAT`."""
    _, mean, sd = by_lr(ds, name)
    mean, sd = mean[np.isfinite(mean)], sd[sd > 0]
    spread = np.sqrt(np.mean(sd**2)) if len(sd) else 0.0
    return not len(mean) or float(np.ptp(mean)) <= max(FLAT, float(spread))


def axis_name(ds: xr.Dataset) -> str:
    """What the curves of a figure are drawn against."""
    return str(ds["lr"].attrs.get("long_name", "learning rate"))


def caption(ds: xr.Dataset, command: str | None = None, up: str | None = None) -> str:
    """Markdown caption of a figure made from ``ds``, from the results' own attributes.

    ``command`` reproduces the results; ``up`` leads from the page to the folder in which the paths
    of result files start (default: these are not linked).
    """
    check(ds, (), one_pair=False)
    coordinate = {name: np.unique(ds[name].values) for name in ("seed", "n_train", "source_id")}
    parts = [
        "source " + ", ".join(source(str(value)) for value in coordinate["source_id"]),
        "training samples " + ", ".join(f"{int(value):,}" for value in coordinate["n_train"]),
        "seeds " + ", ".join(str(int(value)) for value in coordinate["seed"]),
        f"{ds.sizes['run']} runs",
        "profile " + ", ".join(np.unique(ds["profile"].values)),
        "device " + ", ".join(np.unique(ds["device"].values)),
        f"{ds.attrs.get('origin', 'local')} results",
    ]
    modes = set(ds["statistics"].values.tolist()) - {""} if "statistics" in ds.coords else set()
    if modes:
        parts.append(f"batch normalisation evaluated with {' and '.join(sorted(modes))} statistics")
    for status in ("diverged", "collapsed", "cap"):
        count = int((ds["status"].values == status).sum())
        if count:
            parts.append(f"{count} {'stopped at the cap' if status == 'cap' else status}")
    text = "; ".join(parts) + "."
    text = text[0].upper() + text[1:]
    files = ds["file"].values.tolist() if "file" in ds.coords else [ds.attrs.get("file", "")]
    shown = [f"`{file}`" if up is None else f"[{file}]({up}{file})" for file in {*files} - {""}]
    text += f" Result file: {', '.join(sorted(shown))}." if shown else ""
    return text + (f" Made again by `{command}`." if command else "")


def source(source_id: str) -> str:
    """A source_id as shown to readers: a stand-in is called one."""
    stand_in = " (embedded stand-in, not the paper's data)"
    return f"`{source_id}`" + (stand_in if datasets.is_stand_in(source_id) else "")


def name_of(name: str) -> str:
    """A data set or model as it is called in text."""
    return NAMES.get(name, name)


def names_of(ds: xr.Dataset) -> tuple[str, str]:
    """Data set and model of the first run, as they are called in text."""
    return name_of(str(ds["dataset"].values[0])), name_of(str(ds["model"].values[0]))


def samples_of(ds: xr.Dataset) -> str:
    """The runs' numbers of training samples, as they are written in text."""
    return ", ".join(f"{n:,}" for n in np.unique(ds["n_train"].values))


def style(ds: xr.Dataset, name: str) -> tuple[str, str, str]:
    """Label, colour and marker of a variable; one without its own takes its ``long_name``."""
    label = str(ds[name].attrs.get("long_name", name.replace("_", " "))) if name in ds else name
    return STYLES.get(name, (label, "#000000", "o"))


def heading(name: str, ds: xr.Dataset | None = None) -> str:
    """Label of a variable for a table or an axis, with its unit where that is percent."""
    label = style(xr.Dataset() if ds is None else ds, name)[0]
    return f"{label} (%)" if is_percent(name) else label


def is_percent(name: str) -> bool:
    """Whether a variable, stored as a fraction, is shown in percent: accuracies are."""
    return VARIABLES[name].percent if name in VARIABLES else "accuracy" in name


def by_lr(ds: xr.Dataset, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LRs, and at each the mean and standard deviation over the runs that have a value.

    Without a value the mean is NaN; with fewer than two the deviation is 0. Raises ValueError for
    runs that may not be compared (`lrsc.experiments.alike`).
    """
    _check_alike(ds)
    values, lr = ds[name].values, ds["lr"].values
    lrs = np.unique(lr)
    groups = [mean_and_sd(values[(lr == each) & np.isfinite(values)]) for each in lrs]
    return lrs, np.array([mean for mean, _ in groups]), np.array([sd for _, sd in groups])


def mean_and_sd(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation over the first axis, the seeds: 0 of one value, NaN of none."""
    if not len(values):
        return np.full(values.shape[1:], np.nan), np.zeros(values.shape[1:])
    sd = values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])
    return values.mean(axis=0), sd


def ends(ds: xr.Dataset, name: str) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """(LR, mean of a variable) at the lowest and at the highest LR that has one, or None."""
    lrs, mean, _ = by_lr(ds, name)
    known = np.flatnonzero(np.isfinite(mean))
    if not len(known):
        return None
    first, last = ((float(lrs[i]), float(mean[i])) for i in (known[0], known[-1]))
    return first, last


def trend(ds: xr.Dataset, name: str) -> str:
    """One sentence: the mean of a variable at the lowest and at the highest LR that has one."""
    label, found = style(ds, name)[0], ends(ds, name)
    if found is None:
        return f"{label}: no run has a value."
    (low, first), (high, last) = found
    text = f"{label}: {number(name, first)} at {axis_name(ds)} {low:g}"
    if high > low:
        text += f", {number(name, last)} at {high:g}"
    return text + "."


def number(name: str, value: float) -> str:
    """A value as the reader sees it: ``61.2 %`` for an accuracy, ``0.612`` otherwise."""
    return f"{100 * value:.1f} %" if is_percent(name) else f"{value:.3f}"


def pair(ds: xr.Dataset) -> str:
    return f"data set {ds['dataset'].values[0]}, model {ds['model'].values[0]}"


def check(
    ds: xr.Dataset, variables: Sequence[str], one_pair: bool = True, one_row: bool = True
) -> None:
    """Raise ValueError for no runs, an unknown variable, and runs that do not compare.

    one_pair False: runs of any kind; one_row False: of several interventions.
    """
    if ds.sizes.get("run", 0) == 0:
        raise ValueError(
            "ds holds no run (dimension 'run' is empty or missing): open an experiment that has "
            "been measured, or select less narrowly"
        )
    for name in variables:
        if name not in ds.data_vars:
            raise errors.unknown("variable", name, [str(v) for v in ds.data_vars])
    found = sorted(set(zip(ds["dataset"].values, ds["model"].values, strict=True)))
    if one_pair and len(found) > 1:
        names = ", ".join(f"{dataset} with {model}" for dataset, model in found)
        raise ValueError(
            f"ds holds several data sets or models ({names}), a figure shows one: select it, as in "
            f"ds.isel(run=(ds.dataset.values == {str(found[0][0])!r}) "
            f"& (ds.model.values == {str(found[0][1])!r}))"
        )
    if one_pair:
        _check_alike(ds, one_row)


def _check_alike(ds: xr.Dataset, one_row: bool = True) -> None:
    """Raise ValueError for runs of one data set and model that do not compare."""
    groups = experiments.alike(ds)
    if len(groups) > 1:
        raise ValueError(
            f"ds mixes runs that do not compare ({'; '.join(g.attrs['apart'] for g in groups)}): "
            "take one group of lrsc.experiments.alike(ds) after the other"
        )
    rows = interventions_of(ds) if one_row and "hyperparameter" in ds.coords else []
    if len(rows) > 1:
        raise ValueError(
            f"ds holds runs of several interventions ({', '.join(rows)}): select one, as in "
            f"ds.isel(run=ds.hyperparameter.values == {rows[0]!r})"
        )
