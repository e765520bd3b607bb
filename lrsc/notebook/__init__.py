"""What the book's notebooks share: checked parameters, and results shown as figures and tables."""

from lrsc.notebook.attributions import (
    contrasted,
    show_contrasts,
    show_gallery,
    show_methods,
    show_paired,
)
from lrsc.notebook.data import show_card, show_counts, show_examples
from lrsc.notebook.display import MEASURES, show, table
from lrsc.notebook.inputs import NAMES, parameters
from lrsc.notebook.mechanism import (
    show_crossfit,
    show_dominance,
    show_dynamics,
    show_loss_ratios,
    show_propositions,
    show_updates,
)
from lrsc.notebook.sections import (
    evidence,
    show_curves,
    show_pruning,
    show_report,
    show_rest,
    show_table,
    summary,
)
from lrsc.notebook.studies import (
    show_benchmark,
    show_choices,
    show_pruned_accuracy,
    show_pruning_criteria,
    show_reference_prunability,
    show_throughput,
)

__all__ = [
    "MEASURES", "NAMES", "contrasted", "evidence", "parameters", "show", "show_benchmark",
    "show_card", "show_choices", "show_contrasts", "show_counts", "show_crossfit", "show_curves",
    "show_dominance", "show_dynamics", "show_examples", "show_gallery", "show_loss_ratios",
    "show_methods", "show_paired", "show_propositions", "show_pruned_accuracy", "show_pruning",
    "show_pruning_criteria", "show_reference_prunability", "show_report", "show_rest", "show_table",
    "show_throughput", "show_updates", "summary", "table",
]  # fmt: skip
