"""Pruning: setting weights to zero, the accuracy that is left, and removing what is zero."""

from lrsc.pruning.cost import Cost
from lrsc.pruning.curves import group_curves, prunability, pruning_curve, pruning_curves
from lrsc.pruning.shrinking import Shrunk, rebuild, shrink
from lrsc.pruning.zeroing import (
    KAPPAS,
    METHODS,
    SCOPES,
    left_alone,
    prunable,
    prune,
    sparsity_of,
)
