"""What the section on the mechanism shows: loss ratios, curves along training, neurons, theory."""

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr

from lrsc import experiments, metrics, plots, results
from lrsc.pages import display, readings
from lrsc.pages.sections import each_alike, measured_rows
from lrsc.studies import contrast, theory
from lrsc.training.probes import fixed_indices

RATIOS = ("max_loss_ratio", "max_loss_ratio_fixed")  # the paper's own definition first
DYNAMICS = {  # title -> curves of the probe
    "accuracy of the training samples (%)": ("ba_accuracy", "bc_accuracy"),
    "loss (nat)": ("ba_loss", "bc_loss"),
    "loss ratio: bias-conflicting / total": ("loss_ratio",),
    "entropy of the per-sample losses (nat)": ("loss_entropy",),
    "norm of the logits": ("logit_norm",),
    "norm of all weights": ("weight_norm",),
    "mean loss, bias-aligned / bias-conflicting": ("loss_quotient",),
}
_GROUPS = ("conflicting", "at_least", "at_most", "low", "high", "source_id", "profile", "made_by")
ALPHAS = np.geomspace(0.1, 300, 24)


def show_loss_ratios(sections: Sequence[str] = ("synthetic", "semi_synthetic")) -> None:
    """Display accuracy against the largest loss ratio for all measured rows, with correlations."""
    measured = measured_rows(*sections, statistics="running").values()
    every = [group for row in measured for group in experiments.alike(row)]
    rows = sorted(filter(_complete, every), key=_size, reverse=True)
    if not rows:
        return display.say_unmeasured()
    found = [_correlations(row) for row in rows]
    figures = [plots.against_loss_ratio(rows, name) for name in RATIOS]
    single = [row[[str(n) for n in row if row[n].dims == ("run",)]] for row in rows]
    together = xr.concat(single, "run", join="outer", combine_attrs="override")
    lead = (
        "A dot is a run, lighter at larger LRs. First figure: the loss ratio of single "
        "mini-batches, in which two or three samples conflict, as the paper defines it; second: on "
        "1,000 fixed training samples, every 200 iterations."
    )
    display.show(*figures, caption=f"{lead} {display.caption_of(together, '')}")
    cells = [
        [plots.row_name(row), str(int(np.isfinite(row["unbiased_accuracy"].values).sum())),
         *map(_interval, of)]
        for row, of in zip(rows, found, strict=True)
    ]  # fmt: skip
    heads = ["Row", "Runs", "Mini-batches", "Fixed samples"]
    text = "Spearman's rank correlation over runs, with its 95 % bootstrap interval."
    batches, fixed = (readings.of_correlations([of[k] for of in found]) for k in range(2))
    display.show_cells(heads, cells, f"{text} Mini-batches: {batches} Fixed samples: {fixed}")


def _size(row: xr.Dataset) -> int:
    return int(row["n_train"].values[0])


def _correlations(row: xr.Dataset) -> list[tuple[float, float, float]]:
    """Of accuracy with each of RATIOS, with intervals."""
    *ratios, accuracy = (torch.from_numpy(row[n].values) for n in (*RATIOS, "unbiased_accuracy"))
    return [metrics.rank_correlation_interval(x, accuracy) for x in ratios]


@each_alike
def show_dynamics(ds: xr.Dataset, command: str | None = None) -> None:
    """Display losses, accuracies and norms along training at the lowest and the highest LR."""
    every, ds = ds, _recorded_runs(ds, "dynamics")
    if not ds.sizes.get("run"):
        return display.say_absent(every)
    ds = _with_derived(ds)
    known = {
        title: names for title, names in DYNAMICS.items()
        if any(f"curve_dynamics_{name}" in ds for name in names)
    }  # fmt: skip
    lead = (
        "Measured on fixed training samples in evaluation mode. Lines: means over seeds; bands: "
        "± 1 standard deviation."
    )
    display.show_runs(ds, command, lead, plots.along_training(ds, _ends(ds), known))
    readings.say_each([ds], readings.of_dynamics)


@each_alike
def show_dominance(ds: xr.Dataset, command: str | None = None) -> None:
    """Display which neurons keep their dominance, as a figure, and as a table by run."""
    every, ds = ds, _recorded_runs(ds, "dynamics")
    if not ds.sizes.get("run") or "curve_dynamics_bsi" not in ds:
        return display.say_absent(every)
    of_runs = [_dominance(ds.isel(run=i)) for i in range(ds.sizes["run"])]
    at = zip(ds["lr"].values.tolist(), ds["seed"].values.tolist(), strict=True)
    found = dict(zip(at, of_runs, strict=True))
    ds = ds.assign({
        f"curve_dynamics_{name}": (("run", "dynamics_call"), np.stack([
            np.pad(of[name], (0, ds.sizes["dynamics_call"] - len(of[name])), constant_values=np.nan)
            for of in of_runs
        ])) for name in of_runs[0]
    })  # fmt: skip
    lead = (
        "Of the class-dominant neurons at an iteration (class selectivity above bias selectivity), "
        "the share that is still so at the end; the same for the others, which are bias-dominant. "
        "Figure: means over seeds, with bands of ± 1 standard deviation. Table: every run."
    )
    display.show_runs(ds, command, lead, plots.dominance(ds, _ends(ds)))
    heads = ["LR", "Seed", "Class-dominant at the end (%)", "Kept (%)", "Bias-dominant kept (%)"]
    kept = {
        at: [float(np.nanmean(of[k][1:-1])) for k in ("class_kept", "bias_kept")]
        for at, of in found.items()
    }
    cells = [
        [f"{lr:g}", str(seed), f"{100 * found[lr, seed]['class_dominant'][-1]:.1f}",
         *(f"{100 * share:.1f}" for share in shares)]
        for (lr, seed), shares in kept.items()
    ]  # fmt: skip
    display.show_cells(heads, cells, readings.of_dominance(kept))


@each_alike
def show_updates(ds: xr.Dataset, command: str | None = None) -> None:
    """Display how neurons' spurious share moves around their largest updates."""
    ds = _recorded_runs(ds, "neurons")
    if not ds.sizes.get("run"):
        return display.say_unmeasured()
    found = {
        f"learning rate {lr:g}": [
            _response(ds.isel(run=int(i))) for i in np.flatnonzero(ds["lr"].values == lr)
        ] for lr in np.unique(ds["lr"].values)
    }  # fmt: skip
    steps = ds["neurons_step"].values[0]
    every = int(steps[1] - steps[0])
    lead = (
        "Share of a neuron's attribution on the spurious region, in percentage points relative to "
        "its value at an update. Largest updates: the top 1 % of each neuron's gradient norms. "
        "Means over events and seeds; bands: ± 1 standard deviation over seeds."
    )
    display.show_runs(ds, command, lead, plots.update_response(found, every))
    readings.say_each([ds], lambda _: readings.of_updates(found, every))


@each_alike
def show_crossfit(ds: xr.Dataset) -> None:
    """Display CIFAR-10's curves along training by groups that other networks defined.

    ds: the runs on all training samples; the groups come from `lrsc results crossfit`.
    """
    ds = _recorded_runs(ds, "dynamics")
    if not ds.sizes.get("run"):
        return display.say_unmeasured()
    groups = display.usable("lrsc results crossfit", results.derived, contrast.CROSSFIT, _GROUPS)
    if groups is None:
        text = "The groups are not measured yet: run `lrsc sweep crossfit --profile desk`, then "
        display.say(f"{text}`lrsc results crossfit`. Without groups, we can show:")
        return show_dynamics(ds)
    count, n = int(groups["conflicting"].sum()), groups.sizes["sample"]
    a = groups.attrs
    display.say(
        f"{count:,} of the {n:,} training samples count as conflicting: at least "
        f"{a['at_least']:.0%} of the networks at learning rate {a['high']:g} and at most "
        f"{a['at_most']:.0%} of those at {a['low']:g}, trained on the other half, get them "
        f"right. Source `{a['source_id']}`, profile {a['profile']}. Made by `{a['made_by']}`."
    )
    show_dynamics(by_groups(ds, groups["conflicting"].values))


def by_groups(ds: xr.Dataset, conflicting: np.ndarray) -> xr.Dataset:
    """Curves of bias-aligned and bias-conflicting samples, for groups that are given afterwards.

    conflicting: bool, one for each training sample; the curves come from the per-sample losses and
    margins of the probe's fixed samples. Raises ValueError where these hold no conflicting one.
    """
    losses, margins = (ds[f"curve_dynamics_sample_{n}"].values for n in ("loss", "margin"))
    of_bc = np.asarray(conflicting, bool)[fixed_indices(len(conflicting), losses.shape[-1])]
    if not of_bc.any() or of_bc.all():
        raise ValueError(
            f"{int(of_bc.sum())} of the probe's {len(of_bc)} fixed samples conflict, expected some "
            "of either kind"
        )
    right = np.where(np.isfinite(margins), margins > 0, np.nan)
    curves = {"loss_ratio": losses[..., of_bc].sum(-1) / losses.sum(-1)}
    for group, here in (("ba", ~of_bc), ("bc", of_bc)):
        curves[f"{group}_loss"] = losses[..., here].mean(-1)
        curves[f"{group}_accuracy"] = right[..., here].mean(-1)
    dims = ("run", "dynamics_call")
    return ds.assign({f"curve_dynamics_{name}": (dims, curve) for name, curve in curves.items()})


def show_propositions(seed: int = 0) -> None:
    """Compute propositions 1 and 2 now, and display the rates beside the proved ones."""
    generator = torch.Generator().manual_seed(seed)
    margins = 0.5 + torch.rand(100, generator=generator, dtype=torch.float64)
    conflicting = torch.arange(100) < 10
    losses = theory.loss_rates(ALPHAS, margins, conflicting)
    gradients = theory.gradient_ratios(ALPHAS, seed)
    display.show(
        plots.propositions(ALPHAS, losses, gradients),
        caption="Computed with this page by `lrsc.studies.theory`: 100 samples, of which 10 "
        "conflict; margins uniform in 0.5 to 1.5.",
    )
    last, middle = slice(-6, None), (ALPHAS > 10) & (ALPHAS < 60)
    slope = theory.fitted_slope
    mean_margin, least = float(margins[conflicting].mean()), float(margins[~conflicting].min())
    log = np.log(ALPHAS)
    rows = [
        ["BC share of the loss", f"{float(losses['loss_ratio'][-1]):.6f}", "1 (limit)"],
        ["BC loss against α, slope", f"{slope(ALPHAS[last], losses['bc_loss'][last]):.4f}",
         f"{mean_margin:.4f} (mean BC margin)"],
        ["log BA loss against α, slope",
         f"{slope(ALPHAS[middle], losses['ba_loss'][middle].log()):.4f}",
         f"{-least:.4f} (smallest BA margin) from below"],
        ["log gradient ratio against log α, slope",
         f"{slope(log[last], gradients['ratio'][last].log()):.4f}", "1 (Θ(α))"],
        ["log core gradient norm against log α, slope",
         f"{slope(log[last], gradients['core'][last].log()):.4f}", "0 (bounded)"],
    ]  # fmt: skip
    display.show_cells(["Quantity", "Computed", "Proved"], rows)


def _complete(row: xr.Dataset) -> bool:
    """Whether at least four runs have a value of both, without which there is no correlation."""
    values = [row[name].values for name in (*RATIOS, "unbiased_accuracy") if name in row]
    return len(values) == 3 and int(np.isfinite(values).all(0).sum()) >= 4


def _interval(found: tuple[float, float, float]) -> str:
    value, low, high = found
    between = f" ({low:.2f} to {high:.2f})" if low < high else ""  # of no width, where all agree
    return "–" if not np.isfinite(value) else f"{value:.2f}{between}"


def _recorded_runs(ds: xr.Dataset, probe: str) -> xr.Dataset:
    """The runs that did not diverge and hold the curves of a probe."""
    if not ds.sizes.get("run") or f"{probe}_step" not in ds:
        return xr.Dataset()
    held = np.isfinite(ds[f"{probe}_step"].values).any(1)
    return ds.isel(run=held & (ds["status"].values != "diverged"))


def _ends(ds: xr.Dataset) -> tuple[float, ...]:
    """The lowest and the highest LR; one where there is only one."""
    lrs = np.unique(ds["lr"].values).tolist()
    return tuple(dict.fromkeys((lrs[0], lrs[-1])))


def _with_derived(ds: xr.Dataset) -> xr.Dataset:
    """With the norm of all parameters together, and the quotient of both groups' losses."""
    if "curve_dynamics_ba_loss" in ds:
        quotient = ds["curve_dynamics_ba_loss"] / ds["curve_dynamics_bc_loss"]
        ds = ds.assign(curve_dynamics_loss_quotient=quotient)
    norms = ds["curve_dynamics_parameter_norm"]
    total = np.sqrt(np.nansum(norms.values.astype(float) ** 2, -1))
    total = np.where(np.isfinite(ds["dynamics_step"].values), total, np.nan)
    return ds.assign(curve_dynamics_weight_norm=(norms.dims[:-1], total))


def _dominance(run: xr.Dataset) -> dict[str, np.ndarray]:
    found = metrics.dominance_persistence(
        *(torch.from_numpy(results.curve_of(run, "dynamics", name)) for name in ("csi", "bsi"))
    )
    return {k: v.numpy().astype(float) for k, v in found.items()}


def _response(run: xr.Dataset) -> dict[str, np.ndarray]:
    at = np.isfinite(run["neurons_step"].values)
    norms, shares = (
        torch.from_numpy(run[f"curve_neurons_{name}"].values[at][:-1])  # the last has no gradient
        for name in ("gradient_norm", "spurious_share")
    )
    alive = shares.isfinite().any(0)
    found = metrics.update_response(norms[:, alive], shares[:, alive])
    return {name: values.numpy() for name, values in found.items()}
