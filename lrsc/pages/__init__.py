"""What the book's notebooks share: checked parameters, and results shown as figures and tables."""

from lrsc.pages.attributions import (
    compared,
    contrasted,
    show_contrasts,
    show_gallery,
    show_methods,
    show_paired,
)
from lrsc.pages.compressibility import show_rows, show_shrinking
from lrsc.pages.costs import show_computing, show_cost, show_engines
from lrsc.pages.data import show_card, show_counts, show_examples
from lrsc.pages.display import MEASURES, show, table
from lrsc.pages.front import finding, show_answers, show_finding, show_install
from lrsc.pages.inputs import parameters
from lrsc.pages.interventions import (
    show_s2,
    show_soup,
    show_soups,
    show_tradeoffs,
)
from lrsc.pages.mechanism import (
    show_crossfit,
    show_dominance,
    show_dynamics,
    show_loss_ratios,
    show_propositions,
    show_updates,
)
from lrsc.pages.reach import show_audit, show_finders
from lrsc.pages.scores import (
    show_claim_tests,
    show_claims,
    show_disagreements,
    show_headline,
    show_score_rows,
    show_variants,
)
from lrsc.pages.sections import (
    evidence,
    measured,
    measured_rows,
    show_attribution_shares,
    show_curves,
    show_pruning,
    show_report,
    show_table,
    show_unmeasured,
)
from lrsc.pages.studies import (
    show_benchmark,
    show_choices,
    show_norm_spread,
    show_pruned_accuracy,
    show_pruning_criteria,
    show_reference_prunability,
    show_settings,
    show_throughput,
)
