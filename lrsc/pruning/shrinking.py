"""Removing pruned filters and neurons for real: a smaller network with the same outputs.

What can go is every channel that is the same constant for every input wherever a layer reads it;
channels that residual sums couple go together or not at all. Outputs stay equal up to roundoff
(how: lrsc.pruning.surgery), and no BatchNorm is changed.

Why not the package torch-pruning: version 1.6.1 was tried on networks that `prune` had made
half zero. Where zero filters send zeros on (fresh weights) it leaves the same outputs in the FCN,
the CNN, the ResNets, VGG11, MobileNetV2 and DenseNet121. Where BatchNorm makes other constants of
them, as after training, outputs change by 19 to 78 % of the largest. On Swin-T it was stopped after
280 s, and it removes what a softmax over channels or a LayerNorm reads (ConvNeXt: 0.9 %).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from lrsc.datasets import Split
from lrsc.errors import is_whole
from lrsc.models import classifier_name, copied, evaluate
from lrsc.pruning.channels import Norm, channels
from lrsc.pruning.cost import Cost, costs
from lrsc.pruning.surgery import STATE, put, removable, remove, set_sizes
from lrsc.pruning.zeroing import Layer, Scores, prunable, prune

SAMPLES = 8  # of the random batch where only the shape of inputs is given


@dataclasses.dataclass(frozen=True)
class Shrunk:
    """A network without its pruned filters, and what that saved.

    model: in eval mode; save its state_dict and load it with `rebuild`. before, after: costs of
    the network as it was and of `model`. zeroed, removed: of the filters and neurons that pruning
    may choose from (`prunable`), the shares that are all zero and that were removed. carriers:
    constant channels that were kept because a padded convolution needs one. Other zero filters stay
    if they are coupled with filters that are not zero, or feed operations that cannot be followed.
    """

    model: nn.Module
    before: Cost
    after: Cost
    zeroed: float
    removed: float
    carriers: int


def shrink(
    model: nn.Module,
    kappa: float,
    example_inputs: Tensor | Sequence[int] | None = None,
    method: str | Scores = "column",
    runs: int = 11,
    recalibrate: Split | None = None,
    layer: str | None = None,
) -> Shrunk:
    """Prune a copy of the model and remove the filters and neurons that are then constant.

    example_inputs: network inputs, N x ..., on which times are measured; or the shape of one
    sample, for 8 random ones; None takes the shape from the first layer, with images of 32 x 32.
    kappa, method: as in `prune`, whose result has the same outputs in eval mode up to roundoff
    (checked on the inputs). recalibrate: training samples for new running statistics, as in
    `prune`. runs: forward passes timed; the median counts. layer: as in `prunable`. Every layer
    keeps at least one output. Any network that torch.fx can trace will do; filters that feed
    operations unknown to lrsc.pruning.channels stay.
    Raises ValueError as `prune` does, for weights that are not finite, and for models that
    cannot be traced or whose outputs change.
    """
    if not is_whole(runs, 1):
        raise ValueError(f"runs must be a whole number >= 1, found {runs!r}")
    _check_finite(model)
    given = _first_shape(model) if example_inputs is None else example_inputs
    x = _batch(given, next(model.parameters()))
    _outputs(model, x)  # takes them
    layer = classifier_name(model, layer, x)
    pruned = prune(model, kappa, method, recalibrate=recalibrate, layer=layer).eval()
    expected = _outputs(pruned, x)
    found = channels(pruned, x[:1])
    gone, carriers = removable(pruned, found)
    smaller = copied(pruned)
    with torch.no_grad():
        remove(smaller, found, gone)
    _check_equal(smaller, x, expected)
    before, after = costs([pruned, smaller], x, runs)
    zeroed, removed = _shares(pruned, smaller, layer)
    return Shrunk(smaller, before, after, zeroed, removed, carriers)


def rebuild(model: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """A copy of a model with the sizes and values of a shrunk one's state dict, in eval mode.

    model: a fresh one of the architecture that was shrunk. No module is ever pickled this way:
    torch.save(shrunk.model.state_dict(), path), then rebuild(model, torch.load(path)). Raises
    ValueError for a state dict of another architecture.
    """
    rebuilt = copied(model)
    for name, module in rebuilt.named_modules():
        if isinstance(module, Layer | Norm):
            for key in STATE:
                found = state_dict.get(f"{name}.{key}" if name else key)
                if found is not None and _may_become(module, key, found):
                    own = getattr(module, key)
                    like = module.weight if own is None else own
                    put(module, key, torch.empty_like(found, dtype=like.dtype, device=like.device))
            set_sizes(module)
    try:
        rebuilt.load_state_dict(state_dict)
    except RuntimeError as error:
        raise ValueError(
            f"state_dict does not fit the model, expected that of a shrunk {type(model).__name__} "
            f"of the same layers: {error}"
        ) from error
    return rebuilt.eval()


def _check_finite(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(
                f"parameter {name!r} holds NaN or infinite values, expected finite ones: a network "
                "that diverged cannot be shrunk"
            )


def _first_shape(model: nn.Module) -> tuple[int, ...]:
    """Shape of one input of the model's first layer."""
    first = next(m for m in model.modules() if isinstance(m, Layer))
    if isinstance(first, nn.Linear):
        return (first.in_features,)
    return (first.in_channels, *[32] * (first.weight.dim() - 2))


def _batch(example_inputs: Tensor | Sequence[int], like: Tensor) -> Tensor:
    if not isinstance(example_inputs, Tensor):
        shape = tuple(example_inputs)
        if not shape or any(not isinstance(n, int) or n < 1 for n in shape):
            raise ValueError(
                "example_inputs must be a batch of network inputs or the shape of one, as in "
                f"(3, 32, 32), found {example_inputs!r}"
            )
        example_inputs = torch.randn(SAMPLES, *shape, generator=torch.Generator().manual_seed(0))
    floating = example_inputs.is_floating_point()
    if not floating or example_inputs.dim() < 2 or len(example_inputs) == 0:
        raise ValueError(
            "example_inputs must hold at least one network input (N x ..., floating point), found "
            f"shape {tuple(example_inputs.shape)} of {example_inputs.dtype}; see Split.inputs"
        )
    return example_inputs.to(like.device, like.dtype)


def _may_become(module: nn.Module, key: str, found: Tensor) -> bool:
    """Whether a tensor can be what shrinking has left of the module's own."""
    own = getattr(module, key, None)
    if own is None:
        return key == "bias" and isinstance(module, Layer) and found.dim() == 1
    fits = found.dim() == own.dim() and found.shape[2:] == own.shape[2:]
    return fits and all(a <= b for a, b in zip(found.shape, own.shape, strict=True))


def _outputs(model: nn.Module, x: Tensor) -> Tensor:
    try:
        outputs = evaluate(model, x)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"the model does not take example_inputs of shape {tuple(x.shape)}: {error}"
        ) from error
    return outputs


def _check_equal(smaller: nn.Module, x: Tensor, expected: Tensor) -> None:
    try:
        found = evaluate(smaller, x)
    except RuntimeError as error:
        raise ValueError(f"{_NOT_FOLLOWED}, it stops with: {error}") from error
    eps = torch.finfo(x.dtype).eps if x.device.type == "cpu" else 2**-10  # TF32 on a GPU
    largest = float(expected.nan_to_num(posinf=0, neginf=0).abs().max())
    if not torch.allclose(found, expected, 0, math.sqrt(eps) * largest, equal_nan=True):
        change = float((found - expected).abs().max())
        raise ValueError(f"{_NOT_FOLLOWED}, outputs change by up to {change:.3g}")


_NOT_FOLLOWED = (
    "the model depends on its number of channels, or on its input, in a way that tracing does not "
    "show; it cannot be shrunk: after removing filters"
)


def _shares(pruned: nn.Module, smaller: nn.Module, layer: str) -> tuple[float, float]:
    weights = prunable(pruned, layer)
    total = sum(len(w) for w in weights.values())
    zero = sum(int((w == 0).flatten(1).all(1).sum()) for w in weights.values())
    left = sum(len(w) for w in prunable(smaller, layer).values())
    return zero / total, (total - left) / total
