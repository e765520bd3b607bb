"""Which channels of a network are constant, and which have to be kept or dropped together.

The network is traced by torch.fx and run once on an input that is NaN everywhere. NaN goes
wherever the input has an influence; what is not NaN is a constant. A filter of zeros stops it,
since layers multiply here only with what is known. Each output of a layer starts a channel;
the operations listed below hand channels on, sums make one channel of two. An operation that is
not listed keeps all channels it sees in the network and hands on nothing.
"""

import collections
import dataclasses

import torch
from torch import Tensor, fx, nn

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d

# Modules, functions and methods alike: lower case, without underscores.
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


@dataclasses.dataclass
class Channels:
    """Channels by number; lists and tensors have one entry a row or column of a layer's weight.

    outputs: of layers and BatchNorms. inputs: of layers, where they can be told. constants: the
    value that a layer finds in each of its inputs whatever the network is given, NaN where it
    varies, with the sample or with the place. fixed: channels that have to stay.
    """

    outputs: dict[str, Tensor]
    inputs: dict[str, Tensor]
    constants: dict[str, Tensor]
    fixed: Tensor


@torch.no_grad()
def channels(model: nn.Module, x: Tensor) -> Channels:
    """Follow the channels of a model in eval mode; x is one sample (1 x ...), its values unused.

    Raises ValueError for a model that cannot be traced or does not take the sample.
    """
    graph = _trace(model)
    tracker = _Tracker(fx.GraphModule(model, graph), _free_modules(model, graph))
    try:
        tracker.run(torch.full_like(x, torch.nan))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"the model does not take inputs of shape {tuple(x.shape[1:])}: {error}"
        ) from error
    return tracker.result()


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Layers stay whole, a user's subclasses too."""
        return isinstance(m, Layer | Norm) or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module) -> fx.Graph:
    try:
        return _Tracer().trace(model)
    except Exception as error:  # whatever the model's own code raises on symbolic inputs
        raise ValueError(
            f"the model cannot be traced by torch.fx ({type(error).__name__}: {error}); expected a "
            "forward whose control flow does not depend on its input"
        ) from error


def _free_modules(model: nn.Module, graph: fx.Graph) -> set[str]:
    """Names of the modules whose parameters are their own, and are used in one place only."""
    uses = collections.Counter(str(n.target) for n in graph.nodes if n.op == "call_module")
    owners: dict[int, set[str]] = collections.defaultdict(set)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners[id(parameter)].add(name)
    shared = {name for names in owners.values() if len(names) > 1 for name in names}
    read = {str(n.target) for n in graph.nodes if n.op == "get_attr"}
    not_free = {name.rpartition(".")[0] for name in shared | read}
    return {name for name, times in uses.items() if times == 1} - not_free


class _Tracker(fx.Interpreter):
    """Runs a graph, and notes for each tensor the numbers of its channels and their axis."""

    def __init__(self, module: fx.GraphModule, free: set[str]):
        super().__init__(module)
        self.free = free
        self.seen: dict[fx.Node, tuple[Tensor, int]] = {}
        self.same: list[int] = []  # channel -> a channel it is one with, at the end itself
        self.fixed: list[Tensor] = []
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.constants: dict[str, Tensor] = {}

    def result(self) -> Channels:
        root = torch.tensor([self._root(i) for i in range(len(self.same))], dtype=torch.long)
        fixed = torch.zeros(len(root), dtype=torch.bool)
        fixed[root[torch.cat([torch.empty(0, dtype=torch.long), *self.fixed])]] = True
        outputs, inputs = (
            {name: root[numbers] for name, numbers in found.items()}
            for found in (self.outputs, self.inputs)
        )
        return Channels(outputs, inputs, self.constants, fixed)

    def run_node(self, n: fx.Node):
        module = self.module.get_submodule(str(n.target)) if n.op == "call_module" else None
        if isinstance(module, Layer) and self._sliceable(n, module):
            return self._run_layer(n, module)
        shapes = {node: self._shape(node) for node in n.all_input_nodes}
        value = super().run_node(n)
        if n.op in ("placeholder", "get_attr"):
            return value
        numbers = self._handed_on(n, module, shapes, value)
        if numbers is None:
            for node in n.all_input_nodes:
                if node in self.seen and isinstance(value, Tensor | tuple | list):
                    self.fixed.append(self.seen[node][0])
            return fx.node.map_aggregate(value, _unknown)
        self.seen[n] = numbers
        return value
