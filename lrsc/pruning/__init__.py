"""Pruning: setting weights to zero, what accuracy is left, and removing what is zero for good."""

from lrsc.pruning.cost import Cost
from lrsc.pruning.shrinking import Shrunk, rebuild, shrink
from lrsc.pruning.zeroing import (
    KAPPAS,
    METHODS,
    SCOPES,
    left_alone,
    prunability,
    prunable,
    prune,
    pruning_curve,
    pruning_curves,
    sparsity_of,
)
