"""Result files: one netCDF file a run, written atomically; long-form experiments; dense grids."""

import contextlib
import functools
import hashlib
import importlib
import importlib.metadata
import io
import logging
import os
import platform
import subprocess
import tempfile
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from lrsc import errors
from lrsc.config import STATISTICS, RunConfig
from lrsc.results import netcdf, units

_log = logging.getLogger(__name__)
_WRITING = threading.RLock()

# Attributes of a run's file that become coordinates of an experiment
FROM_ATTRS = {
    "run_id": "", "status": "", "source_id": "", "checksum": "", "rho": np.nan, "n_train": 0,
    "n_test": 0, "device": "", "device_name": "", "threads": 0, "precision": "", "started": "",
    "wall_seconds": np.nan, "train_seconds": np.nan, "prune_samples": 0, "lrsc_version": "",
    "commit": "", "torch_version": "", "packages": "", "lock": "", "cpu_capability": "",
    "engine": "", "replicas": 0, "config": "",
}  # fmt: skip
LOW_LR = 0.001  # at which the other hyperparameters are swept
# dimensions an experiment keeps; raw material has others
LABELS = {"statistics", "kappa", "class", "bias", "q", "kept"}
# dimensions of raw material that is no curve
RAW = {"sample", "unit", "test_sample", "logit", "filter", "attributed", "row", "column"}


def project_root() -> Path:
    """The folder that holds book/ and notebooks/: the checkout, or what the wheel ships."""
    package = Path(__file__).parents[1]
    shipped = package / "_shipped"
    return shipped if shipped.is_dir() else package.parent


def results_root(root: str | Path | None = None) -> Path:
    """Folder of local results: the argument, else the checkout's results/, else the user's."""
    if root is not None:
        return errors.path("root", root)
    if (project_root() / "pyproject.toml").is_file():
        return project_root() / "results"
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "lrsc" / "results"


def run_path(run_id: str, root: str | Path | None = None) -> Path:
    """Where the result of a run stands: the file is the only sign that the run is done."""
    return results_root(root) / "runs" / f"{run_id}.nc"


def weights_path(run_id: str, root: str | Path | None = None) -> Path:
    """Where the weights of a run stand; an aid, not evidence."""
    return results_root(root) / "weights" / f"{run_id}.pt"


def checkpoints_path(run_id: str, root: str | Path | None = None) -> Path:
    """Folder of the checkpoint of a run that is not done yet."""
    return results_root(root) / "checkpoints" / run_id


def shipped_path(experiment: str) -> Path:
    """The measured results of an experiment that ship with the book."""
    return project_root() / "book" / "results" / f"{experiment}.nc"


@contextlib.contextmanager
def atomic(path: Path, replace: bool = True):
    """Yield a temporary path in the same folder; sync and rename it into place at the end.

    Another process sees the old file or the new one, never a part; a failure leaves no trace.
    replace False: FileExistsError if the path exists by then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{path.name}.{_machine()}-{os.getpid()}."
    handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        if replace:
            os.replace(name, path)
        else:
            _place(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _place(name: str, path: Path) -> None:
    """Rename, unless the path exists: FileExistsError then."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if path.exists():
            raise FileExistsError(path) from None
        os.replace(name, path)
    else:
        os.unlink(name)


def left_behind(part: Path) -> bool:
    """Whether a `.part` file is of a process of this machine that has ended."""
    machine, _, process = part.name.split(".")[-3].partition("-")
    if os.name != "posix" or machine != _machine() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:  # of another user, and alive
        return False
    return False


@functools.cache
def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def save(dataset: xr.Dataset, path: Path) -> None:
    """Write a Dataset as netCDF with its digests, atomically; larger variables are compressed.

    Variables that `units` knows get their units and long names.
    """
    dataset = units.labelled(dataset)
    encoding = {
        name: {"zlib": True, "complevel": 4, "shuffle": True}
        for name, variable in dataset.data_vars.items()
        if variable.dtype.kind == "f" and variable.size > 1000
    }
    made = io.BytesIO()  # in memory: HDF5 ends the process where a disk is full
    # on a Dask worker, xarray's own lock would be one of the cluster's, which knows no such file
    store = xr.backends.H5NetCDFStore.open(made, mode="w", lock=_WRITING)
    with contextlib.closing(store):
        dataset.dump_to_store(store, encoding=encoding)
    netcdf.sign(made)
    write(path, made.getbuffer())


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file, atomically; OSError naming it if it does not fit."""
    with atomic(path) as part:
        try:
            part.write_bytes(content)
        except OSError as error:
            raise OSError(
                error.errno,
                f"{error.strerror}: is the disk full? What was there before is kept",
                str(path),
            ) from error


def load(path: str | Path) -> xr.Dataset:
    """Read a result file into memory; ValueError naming the file if it is damaged or foreign.

    It is compared with its digests, where it has some. A file that cannot be opened now (too many
    are open, no permission) is errors.Unreadable, a ValueError too.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"result file {path} does not exist")
    try:
        try:
            attrs, variables, coords = netcdf.whole(path)
        except netcdf.NeedsXarray:
            with xr.open_dataset(path, engine="h5netcdf") as found:
                # with its encoding, a text written again would be cut at its length in the file
                decoded = found.load().drop_encoding()
            decoded.attrs.pop(netcdf.DIGESTS, None)
            return decoded
        data = {name: v for name, v in variables.items() if name not in coords}
        return xr.Dataset(data, {n: v for n, v in variables.items() if n in coords}, attrs)
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if number is not None:  # the system's word, not HDF5's on the content
            text = f"result file {path} cannot be read: {os.strerror(number)}"
            raise errors.Unreadable(text) from error
        raise ValueError(f"result file {path} is damaged or not a result: {error}") from error


def shipped(name: str, needs: Iterable[str] = ()) -> xr.Dataset | None:
    """A result file that ships with the book, by its name; None where there is none.

    needs: variables and attributes that such a file has. Raises ValueError that names the file, as
    readers of the book know it, where it is damaged or lacks one of them.
    """
    path = shipped_path(name)
    if not path.is_file():
        return None
    file = f"`book/results/{path.name}`"
    try:
        found = load(path)
    except ValueError as error:
        _log.info("%s", error)  # a warning would stand on the page, with the machine's path
        raise ValueError(f"{file} is damaged or not a result") from error
    missing = [n for n in needs if n not in found.variables and n not in found.attrs]
    if missing:
        raise ValueError(
            f"{file} is of another kind or version: it lacks {', '.join(map(repr, missing))}"
        )
    return found.assign_attrs(file=f"book/results/{path.name}")


def load_run(path: Path) -> xr.Dataset | None:
    """A run's result, or None if there is none; a damaged file is set aside with a warning.

    A run whose configuration is of another version is left where it is, and none. Raises
    errors.Unreadable for a file that cannot be opened now: it may well be whole.
    """
    if not path.is_file():
        return None
    try:
        found = load(path)
        check_run(found.attrs, path)
        return found
    except OtherVersion as error:
        _log.warning("run %s is left out: %s", path.stem, error)
        return None
    except errors.Unreadable:
        if not path.is_file():  # another process has set it aside
            return None
        raise
    except ValueError as error:
        aside = path.with_name(path.name + ".damaged")
        place = f"set aside as {aside.name}"
        try:
            os.replace(path, aside)
        except FileNotFoundError:  # another process did it
            pass
        except OSError as refusal:  # a folder that is only read
            place = f"it stays where it is ({refusal.strerror})"
        _log.warning("%s; %s, the run counts as not done", error, place)
        return None


class OtherVersion(ValueError):
    """A run's file is whole, but its configuration is of another version."""


def check_run(attrs: Mapping, path: Path) -> None:
    """Raise ValueError unless the attributes of a file are those of the run it is named after."""
    if attrs.get("run_id") != path.stem:
        raise ValueError(f"{path} holds run {attrs.get('run_id')!r}")
    if not isinstance(attrs.get("config"), str):
        raise ValueError(f"{path} holds no configuration")
    try:
        parsed(attrs["config"])
    except ValueError as error:
        raise OtherVersion(str(error)) from error


@functools.lru_cache(maxsize=100_000)
def parsed(config: str) -> RunConfig:
    """`RunConfig.from_json`, once for each text: long forms hold thousands."""
    return RunConfig.from_json(config)


def local_runs(root: str | Path | None = None) -> list[xr.Dataset]:
    """All results under the results folder, ordered by file name."""
    paths = sorted((results_root(root) / "runs").glob("*.nc"))
    return [found for path in paths if (found := load_run(path)) is not None]


def _measured(found: xr.Dataset, prefixes: tuple[str, ...]) -> list[str]:
    """Variables that an experiment keeps: measures, and curves whose names begin like this."""
    return [
        str(name) for name, v in found.data_vars.items()
        if set(v.dims) <= LABELS or str(name).removeprefix("curve_").startswith(prefixes)
    ]  # fmt: skip


def without_raw(found: xr.Dataset) -> xr.Dataset:
    """A run's measures and curves, without what a changed metric would be computed from."""
    return found.drop_vars([n for n, v in found.variables.items() if RAW & set(v.dims)])


def combine(runs: Iterable[xr.Dataset], recorded: Iterable[str] = ()) -> xr.Dataset:
    """Runs' results -> long form: dimension `run`, what identifies a run as coordinates.

    Variables keep the dimensions kappa, class and bias, filled up with NaN; raw material (other
    dimensions) is left out, but for the curves of the probes named in `recorded`. Raises
    ValueError for no runs.
    """
    runs = list(runs)
    if not runs:
        raise ValueError("no results to combine: run a sweep first (lrsc sweep)")
    prefixes = tuple(f"{probe}_" for probe in recorded)
    records, about = [], dict[str, dict]()
    for run in runs:
        kept = {name: run[name] for name in _measured(run, prefixes)}
        records.append({name: (tuple(v.dims), v.values) for name, v in kept.items()})
        about = {name: v.attrs for name, v in kept.items()} | about
    kappa = next((r["kappa"] for r in runs if "kappa" in r.coords), None)
    coords = coordinates([r.attrs for r in runs]) | ({} if kappa is None else {"kappa": kappa})
    variables = {n: (dims, v, about[n]) for n, (dims, v) in stacked(records).items()}
    coords |= statistics_of(variables)
    return xr.Dataset(variables, coords)


Record = Mapping[str, tuple[tuple, np.ndarray]]  # of one run: name -> (dimensions, values)


def statistics_of(variables: Mapping[str, tuple]) -> dict[str, tuple]:
    """The coordinate `statistics`, where variables (dimensions first) have such a dimension."""
    about = {"units": "1", "long_name": "statistics of batch normalisation"}
    has = any("statistics" in dims for dims, *_ in variables.values())
    return {"statistics": ("statistics", np.array(STATISTICS, object), about)} if has else {}


def stacked(records: Sequence[Record]) -> dict[str, tuple[tuple, np.ndarray]]:
    """Variables of runs -> one array for each name, dimension `run` first, filled up with NaN.

    A measure of an older version, without the dimension `statistics`, is that of running ones.
    """
    sizes: dict = {}
    for record in records:
        for dims, values in record.values():
            for dim, size in zip(dims, values.shape, strict=True):
                sizes[dim] = max(size, sizes.get(dim, 0))
    found = {}
    for name in dict.fromkeys(name for record in records for name in record):
        held = [(i, record[name]) for i, record in enumerate(records) if name in record]
        dims = max((dims for _, (dims, _) in held), key=len)
        kind = np.float32 if name.startswith("curve_") else np.float64
        array = np.full((len(records), *(sizes[d] for d in dims)), np.nan, kind)
        if dims:
            for i, (own, values) in held:
                first = (STATISTICS.index("running"),) if len(own) < len(dims) else ()
                place: tuple = (i, *first, *map(slice, values.shape))
                array[place] = values
        else:
            array[[i for i, _ in held]] = [values for _, (_, values) in held]
        found[name] = ("run", *dims), array
    return found


def running(run: xr.Dataset) -> xr.Dataset:
    """One run's result with its measures in running statistics of batch normalisation alone."""
    return run.sel(statistics="running", drop=True) if "statistics" in run.dims else run


def curve_of(run: xr.Dataset, probe: str, name: str) -> np.ndarray:
    """What a probe recorded of each neuron of one run: calls x neurons, without the padding."""
    values = run[f"curve_{probe}_{name}"].values
    values = values[np.isfinite(run[f"{probe}_step"].values)]
    return values[:, np.isfinite(values).any(0)]


def concat(parts: Iterable[xr.Dataset]) -> xr.Dataset:
    """Long-form data sets one after the other; curves of different lengths are filled with NaN."""
    parts = list(parts)
    longest: dict[str, int] = {}
    for part in parts:
        for dim, size in part.sizes.items():
            if dim != "run" and dim not in part.coords:
                longest[str(dim)] = max(size, longest.get(str(dim), 0))
    apart = {str(n) for p in parts for n, v in p.data_vars.items() if "statistics" in v.dims}
    padded = [
        _with_statistics(part, apart).pad(
            {d: (0, n - part.sizes[d]) for d, n in longest.items() if part.sizes.get(d, n) < n}
        )
        for part in parts
    ]
    return xr.concat(padded, "run", join="outer")


def _with_statistics(part: xr.Dataset, names: Collection[str]) -> xr.Dataset:
    """With the dimension `statistics`; a measure that has none is that of running ones."""
    grown = {
        n: part[n].expand_dims(statistics=["running"]).transpose("run", "statistics", ...)
        for n in names
        if n in part and "statistics" not in part[n].dims
    }
    if not grown or "statistics" not in part.coords:
        return part.assign(grown)
    return part.assign({n: v.reindex_like(part["statistics"]) for n, v in grown.items()})


def completed(found: xr.Dataset) -> xr.Dataset:
    """An experiment of an older version, with the coordinates that were not known then.

    They are empty, but for those that the runs' configurations tell.
    """
    missing = {k: empty for k, empty in FROM_ATTRS.items() if k not in found.coords}
    columns = {
        k: np.full(found.sizes["run"], empty, object if isinstance(empty, str) else None)
        for k, empty in missing.items()
    }
    told = described(found["config"].values)
    columns |= {k: told[k][1] for k in ("hyperparameter", "value", "model_options")
                if k not in found.coords}  # fmt: skip
    return found.assign_coords({k: ("run", column) for k, column in columns.items()})


def intervention(config: RunConfig) -> str:
    """The hyperparameter that a run differs in from plain SGD, 'lr' for none.

    'high_lr_l2': L2 at another LR than the low one, at which the other hyperparameters are swept
    (table S2).
    """
    t = config.train
    if t.schedule == "switch":
        return "switch_at"
    if t.l2 > 0:
        return "l2" if t.lr <= LOW_LR else "high_lr_l2"
    swept = ("l1", "focal_gamma", "asam_rho", "momentum")
    found = next((name for name in swept if getattr(t, name) > 0), None)
    return found or ("lr" if t.batch_size in (16, 100) else "batch_size")


def value_of(config: RunConfig, hyperparameter: str) -> float:
    """A run's value of a hyperparameter; of the batch size it is 1 / B."""
    name = "l2" if hyperparameter == "high_lr_l2" else hyperparameter
    value = getattr(config.train, name)
    return 1 / value if name == "batch_size" else float("nan" if value is None else value)


def _swept(configs: list[RunConfig]) -> dict[str, np.ndarray]:
    names = [intervention(c) for c in configs]
    values = [value_of(c, name) for c, name in zip(configs, names, strict=True)]
    return {"hyperparameter": np.array(names, object), "value": np.array(values)}


def coordinates(attrs: Sequence[Mapping]) -> dict[str, tuple[str, np.ndarray]]:
    """What identifies runs, from the attributes of their files, along the dimension `run`."""
    return described([each["config"] for each in attrs]) | {
        name: ("run", _column([each.get(name, empty) for each in attrs]))
        for name, empty in FROM_ATTRS.items()
    }


def described(texts: Iterable[str]) -> dict[str, tuple[str, np.ndarray]]:
    """The coordinates that runs' configurations tell."""
    configs = [parsed(text) for text in texts]
    columns: dict[str, list] = {
        "dataset": [c.dataset for c in configs],
        "model": [c.model for c in configs],
        "lr": [c.train.lr for c in configs],
        "seed": [c.seed for c in configs],
        "data": [options_text(c.data) for c in configs],
        "model_options": [options_text(c.model_options) for c in configs],
    }
    columns |= {k: list(v) for k, v in _swept(configs).items()}
    return {name: ("run", _column(values)) for name, values in columns.items()}


def options_text(options: Iterable[tuple[str, object]]) -> str:
    """Options of a data set or model, as a coordinate has them."""
    return ", ".join(f"{name} = {value}" for name, value in options)


def _column(values: list) -> np.ndarray:
    """Texts as objects: netCDF's own strings, of any length."""
    return np.array(values, dtype=object if isinstance(values[0], str) else None)


def to_grid(dataset: xr.Dataset, *dims: str) -> xr.Dataset:
    """Long form -> dense view with one dimension for each coordinate named, as a figure wants.

    Missing combinations are NaN. Raises ValueError if a coordinate does not exist or if two runs
    fall on one place of the grid (select one data set and model first, or name more dimensions).
    """
    from lrsc.errors import check_names

    if not dims:
        raise ValueError("name at least one coordinate of the grid, as in to_grid(ds, 'lr')")
    coords = [str(c) for c in dataset.coords if dataset[c].dims == ("run",)]
    check_names("coordinate", dims, coords)
    places = list(zip(*(dataset[d].values.tolist() for d in dims), strict=True))
    twice = next((p for p in places if places.count(p) > 1), None)
    if twice is not None:
        raise ValueError(
            f"two runs stand at {dict(zip(dims, twice, strict=True))}: select one data set and "
            f"model first, or name more of the coordinates {', '.join(coords)}"
        )
    return dataset.set_index(run=list(dims)).unstack("run")


def provenance(device, precision: str = "fp32") -> dict:
    """Attributes that say by what a result was made: versions, commit, device, threads.

    packages: versions of those that compute, Python first; lock: digest of the checkout's
    requirements.lock; cpu_capability: the vector instructions that torch uses.
    """
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "lrsc_version": importlib.import_module("lrsc").__version__,
        "commit": commit(),
        "torch_version": str(torch.__version__),
        "numpy_version": np.__version__,
        "packages": packages(),
        "lock": _lock(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "precision": precision,
    }


@functools.cache
def packages() -> str:
    """Versions of Python and of the packages whose code computes a result."""
    names = (
        "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow", "pytorch-optimizer",
        "opt-einsum",
    )  # fmt: skip
    found = [f"python {platform.python_version()}"]
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return ", ".join(found)


def _lock() -> str:
    path = project_root() / "requirements.lock"
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else ""


@functools.cache
def commit() -> str:
    """Commit of the checkout that runs, '-dirty' if its library was changed since; else empty.

    Asked once in a process: what is committed while it runs is not what it runs.
    """
    root = project_root()
    if not (root / ".git").exists():
        return ""
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        dirty = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "lrsc"])
    except OSError:
        return ""
    return head.stdout.strip() + ("-dirty" if dirty.returncode else "")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
