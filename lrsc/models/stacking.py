"""Networks of linear layers side by side: one tensor a layer, one batched product for all."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every


def linear_layers(net: nn.Module) -> list[nn.Linear] | None:
    """The layers of a network that is a chain of linear layers with ReLUs between, else None.

    A chain is an nn.Sequential, nested or not, of at most one Flatten at its start, then nn.Linear
    and nn.ReLU in turn, with nn.Linear at its end. It must have no hooks, no forward functions set
    on an instance, and no computed, frozen or half-precision weights.
    """
    modules = _flat(net)
    if modules and type(modules[0]) is nn.Flatten and modules[0].start_dim == 1:
        modules = modules[1:]
    if not modules or any(_is_special(m) for m in net.modules()):
        return None
    wanted = itertools.cycle((nn.Linear, nn.ReLU))
    if len(modules) % 2 == 0 or any(
        type(m) is not kind for m, kind in zip(modules, wanted, strict=False)
    ):
        return None
    layers = [m for m in modules if isinstance(m, nn.Linear)]
    parameters = [p for layer in layers for p in layer.parameters()]
    if any(p._backward_hooks or p._post_accumulate_grad_hooks for p in parameters):
        return None
    alike = len({p.dtype for p in parameters} | {torch.float32, torch.float64}) == 2
    shared = len({id(p) for p in parameters}) < len(parameters)
    return layers if alike and not shared and all(p.requires_grad for p in parameters) else None


class Stack:
    """Weights (R x out x in) and biases (R x 1 x out, or None) of R networks of one shape.

    Raises ValueError for a network that is not a chain of linear layers (`linear_layers`).
    """

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        chains = [linear_layers(net) for net in nets]
        if None in chains or not chains:
            raise ValueError("only chains of linear layers and ReLUs can be stacked")
        self.layers = list(zip(*(chain for chain in chains if chain), strict=True))
        self.weights = [torch.stack([m.weight.detach() for m in row]) for row in self.layers]
        self.biases = [
            None
            if row[0].bias is None
            else torch.stack([m.bias.detach() for m in row]).unsqueeze(1)
            for row in self.layers
        ]

    def bind(self) -> None:
        """Make the networks' parameters views of the stack: a change to it changes them."""
        for row, weight, bias in zip(self.layers, self.weights, self.biases, strict=True):
            for k, layer in enumerate(row):
                layer.weight.data = weight[k]
                if bias is not None:
                    layer.bias.data = bias[k, 0]

    def take(self, replicas: Sequence[int]) -> "Stack":
        """A stack of copies of some of the networks."""
        index = torch.tensor(list(replicas), device=self.weights[0].device)
        chosen = object.__new__(Stack)
        chosen.layers = [tuple(row[k] for k in replicas) for row in self.layers]
        chosen.weights = [w.index_select(0, index) for w in self.weights]
        chosen.biases = [b if b is None else b.index_select(0, index) for b in self.biases]
        return chosen

    @torch.no_grad()
    def logits(self, x: Tensor) -> Tensor:
        """Logits, R x N x K, of N inputs that all networks see."""
        first, *rest = zip(self.weights, self.biases, strict=True)
        x = x.flatten(1).to(first[0].dtype)
        replicas, out, _ = first[0].shape
        a = (x @ first[0].flatten(0, 1).T).view(len(x), replicas, out).transpose(0, 1)
        a = a if first[1] is None else a + first[1]
        for weight, bias in rest:
            a = a.relu()
            a = a @ weight.mT if bias is None else torch.baddbmm(bias, a, weight.mT)
        return a


def unbind(net: nn.Module) -> None:
    """Give a network its own weights again."""
    for p in net.parameters():
        p.data = p.data.clone()


def _flat(net: nn.Module) -> list[nn.Module]:
    if type(net) is not nn.Sequential:
        return [net]
    return [m for child in net for m in _flat(child)]


def _is_special(module: nn.Module) -> bool:
    hooks = (
        module._forward_hooks, module._forward_pre_hooks, module._backward_hooks,
        module._backward_pre_hooks, every._global_forward_hooks, every._global_forward_pre_hooks,
        every._global_backward_hooks, every._global_backward_pre_hooks,
    )  # fmt: skip
    return any(hooks) or hasattr(module, "parametrizations") or "forward" in vars(module)
