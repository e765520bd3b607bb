"""The paper's figures and tables as named lists of runs in three profiles."""

from lrsc.experiments.found import check_units, shipped, sources, unusable
from lrsc.experiments.open import (
    PAPER_STATISTICS,
    export,
    in_statistics,
    measured,
    open_experiment,
    open_runs,
)
from lrsc.experiments.paper import reference
from lrsc.experiments.rows import EXPERIMENTS
from lrsc.experiments.select import (
    DESK_TRAIN,
    PROFILES,
    configs,
    knob,
    names,
    profile_of,
    recorded,
    recording,
    run_config,
    usual_data,
)
from lrsc.experiments.status import (
    estimate_epochs,
    expected_seconds,
    is_done,
    known_runs,
    shipped_ids,
    status,
)

__all__ = [
    "DESK_TRAIN", "EXPERIMENTS", "PAPER_STATISTICS", "PROFILES", "check_units", "configs",
    "estimate_epochs", "expected_seconds", "export", "in_statistics", "is_done", "knob",
    "known_runs", "measured", "names", "open_experiment", "open_runs", "profile_of", "recorded",
    "recording", "reference", "run_config", "shipped", "shipped_ids", "sources", "status",
    "unusable", "usual_data",
]  # fmt: skip
