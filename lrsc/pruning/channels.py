"""Which channels of a network are constant, and which can only be dropped together.

The network is traced by torch.fx and run once on an input that is NaN everywhere. NaN gets to
wherever the input has an influence; what is not NaN is a constant. Filters of zeros stop it,
since layers multiply here only what is known. Each output of a layer starts a channel; the
operations listed below hand channels on, sums and products make one channel of two. An operation
that is not listed keeps in the network all channels it sees, and nothing is known of its result.
"""

import collections
import dataclasses
import inspect
import math
from typing import Any

import torch
from torch import Tensor, fx, nn

from lrsc.pruning.zeroing import Layer

Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

# Names of modules, functions and methods alike: in lower case, without underscores.
POINTWISE = {
    "identity", "contiguous", "dropout", "dropout1d", "dropout2d", "dropout3d", "relu", "relu6",
    "leakyrelu", "elu", "selu", "gelu", "silu", "mish", "hardtanh", "hardswish", "hardsigmoid",
    "softplus", "sigmoid", "tanh", "add", "iadd", "sub", "isub", "mul", "imul",
}  # fmt: skip
POOLS = {
    f"{kind}pool{n}d" for kind in ("avg", "max", "adaptiveavg", "adaptivemax") for n in (1, 2, 3)
}
FLATTEN = {"flatten", "view", "reshape"}
CONCATENATE = {"cat", "concat", "concatenate"}


@dataclasses.dataclass(frozen=True)
class Channels:
    """Numbers of channels, one for each row (outputs) or column (inputs) of a layer's weight.

    outputs: of layers and BatchNorms by name. inputs: of layers, where they are known; constants:
    the value that the layer finds there whatever the network is given, NaN where it varies (with
    the sample or with the place). fixed: one bool a channel, True where it has to stay.
    """

    outputs: dict[str, Tensor]
    inputs: dict[str, Tensor]
    constants: dict[str, Tensor]
    fixed: Tensor


@torch.no_grad()
def channels(model: nn.Module, x: Tensor) -> Channels:
    """Follow the channels through a model in eval mode; x is one sample, its values are unused.

    Raises ValueError for a model that cannot be traced.
    """
    try:
        graph = _Tracer().trace(model, _defaults(model))
        following = _Following(fx.GraphModule(model, graph), _free_modules(model, graph))
        following.run(torch.full_like(x, torch.nan))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever the model's own code raises for symbols and NaN
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(
            f"the model cannot be traced by torch.fx ({reason}); expected a forward that takes "
            "the same path for every input"
        ) from error
    return following.found()


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Layers stay whole, and so do subclasses of them that are not torch's own."""
        return isinstance(m, Layer | Norm) or super().is_leaf_module(m, module_qualified_name)

    def create_arg(self, a: Any) -> Any:
        """Of an object with logits, which the whole returns, these."""
        holds = not isinstance(a, fx.Proxy | nn.Module | type) and hasattr(a, "logits")
        return super().create_arg(a.logits if holds else a)


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Arguments of the forward pass that may be left out, as labels: what they are then."""
    arguments = inspect.signature(model.forward).parameters.values()
    return {a.name: a.default for a in arguments if a.default is not a.empty}


def _free_modules(model: nn.Module, graph: fx.Graph) -> set[str]:
    """Names of the modules that are called once and whose parameters are used nowhere else."""
    calls = collections.Counter(str(n.target) for n in graph.nodes if n.op == "call_module")
    names: dict[int, list[str]] = collections.defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    shared = {name for same in names.values() if len(same) > 1 for name in same}
    read = {str(n.target) for n in graph.nodes if n.op == "get_attr"}
    used_elsewhere = {name.rpartition(".")[0] for name in shared | read}
    return {name for name, times in calls.items() if times == 1} - used_elsewhere


class _Following(fx.Interpreter):
    """Runs a graph, and notes for its tensors the numbers of their channels and the axis."""

    def __init__(self, module: fx.GraphModule, free: set[str]):
        super().__init__(module)
        self.free = free
        self.carried: dict[fx.Node, tuple[Tensor, int]] = {}
        self.parents: list[int] = []  # a forest: channels of one tree are one channel
        self.fixed: list[Tensor] = []
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.constants: dict[str, Tensor] = {}

    def found(self) -> Channels:
        self._keep(*(n for n in self.carried if not n.users))
        root = torch.tensor([self._root(i) for i in range(len(self.parents))], dtype=torch.long)
        fixed = torch.zeros(len(root), dtype=torch.bool)
        for numbers in self.fixed:
            fixed[root[numbers]] = True
        outputs, inputs = (
            {name: root[numbers] for name, numbers in side.items()}
            for side in (self.outputs, self.inputs)
        )
        return Channels(outputs, inputs, self.constants, fixed)

    def run_node(self, n: fx.Node):
        module = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, Layer) and self._is_plain(n, module):
            return self._run_layer(n, module)
        value = super().run_node(n)
        if n.op in ("placeholder", "get_attr") or not _holds_tensors(value):
            return value
        handed_on = self._handed_on(n, module, value) if isinstance(value, Tensor) else None
        if handed_on is None:
            self._keep(*n.all_input_nodes)
            return fx.node.map_aggregate(value, _unknown)
        self.carried[n] = handed_on
        return value

    def _is_plain(self, n: Any, layer: Layer) -> bool:
        """Whether the layer's sizes may change, and its batch has the usual number of axes."""
        if n.target not in self.free or len(n.args) != 1 or "weight" not in layer._parameters:
            return False
        if isinstance(layer, nn.Linear):
            return True
        return layer.groups == 1 and self.env[n.args[0]].dim() == layer.weight.dim()

    def _run_layer(self, n: Any, layer: Layer) -> Tensor:
        """The layer's outputs, NaN where they vary."""
        name, source = str(n.target), n.args[0]
        x = self.env[source]
        axis = x.dim() - 1 if isinstance(layer, nn.Linear) else 1
        places = x.movedim(axis, 0).flatten(1)
        varying = (layer.weight[:, places.isnan().any(1)] != 0).flatten(1).any(1)
        y = layer(x.masked_fill(x.isnan(), 0))
        if source in self.carried and self.carried[source][1] == axis:
            self.inputs[name] = self.carried[source][0]
            self.constants[name] = _uniform(places).cpu()
        else:
            self._keep(source)
        first = len(self.parents)
        self.parents += range(first, first + len(layer.weight))
        self.outputs[name] = torch.arange(first, len(self.parents))
        self.carried[n] = self.outputs[name], axis
        return y.masked_fill(varying.view(-1, *[1] * (y.dim() - 1 - axis)), torch.nan)

    def _handed_on(self, n: Any, module, value: Tensor) -> tuple[Tensor, int] | None:
        """Channels of an operation's result and their axis; None where they cannot be told."""
        name = _name(n, module)
        if name in FLATTEN:
            return self._flattened(n, name, value)
        if any(node not in self.carried for node in n.all_input_nodes):
            return None
        if name in CONCATENATE:
            return self._concatenated(n, value)
        if name in POINTWISE:
            return self._as_one(n.all_input_nodes, value)
        (source,) = n.all_input_nodes
        numbers, axis = self.carried[source]
        shape = self.env[source].shape
        if axis != 1 or value.shape[:2] != shape[:2]:
            return None
        if isinstance(module, Norm) and n.target in self.free:
            self.outputs[str(n.target)] = numbers
            return numbers, axis
        pooled = name in POOLS or (name == "mean" and _over_places(n, len(shape)))
        return (numbers, axis) if pooled else None

    def _flattened(self, n: Any, name: str, value: Tensor) -> tuple[Tensor, int] | None:
        """N x C x ... to N x (C ...); the new size has to be left open, as in view(n, -1)."""
        source = n.args[0]
        if source not in self.carried or self.carried[source][1] != 1:
            return None
        shape = self.env[source].shape
        sizes = n.args[1] if len(n.args) == 2 else n.args[1:]
        left_open = isinstance(sizes, list | tuple) and bool(sizes) and sizes[-1] == -1
        if value.dim() != 2 or len(value) != shape[0] or not (name == "flatten" or left_open):
            return None
        return self.carried[source][0].repeat_interleave(math.prod(shape[2:])), 1

    def _concatenated(self, n: Any, value: Tensor) -> tuple[Tensor, int] | None:
        dim = n.kwargs.get("dim", n.args[1] if len(n.args) > 1 else 0)
        parts = [self.carried[node] for node in n.args[0]]
        if dim % value.dim() != 1 or any(axis != 1 for _, axis in parts):
            return None
        return torch.cat([numbers for numbers, _ in parts]), 1

    def _as_one(self, sources: list[fx.Node], value: Tensor) -> tuple[Tensor, int] | None:
        """Make channels that are added or multiplied one channel."""
        (numbers, axis), *others = (self.carried[node] for node in sources)
        if any(self.env[node].dim() != value.dim() for node in sources):
            return None
        if any((len(more), at) != (len(numbers), axis) for more, at in others):
            return None
        for more, _ in others:
            for a, b in zip(numbers.tolist(), more.tolist(), strict=True):
                self.parents[self._root(a)] = self._root(b)
        return numbers, axis

    def _keep(self, *nodes: fx.Node) -> None:
        self.fixed += [self.carried[node][0] for node in nodes if node in self.carried]

    def _root(self, number: int) -> int:
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number


def _name(n: fx.Node, module: nn.Module | None) -> str:
    found = type(module).__name__ if module else getattr(n.target, "__name__", str(n.target))
    return found.lower().replace("_", "")


def _over_places(n: Any, dims: int) -> bool:
    """Whether a mean is taken over all but samples and channels, or some of these axes."""
    found = n.kwargs.get("dim", n.args[1] if len(n.args) > 1 else None)
    axes = [found] if isinstance(found, int) else found
    return isinstance(axes, list | tuple) and all(axis % dims >= 2 for axis in axes)


def _uniform(places: Tensor) -> Tensor:
    """The value of each row (channels x places); NaN where it is not the same everywhere."""
    low, high = places.amin(1), places.amax(1)
    roundoff = 16 * torch.finfo(places.dtype).eps * torch.maximum(low.abs(), high.abs())
    return torch.where(high - low <= roundoff, places[:, 0], torch.nan)  # NaN too for inf - inf


def _holds_tensors(value) -> bool:
    found: list = []
    fx.node.map_aggregate(value, found.append)
    return any(isinstance(v, Tensor) for v in found)


def _unknown(value):
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return torch.full_like(value, torch.nan) if floating else value
