"""Results: one netCDF file a run, long-form experiments and dense grids; who trains what now."""

from lrsc.results.file import (
    check_run,
    load,
    load_run,
    local_runs,
    parsed,
    save,
    shipped,
)
from lrsc.results.path import (
    checkpoints_path,
    project_root,
    results_root,
    run_path,
    shipped_path,
    weights_path,
)
from lrsc.results.provenance import commit, provenance
from lrsc.results.table import (
    FROM_ATTRS,
    LABELS,
    LOW_LR,
    Record,
    combine,
    completed,
    concat,
    coordinates,
    curve_of,
    described,
    intervention,
    options_text,
    running,
    stacked,
    statistics_of,
    to_grid,
    value_of,
    without_raw,
)

__all__ = [
    "FROM_ATTRS", "LABELS", "LOW_LR", "Record", "check_run",
    "checkpoints_path", "combine", "commit", "completed", "concat", "coordinates", "curve_of",
    "described", "intervention", "load", "load_run", "local_runs", "options_text",
    "parsed", "project_root", "provenance", "results_root", "run_path", "running", "save",
    "shipped", "shipped_path", "stacked", "statistics_of", "to_grid", "value_of",
    "weights_path", "without_raw",
]  # fmt: skip
