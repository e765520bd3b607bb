"""Networks as graphs of their layers, by torch.fx."""

from torch import fx, nn

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def trace(model: nn.Module) -> fx.Graph:
    """The graph of a model's calls; raises what the model's own code raises for fx's symbols.

    Subclasses of layers stay whole as torch's own layers do.
    """
    return _Tracer().trace(model)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Layer | Norm) or super().is_leaf_module(m, module_qualified_name)
