"""Units and long names of what stands beside the measures in a result file."""

import xarray as xr

# name -> (units, long name); texts have the unit of a number without one
COLUMNS = {
    "dataset": ("1", "data set"),
    "model": ("1", "model"),
    "lr": ("1", "learning rate"),
    "seed": ("1", "seed of initial weights and sample order"),
    "data": ("1", "options of the data set"),
    "model_options": ("1", "options of the model"),
    "statistics": ("1", "statistics of batch normalisation in evaluation"),
    "init": ("1", "initial weights of the convolutions"),
    "hyperparameter": ("1", "hyperparameter that is swept"),
    "value": ("1", "value of the hyperparameter, of a batch size 1 / B"),
    "run_id": ("1", "name of the run: hash of its configuration and data"),
    "status": ("1", "how training ended"),
    "source_id": ("1", "where the data are from"),
    "checksum": ("1", "checksum of the published files"),
    "rho": ("1", "share of bias-conflicting training samples"),
    "n_train": ("1", "training samples"),
    "n_test": ("1", "test samples"),
    "prune_samples": ("1", "test samples on which pruned networks were tested"),
    "device": ("1", "kind of device"),
    "device_name": ("1", "processor or GPU"),
    "threads": ("1", "CPU threads"),
    "precision": ("1", "number format in training"),
    "started": ("1", "when the run was started (ISO 8601)"),
    "wall_seconds": ("s", "time of the run"),
    "train_seconds": ("s", "time of training"),
    "lrsc_version": ("1", "version of lrsc"),
    "commit": ("1", "commit of lrsc"),
    "torch_version": ("1", "version of torch"),
    "packages": ("1", "versions of packages"),
    "lock": ("1", "digest of the lock file"),
    "cpu_capability": ("1", "vector instructions in use"),
    "engine": ("1", "training engine"),
    "replicas": ("1", "runs side by side"),
    "config": ("1", "configuration of the run (JSON)"),
    "profile": ("1", "profile of the runs"),
    "kind": ("1", "network or soup"),
    "kappa": ("1", "share of parameters set to zero"),
    "criterion": ("1", "how columns were pruned"),
    "accuracy": ("1", "unbiased accuracy after pruning"),
    # comparisons of a low and a high LR
    "group": ("1", "networks of the low or the high LR"),
    "index": ("1", "place of the sample in the test set"),
    "label": ("1", "class"),
    "shown": ("1", "place of the sample among those compared"),
    "selected": ("1", "whether only high-LR networks get the sample right"),
    "conflicting": ("1", "whether the training sample counts as conflicting"),
    "right_low": ("1", "share of the low-LR networks that are right"),
    "right_high": ("1", "share of the high-LR networks that are right"),
    "foreground": ("1", "whether the pixel belongs to the object"),
    "image": ("1", "pixels, 0 to 255"),
    "map_integrated_gradients": ("1", "mean size of normalised Integrated Gradients maps"),
    "map_deeplift": ("1", "mean size of normalised DeepLIFT maps"),
}
for _method, _shown in {
    "integrated_gradients": "Integrated Gradients",
    "deeplift": "DeepLIFT",
}.items():
    COLUMNS[f"{_method}_entropy"] = "nat", f"entropy of the {_shown} map"
    for _region in ("core", "spurious", "noise", "background"):
        COLUMNS[f"{_method}_{_region}"] = "1", f"share of {_shown} on the {_region} region"


def labelled(dataset: xr.Dataset) -> xr.Dataset:
    """The same with units and long names where a variable named above has none."""
    found = dataset.copy()
    for name, variable in found.variables.items():
        if name in COLUMNS:
            units, long_name = COLUMNS[str(name)]
            variable.attrs = {"units": units, "long_name": long_name} | variable.attrs
    return found
