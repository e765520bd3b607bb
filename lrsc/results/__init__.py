"""Results: one netCDF file per run, long-form experiments, dense grids, and who trains what now."""

from lrsc.results.derived import (
    check_output,
    check_ship,
    derived,
    derived_names,
    derived_path,
    local_derived,
    write_derived,
)
from lrsc.results.file import check_run, load, load_run, local_runs, parsed, save, shipped
from lrsc.results.path import (
    checkpoints_path,
    choose,
    in_checkout,
    project_root,
    results_root,
    run_path,
    shipped_path,
    weights_path,
)
from lrsc.results.provenance import commit, provenance
from lrsc.results.table import (
    COORDINATES,
    FROM_ATTRS,
    LABELS,
    LOW_LR,
    Record,
    all_with,
    combine,
    concat,
    coordinates,
    curve_of,
    described,
    intervention,
    long_form,
    once,
    options_text,
    running,
    stacked,
    to_grid,
    value_of,
    without_raw,
)
