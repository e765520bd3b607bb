"""Probes: functions of a network that `fit` calls at fixed iterations, in eval mode.

They look at fixed random training samples, which are read once and moved to the network's device
once. They change neither weights nor gradients, and wait for the device in Integrated Gradients
only.
"""

import dataclasses
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lrsc import attribution, models
from lrsc.datasets import BiasedDataset, Split
from lrsc.datasets.images import batches
from lrsc.errors import is_whole
from lrsc.metrics import loss_entropy, loss_ratio
from lrsc.metrics.representation import selectivity_of_groups


def fixed_loss_ratio(dataset: BiasedDataset, n: int = 1000) -> Callable[[nn.Module], Tensor]:
    """Probe: bias-conflicting loss / total loss on n fixed random training samples.

    Raises ValueError if the training split has no bias labels.
    """
    split = _fixed(dataset.train, n)
    _ = split.conflicting  # raises without bias labels

    def probe(net: nn.Module) -> Tensor:
        nonlocal split
        split = split.to(_device(net))
        _, logits = _observe(net, split)
        losses = F.cross_entropy(logits, split.y, reduction="none")
        return loss_ratio(torch.where(split.known, losses, 0.0), split.conflicting)

    return probe


def dynamics(dataset: BiasedDataset, n: int = 500) -> Callable[[nn.Module], dict[str, Tensor]]:
    """Probe: what changes along training, from one pass over n fixed random training samples.

    `ba_loss`, `bc_loss`: mean cross-entropy (nat) of bias-aligned and of bias-conflicting samples;
    `ba_accuracy`, `bc_accuracy`: fractions; NaN where there are no such samples. `loss_ratio`:
    bias-conflicting / total loss. `logit_norm`: mean L2 norm of the logits. `csi`, `bsi`: class-
    and bias-selectivity of the penultimate layer's neurons, d values each. `parameter_norm`,
    `gradient_norm`: L2 norm of each parameter and of its .grad, the gradient on the iteration's
    mini-batch (NaN where there is none), in the order of net.named_parameters(). `sample_loss`
    (nat), `sample_margin` (logit of the label minus the largest other; correct where > 0): of each
    fixed sample; `loss_entropy` (nat): of these losses. Without bias labels the `ba_` and `bc_`
    curves, `loss_ratio` and `bsi` are left out.

    Raises ValueError if the samples have only one class or only one bias value.
    """
    split = _fixed(dataset.train, n)
    groups = {"csi": _groups("class", split.y, dataset)}
    if split.bias is not None:
        groups["bsi"] = _groups("bias value", split.bias, dataset, split.known)

    def probe(net: nn.Module) -> dict[str, Tensor]:
        nonlocal split, groups
        split = split.to(_device(net))
        groups = {k: tuple(t.to(split.y) for t in each) for k, each in groups.items()}
        z, logits = _observe(net, split)
        found = {} if split.bias is None else _by_bias(logits, split)
        found["logit_norm"] = torch.linalg.vector_norm(logits, dim=1).mean()
        for name, (rows, *each) in groups.items():
            found[name] = selectivity_of_groups(z[rows].abs(), *each)
        parameters = [p for _, p in net.named_parameters()]
        found |= _by_sample(logits, split.y)
        found["parameter_norm"] = _norms(parameters, split.y.device)
        found["gradient_norm"] = _norms([p.grad for p in parameters], split.y.device)
        return found

    return probe


def attribution_shares(
    dataset: BiasedDataset, n: int = 16, steps: int = 50
) -> Callable[[nn.Module], dict[str, Tensor]]:
    """Probe: shares of attribution in the input's regions, mean over n fixed training samples.

    Integrated Gradients of the true label with `steps` points. `core`, `spurious`: inside
    core_mask and spurious_mask, where the training split has them; `noise`: outside both. Samples
    without any attribution are left out. Raises ValueError for a data set without masks.
    """
    split = _fixed(dataset.train, n)
    if not (masks := split.regions):
        raise ValueError(_no_masks(dataset.name, "core or spurious"))
    for mask in masks.values():  # raises for masks that do not fit the samples
        attribution.share(split.inputs(split.x[:]), mask)

    def probe(net: nn.Module) -> dict[str, Tensor]:
        nonlocal split
        split = split.to(_device(net))
        a = attribution.path_integral(net, split.inputs(split.x[:]), split.y, steps)
        return {name: attribution.share(a, mask).nanmean() for name, mask in split.regions.items()}

    return probe


def neurons(dataset: BiasedDataset, n: int = 8) -> Callable[[nn.Module], dict[str, Tensor]]:
    """Probe: how each penultimate neuron is updated, and how much it uses the spurious region.

    `gradient_norm`: L2 norm of the gradient of each neuron's incoming weights on the iteration's
    mini-batch (d values; NaN where there is none). `spurious_share`: share inside spurious_mask of
    |gradient of the neuron x input|, mean over those of the n fixed training samples on which it is
    active (d values; NaN for none); in a ReLU network without biases, which is linear along the
    ray to the sample, this is Integrated Gradients of the neuron. Raises ValueError for a data set
    without spurious_mask. Fig. 18 (bottom).
    """
    split = _fixed(dataset.train, n)
    if split.spurious_mask is None:
        raise ValueError(_no_masks(dataset.name, "spurious"))

    def probe(net: nn.Module) -> dict[str, Tensor]:
        nonlocal split
        split = split.to(_device(net))
        gradient = models.feeding(net).weight.grad
        z, shares = _neuron_shares(net, split.inputs(split.x[:]), split.regions["spurious"])
        missing = torch.full((z.shape[1],), torch.nan, device=z.device)
        norms = missing if gradient is None else gradient.flatten(1).norm(dim=1)
        return {"gradient_norm": norms, "spurious_share": shares}

    return probe


_NEURONS = 64  # whose gradients with respect to the inputs are in memory at a time


def _neuron_shares(net: nn.Module, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Representation (n x d), and of each neuron the mean share of |gradient x input| in a mask."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        z = models.penultimate(net, x, gradients=True)[0]
        found = []
        for some in torch.arange(z.shape[1], device=z.device).split(_NEURONS):
            chosen = torch.zeros(len(some), *z.shape, device=z.device)
            chosen[torch.arange(len(some)), :, some] = 1
            (g,) = torch.autograd.grad(z, x, chosen, is_grads_batched=True, retain_graph=True)
            a = (g * x.detach()).flatten(0, 1)
            inside = mask.expand(len(x), *mask.shape[1:]).repeat(
                len(some), *(1 for _ in mask.shape[1:])
            )
            found.append(attribution.share(a, inside).view(len(some), len(x)).nanmean(1))
    return z.detach(), torch.cat(found)


def _no_masks(name: str, kind: str) -> str:
    return (
        f"data set {name!r} has no masks of {kind} regions in its training split, expected at "
        f"least one: Split(..., core_mask=..., spurious_mask=...)"
    )


def _fixed(split: Split, n: int) -> Split:
    """n fixed random samples of a split, in memory (all of them where there are fewer)."""
    if not is_whole(n, 1):
        raise ValueError(f"n must be a whole number of samples >= 1, found {n!r}")
    split = split.take(fixed_indices(len(split), n))
    (x,) = batches(split.x, [torch.arange(len(split))])
    return dataclasses.replace(split, x=x)


def fixed_indices(samples: int, n: int) -> Tensor:
    """Which of `samples` training samples a probe of n fixed ones looks at, in its order."""
    return torch.randperm(samples, generator=torch.Generator().manual_seed(0))[:n]


def _device(net: nn.Module) -> torch.device:
    return next(net.parameters()).device


@torch.no_grad()
def _observe(net: nn.Module, split: Split) -> tuple[Tensor, Tensor]:
    """Representation (n x d) and logits (n x K) of a split in memory, in eval mode."""
    size = models.pass_size(split.x.shape[1:])
    parts = [models.penultimate(net, split.inputs(x)) for x in split.x[:].split(size)]
    return torch.cat([z for z, _ in parts]), torch.cat([logits for _, logits in parts])


def _by_bias(logits: Tensor, split: Split) -> dict[str, Tensor]:
    losses = F.cross_entropy(logits, split.y, reduction="none")
    right = (logits.argmax(1) == split.y).to(losses.dtype)
    of_known = torch.where(split.known, losses, 0.0)
    found = {"loss_ratio": loss_ratio(of_known, split.conflicting)}
    for name, some in (("ba", split.aligned), ("bc", split.conflicting)):
        # not losses[some]: a shape that depends on values waits for the device
        found[f"{name}_loss"] = torch.where(some, losses, 0.0).sum() / some.sum()
        found[f"{name}_accuracy"] = torch.where(some, right, 0.0).sum() / some.sum()
    return found


def _by_sample(logits: Tensor, y: Tensor) -> dict[str, Tensor]:
    losses = F.cross_entropy(logits, y, reduction="none")
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, y[:, None])[:, 0] - others
    return {"sample_loss": losses, "sample_margin": margin, "loss_entropy": loss_entropy(losses)}


def _groups(
    kind: str, labels: Tensor, dataset: BiasedDataset, known: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Samples whose label is known, the group of each, counted from 0, and the groups' sizes."""
    rows = torch.arange(len(labels)) if known is None else known.nonzero()[:, 0]
    _, of_sample, counts = labels[rows].unique(return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(
            f"the {len(labels)} fixed training samples of data set {dataset.name!r} show one "
            f"{kind} only, expected at least two for selectivity; give a larger n"
        )
    return rows, of_sample, counts


def _norms(values: Iterable[Tensor | None], device: torch.device) -> Tensor:
    missing = torch.full((), torch.nan, device=device)
    return torch.stack([missing if v is None else _norm(v.detach().float()) for v in values])


def _norm(values: Tensor) -> Tensor:
    """L2 norm, of the rows first: a float32 sum over millions of values is off by 1e-4."""
    if values.dim() > 1:
        values = torch.linalg.vector_norm(values, dim=tuple(range(1, values.dim())))
    return torch.linalg.vector_norm(values)
