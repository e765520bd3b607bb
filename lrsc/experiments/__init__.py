"""The paper's figures and tables as named lists of runs in three profiles."""

from lrsc.experiments.alike import alike
from lrsc.experiments.found import shipped, sources, unusable
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
    PROFILES,
    configs,
    knob,
    names,
    planned_runs,
    profile_of,
    recording,
    row_keys,
    run_config,
    usual_data,
    usual_row,
    usual_run,
)
from lrsc.experiments.status import (
    estimate_epochs,
    expected_seconds,
    known_runs,
    shipped_ids,
    status,
)
