"""Networks of a low and of a high LR, side by side: what only the high LR gets right, and why.

Made from the results and weights of runs that are done on this machine. Nothing is chosen by hand:
samples are found by a rule and drawn by a seed.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from lrsc import attribution, datasets, experiments, models, results, significance
from lrsc.config import RunConfig
from lrsc.datasets import cifar10
from lrsc.errors import ResultMissing
from lrsc.results import consolidated
from lrsc.runs import load, load_checkpoint

AT_LEAST, AT_MOST = 0.8, 0.2  # shares of the high- and low-LR networks that are right
SAMPLES = 100  # of each kind on which attributions are compared
CROSSFIT = "crossfit_cifar10"  # the file of the groups; `crossfit` has the runs that found them
# low and high, of the runs of that experiment
CROSSFIT_LRS = experiments.EXPERIMENTS["crossfit"][0].plans["desk"].values
SHOWN = 8  # of these, with images and maps
HELD = (  # what a comparison that ships has
    "integrated_gradients_entropy", "deeplift_entropy", "selected", "lr", "seed", "dataset",
    "model", "profile", "source_id", "low", "high", "n_train", "n_test", "at_least", "at_most",
    "drawn_by", "only_high", "foreground", "device", "made_by",
)  # fmt: skip
METHODS: dict[str, Callable[..., Tensor]] = {
    "integrated_gradients": attribution.integrated_gradients,
    "deeplift": attribution.deeplift,
}


def only_high(
    low: np.ndarray, high: np.ndarray, at_least: float = AT_LEAST, at_most: float = AT_MOST
) -> np.ndarray:
    """Samples that most high-LR networks get right and most low-LR networks get wrong: n bools.

    low, high: bool, networks x n, whether a network is right on a sample. at_least: share of the
    high-LR networks that are right, at_most: of the low-LR ones. Raises ValueError for no networks
    and thresholds that are no shares. Fig. 8 of the paper.
    """
    for name, share in (("at_least", at_least), ("at_most", at_most)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be a share in [0, 1], found {share!r}")
    low, high = np.atleast_2d(low), np.atleast_2d(high)
    if not len(low) or not len(high) or low.shape[1] != high.shape[1]:
        raise ValueError(
            f"low has shape {low.shape} and high {high.shape}, expected networks x n for the same "
            "n samples, at least one network each"
        )
    return (high.mean(0) >= at_least) & (low.mean(0) <= at_most)


def compare(
    dataset: str,
    model: str,
    lrs: tuple[float, float],
    profile: str = "desk",
    *,
    at_least: float = AT_LEAST,
    at_most: float = AT_MOST,
    samples: int = SAMPLES,
    seed: int = 0,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
) -> xr.Dataset:
    """Attributions of the networks of two LRs on test samples that only the high LR gets right.

    lrs: low and high; all runs of any experiment in this profile that are done here are taken.
    samples: number drawn by `seed` from those that `only_high` finds, and as many from all others.
    Returns for each run and sample the entropy and shares of both methods' maps, and for a few
    samples the images and mean |map| over the networks of each LR. Background shares are measured
    where the images are natural and have no masks. Diverged runs are left out and counted. Raises
    ValueError where results or weights are missing.
    """
    done = [runs_of(dataset, model, lr, profile, root) for lr in lrs]
    runs = [_fine(of_lr) for of_lr in done]
    data = load(_config(runs[0][0]), data_root)
    right = [np.stack([_right(run, data) for run in of_lr]) for of_lr in runs]
    chosen = only_high(right[0], right[1], at_least, at_most)
    rng = np.random.default_rng(seed)
    index = np.concatenate(
        [rng.permutation(np.flatnonzero(kind))[:samples] for kind in (chosen, ~chosen)]
    )
    split = data.test.take(torch.from_numpy(index))
    regions, method = _regions(split, data.name)
    shown = np.flatnonzero(chosen[index])[:SHOWN]
    networks = [[network_of(run, root, data_root) for run in of_lr] for of_lr in runs]
    found = xr.merge([
        _measures(networks, split, regions),
        _maps(networks, split.take(torch.from_numpy(shown))),
        xr.Dataset({
            "index": ("sample", index), "label": ("sample", split.y.numpy()),
            "selected": ("sample", chosen[index]),
            "right_low": ("sample", right[0].mean(0)[index]),
            "right_high": ("sample", right[1].mean(0)[index]),
            "shown": ("shown", shown),
        }),
    ])  # fmt: skip
    if "background" in regions and len(shown):
        found["foreground"] = ("shown", "row", "column"), ~regions["background"][shown, 0].numpy()
    every = [run for of_lr in runs for run in of_lr]
    found = found.assign_coords(
        lr=("run", [_config(run).train.lr for run in every]),
        seed=("run", [_config(run).seed for run in every]),
        run_id=("run", [run.attrs["run_id"] for run in every]),
    )
    return found.assign_attrs(
        dataset=dataset, model=model, profile=profile, source_id=data.source_id,
        low=float(lrs[0]), high=float(lrs[1]), n_train=len(data.train), n_test=len(chosen),
        at_least=at_least, at_most=at_most, drawn_by=seed, only_high=int(chosen.sum()),
        foreground=method, class_names=list(data.class_names),
        diverged=sum(map(len, done)) - len(every),
        device=", ".join(sorted({run.attrs["device"] for run in every})),
        made_by=f"lrsc results contrast --dataset {dataset} --model {model} --profile {profile} "
        f"--lrs {lrs[0]:g},{lrs[1]:g}",
    )  # fmt: skip


def crossfit(
    lrs: Sequence[float] = CROSSFIT_LRS,
    profile: str = "desk",
    *,
    at_least: float = AT_LEAST,
    at_most: float = AT_MOST,
    root: str | Path | None = None,
    data_root: str | Path | None = None,
) -> xr.Dataset:
    """Which training samples of CIFAR-10 count as conflicting, though it has no bias labels.

    Half of them is judged by networks that were trained on the other half: conflicting are those
    that `only_high` finds. Returns `conflicting`, `right_low` and `right_high` (shares of the
    networks) of each training sample. Raises ResultMissing where no run of a half and LR is done
    here, ValueError where weights are missing.
    """
    runs = {
        half: [_fine(runs_of("cifar10", "resnet18", lr, profile, root, half)) for lr in lrs]
        for half in cifar10.HALVES
    }
    options = {k: v for k, v in _config(runs["A"][0][0]).data if k != "half"}
    data = datasets.load("cifar10", root=data_root, source="real", **options)
    n = len(data.train)
    conflicting, right_low, right_high = np.zeros(n, bool), np.zeros(n), np.zeros(n)
    parts = cifar10.halves(data.train.y.numpy())
    for of_half, judged in zip((runs["B"], runs["A"]), parts, strict=True):
        split = data.train.take(torch.from_numpy(judged))
        low, high = (
            np.stack([_predicted(network_of(run, root, data_root), split) for run in of_lr])
            for of_lr in of_half
        )
        conflicting[judged] = only_high(low, high, at_least, at_most)
        right_low[judged], right_high[judged] = low.mean(0), high.mean(0)
    return xr.Dataset({
        "conflicting": ("sample", conflicting),
        "right_low": ("sample", right_low),
        "right_high": ("sample", right_high),
    }, attrs={
        "dataset": "cifar10", "model": "resnet18", "profile": profile,
        "source_id": data.source_id, "low": float(lrs[0]), "high": float(lrs[1]), "n_train": n,
        "at_least": at_least, "at_most": at_most,
        "networks": [len(of_lr) for of_half in runs.values() for of_lr in of_half],
        "made_by": f"lrsc results crossfit --profile {profile} --lrs {lrs[0]:g},{lrs[1]:g}",
    })  # fmt: skip


def stored(dataset: str, model: str, root: str | Path | None = None) -> xr.Dataset | None:
    """The comparison of a data set and model, local or shipped: see `results.derived`."""
    return results.derived(f"contrast_{dataset}_{model}", HELD, root)


def over_test_set(found: xr.Dataset, name: str) -> np.ndarray:
    """Of each network of a comparison, the mean of a measure over the test set.

    Estimated from the samples of both kinds, each kind counted by its share of the test set.
    """
    share = float(found.attrs["only_high"]) / float(found.attrs["n_test"])
    selected, values = found["selected"].values.astype(bool), found[name].values
    kinds = [(w, k) for w, k in ((share, selected), (1 - share, ~selected)) if w > 0 and k.any()]
    means = [weight * np.nanmean(values[:, kind], axis=1) for weight, kind in kinds]
    return np.sum(means, axis=0) / sum(weight for weight, _ in kinds)


def paired(found: xr.Dataset, name: str, selected: bool = True) -> dict[str, float]:
    """A measure of `compare` at the high LR minus the low one, sample by sample.

    Means over the networks of each LR first. Returns `low`, `high` (means over samples),
    `difference` with a 95 % bootstrap interval `from`, `to`, and `p` of Wilcoxon's signed-rank
    test, two-sided, and `n`. NaN where fewer than six samples have a value.
    """
    from scipy import stats  # type: ignore[import-untyped]

    here = found[name].isel(sample=found["selected"].values == selected)
    low, high = (
        here.isel(run=found["lr"].values == found.attrs[which]).mean("run").values
        for which in ("low", "high")
    )
    known = np.isfinite(low) & np.isfinite(high)
    difference = (high - low)[known]
    if len(difference) < 6:
        nothing = dict.fromkeys(("low", "high", "difference", "from", "to", "p"), float("nan"))
        return nothing | {"n": len(difference)}
    low_end, high_end = significance.interval(difference)
    p = stats.wilcoxon(difference).pvalue if difference.any() else 1.0
    return {
        "low": low[known].mean(), "high": high[known].mean(), "difference": difference.mean(),
        "from": low_end, "to": high_end, "p": float(p),
        "n": len(difference),
    }  # fmt: skip


def runs_of(
    dataset: str, model: str, lr: float, profile: str, root: str | Path | None, half: str = ""
) -> list[xr.Dataset]:
    """Local results of this data set, model and LR in a profile, as in the row of the LR alone."""
    data = {"half": half} if half else experiments.usual_data(dataset, model, profile)
    local = consolidated.measures(root)
    columns = [] if local is None else [local[name].values for name in ("run_id", "config")]
    found = []
    for name, text in zip(*columns, strict=True):
        config = results.parsed(text)
        wanted = experiments.run_config(
            dataset, model, lr, config.seed, profile, config.train.max_epochs, data
        )
        if config == wanted:
            found.append(results.load(results.run_path(name, root)))
    if not found:
        sweep = f"crossfit --profile {profile}" if half else "with this data set, model and LR"
        raise ResultMissing(
            f"no run of {dataset!r} and {model!r} at LR {lr:g} in profile {profile!r}"
            + (f", half {half}" if half else "")
            + f" is done here: lrsc sweep {sweep} first"
        )
    return found


def _fine(runs: list[xr.Dataset]) -> list[xr.Dataset]:
    """Those that did not diverge; ValueError where all did."""
    fine = [run for run in runs if run.attrs["status"] != "diverged"]
    if not fine:
        config = _config(runs[0])
        raise ValueError(
            f"all {len(runs)} runs of {config.dataset!r} and {config.model!r} at LR "
            f"{config.train.lr:g} diverged: compare with a smaller LR"
        )
    return fine


def _config(run: xr.Dataset) -> RunConfig:
    return RunConfig.from_json(run.attrs["config"])


def _right(run: xr.Dataset, data: datasets.BiasedDataset) -> np.ndarray:
    return run["logits"].values.argmax(1) == data.test.y.numpy()


def _predicted(net: nn.Module, split: datasets.Split) -> np.ndarray:
    return (models.predict(net, split).argmax(1) == split.y).numpy()


def network_of(run: xr.Dataset, root: str | Path | None, data_root: str | Path | None) -> nn.Module:
    """The network of a run that is done here, from its weights; ValueError where they are not."""
    path = results.weights_path(run.attrs["run_id"], root)
    return load_checkpoint(path, _config(run), data_root)[0]


def _regions(split: datasets.Split, dataset: str) -> tuple[dict[str, Tensor], str]:
    """Regions whose shares are told, and by what method a foreground was found."""
    if split.regions:
        return split.regions, "exact masks"
    if dataset not in ("cifar10", "cifar100"):
        return {}, "none"
    masks, method = attribution.foreground(split.x[:])
    return {"background": ~masks}, method


def _measures(
    networks: Sequence[Sequence[nn.Module]], split: datasets.Split, regions: dict[str, Tensor]
) -> xr.Dataset:
    """Entropy and shares of both methods' maps: run x sample."""
    x, rows = split.inputs(split.x[:]), []
    for net in (net for of_lr in networks for net in of_lr):
        row = {}
        for name, method in METHODS.items():
            a = method(net, x, split.y)
            row[f"{name}_entropy"] = attribution.entropy(a)
            for region, mask in regions.items():
                of = attribution.background_share(a, ~mask) if region == "background" else (
                    attribution.share(a, mask)
                )  # fmt: skip
                row[f"{name}_{region}"] = of
        rows.append(row)
    return xr.Dataset({
        name: (("run", "sample"), torch.stack([row[name] for row in rows]).float().numpy())
        for name in rows[0]
    })  # fmt: skip


def _maps(networks: Sequence[Sequence[nn.Module]], split: datasets.Split) -> xr.Dataset:
    """Images, and of each LR the mean over networks of the size of both methods' maps."""
    if not len(split) or split.x.ndim != 4:
        return xr.Dataset()
    x, found = split.inputs(split.x[:]), {}
    for name, method in METHODS.items():
        of_lr = [
            torch.stack([attribution.normalised_maps(method(n, x, split.y)).abs() for n in nets])
            for nets in networks
        ]
        mean = torch.stack([maps.mean(0) for maps in of_lr]).half().float().numpy()
        found[f"map_{name}"] = ("group", "shown", "row", "column"), mean
    found["image"] = ("shown", "channel", "row", "column"), split.x[:].numpy()
    return xr.Dataset(found, {"group": ["low", "high"]})
