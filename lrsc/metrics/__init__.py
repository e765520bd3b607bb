"""The paper's metrics: pure functions of tensors, computed on the tensors' device."""

from lrsc.metrics.compressibility import compressibility, pq_index, sparsity
from lrsc.metrics.dominance import dominance_persistence, update_response
from lrsc.metrics.mechanism import loss_entropy, loss_ratio
from lrsc.metrics.ranks import rank_correlation, rank_correlation_interval
from lrsc.metrics.representation import active_neurons, class_selectivity, class_separation
from lrsc.metrics.robustness import (
    accuracy,
    adjusted_average,
    chance,
    chance_corrected,
    group_accuracies,
    worst_group_accuracy,
)
