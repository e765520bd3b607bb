"""Calling any network: inputs in its precision, logits out of what it returns; copies of it."""

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn


def logits(net: nn.Module, x: Tensor) -> Tensor:
    """The logits that the network returns for network inputs x, in its current mode."""
    return logits_of(net(as_taken(net, x)))


def logits_of(returned: object) -> Tensor:
    """The logits in a network's output: the tensor itself, or `logits`, or the first of several.

    Image classifiers of other libraries return objects and mappings with `logits`, or tuples of
    logits and more. Raises ValueError for anything else.
    """
    found = returned
    if isinstance(found, Mapping) and "logits" in found:
        found = found["logits"]
    elif hasattr(found, "logits"):
        found = found.logits
    elif isinstance(found, Sequence) and found:
        found = found[0]
    if isinstance(found, Tensor):
        return found
    raise ValueError(
        f"the model returns {_kind(returned)}, expected a tensor of logits, one a class, or an "
        "object, mapping or tuple with them as `logits` or first"
    )


def _kind(returned: object) -> str:
    name = type(returned).__name__
    return f"a {name} of {', '.join(map(str, returned))}" if isinstance(returned, Mapping) else (
        f"a {name}"
    )  # fmt: skip


def as_taken(net: nn.Module, x: Tensor) -> Tensor:
    """Network inputs in the precision of the network's first weights."""
    first = next((p for p in net.parameters() if p.is_floating_point()), None)
    return x if first is None else x.to(first.dtype)


def check_training(net: nn.Module, x: Tensor) -> None:
    """Raise ValueError if a network has further outputs in training only, or cannot be trained.

    Auxiliary heads that exist only in training, as in GoogLeNet, would get no gradient. The network
    is left in training mode, its running statistics changed.
    """
    weights = {p.dtype for p in net.parameters() if p.is_floating_point()}
    if not weights <= {torch.float32}:
        raise ValueError(
            f"the model has weights of {', '.join(sorted(map(str, weights)))}, expected "
            "torch.float32: precision='fp64' trains it in double, 'bf16' with products in half"
        )
    with input_errors(x):
        evaluated, trained = net.eval()(as_taken(net, x)), net.train()(as_taken(net, x))
    sizes = [len(o) if isinstance(o, Sequence | Mapping) else 1 for o in (evaluated, trained)]
    if type(evaluated) is not type(trained) or sizes[0] < sizes[1]:
        raise ValueError(
            f"in training the model returns {_kind(trained)}, in evaluation {_kind(evaluated)}: "
            "its further outputs would not be trained; build it without auxiliary heads, as in "
            "aux_logits=False"
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, which torch words in several ways."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        said in str(error) for said in ("t allocate", "ALLOC_FAILED", "out of memory")
    )


@contextlib.contextmanager
def input_errors(x: Tensor) -> Iterator[None]:
    """Context in which torch's errors about inputs that a model does not take are ValueErrors."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"the model does not take inputs of shape {tuple(x.shape[1:])}: {error}"
        ) from error


def copied(net: nn.Module) -> nn.Module:
    """A deep copy, even of a network that holds weights computed in its last pass.

    Torch copies only leaves of a graph; the old weight_norm, spectral_norm and torch's prune leave
    other tensors behind, which the next pass replaces. Raises ValueError for a network that holds
    something that cannot be copied, such as a lock or an open file.
    """
    computed = (v for m in net.modules() for v in vars(m).values() if isinstance(v, Tensor))
    try:
        return copy.deepcopy(net, {id(v): v.detach().clone() for v in computed if not v.is_leaf})
    except TypeError as error:
        raise ValueError(
            f"the network cannot be copied ({error}): leave what it holds out of the copy by a "
            "__deepcopy__ of its own, or keep it outside the network"
        ) from error


def same_with_channels_last(net: nn.Module, x: Tensor) -> bool:
    """Whether a network computes the same, up to roundoff, in channels-last format.

    A network that calls `view` on a map rejects this format, and one that looks at strides may
    compute something else.
    """
    if any(t.dim() > 4 for t in (*net.parameters(), *net.buffers())):
        return False
    with torch.no_grad():
        plain = copied(net).eval()
        expected = logits(plain, x.clone())
        try:
            found = logits(plain.to(memory_format=torch.channels_last), x.clone())
        except RuntimeError:
            return False
    return bool((found - expected).abs().max() <= 1e-3 * expected.abs().max())


def not_nan(given: Tensor) -> Tensor:
    """The given logits; ValueError if any is NaN, since measures would still return numbers."""
    if given.isnan().any():
        raise ValueError(
            "the network returns NaN: has it diverged, or is its file damaged? Leave it out"
        )
    return given
