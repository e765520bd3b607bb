"""Configuration of one run: frozen dataclasses, their canonical JSON, and the run's name."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lrsc.errors import check_names, is_number, is_whole, plain, shown

SOURCES = ("auto", "real", "embedded")
# of batch normalisation, by which a network is evaluated (lrsc.models.normalisation)
STATISTICS = ("running", "batch", "recalibrated")
LARGE_IMAGES = ("celeba", "waterbirds", "imagenet")  # data sets trained in batches of 16
CHOICES = {  # valid names of TrainConfig's fields
    "optimizer": ("sgd", "adam", "adamw", "psgd_kron"),
    "schedule": ("constant", "step", "cosine", "wsd", "switch"),
    "select_by": ("mean", "worst_group"),
    "precision": ("fp32", "tf32", "bf16", "fp64"),
}


def _named_fields_only(cls):
    """Let the constructor answer an unknown field with its nearest valid name."""
    init = cls.__init__

    @functools.wraps(init)
    def checked(self, *args, **fields):
        check_names(f"{cls.__name__} field", fields, (f.name for f in dataclasses.fields(cls)))
        init(self, *args, **fields)

    cls.__init__ = checked
    return cls


@_named_fields_only
@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that determines a training run besides data, model and seed.

    **Optimiser.** optimizer: 'sgd', 'adam', 'adamw' or 'psgd_kron'; lr: its learning rate (the
    highest of the schedule). momentum: of SGD; betas: of Adam and AdamW. batch_size: samples per
    update; accumulation: number of parts in which a batch is computed, one after another (less
    memory; batch statistics are then those of a part). weight_decay: the optimiser's own (decoupled
    in AdamW and Kron). sam_rho, asam_rho: radius of (adaptive) sharpness-aware minimisation, 0 is
    none.
    **Loss.** Cross-entropy, times (1 - p)^focal_gamma, plus l1 times the sum of |w| plus l2 / 2
    times the sum of w^2 over all parameters (so that l2 equals SGD's weight decay).
    **Schedule.** 'constant'; 'step': times step_factor from iteration step_at on; 'switch':
    switch_lr (None: lr / 100) from iteration switch_at on; 'cosine' to zero; 'wsd': constant, then
    linearly to zero over the last share `decay` of the run. cosine and wsd rise linearly over the
    first share `warmup`. Shares are of the cap (max_epochs, max_steps). step_at, switch_at: None
    means 1000, or the middle of a shorter run.
    **End.** max_epochs, max_steps: the cap, whichever comes first. The run has converged when
    stop_at_accuracy (a fraction, training set, eval mode) and stop_at_loss (nat, mean
    cross-entropy) are both met at the end of an epoch; None sets no such condition.
    **Selection.** validation_share: share of the training samples set aside; select_by: 'mean' or
    'worst_group' accuracy on the validation split, by which the best epoch's weights are kept.
    **precision:** 'fp32' (TF32 off), 'tf32', 'bf16' (autocast; weights and metrics in fp32), or
    'fp64' (weights, losses and gradients in double precision, for comparisons).

    Raises ValueError naming the field that is out of range, or two that contradict each other.
    """

    lr: float = 0.1
    batch_size: int = 100
    momentum: float = 0.0
    weight_decay: float = 0.0
    max_epochs: int = 1000
    max_steps: int | None = None
    stop_at_accuracy: float | None = 1.0
    stop_at_loss: float | None = None
    optimizer: str = "sgd"
    betas: tuple[float, float] = (0.9, 0.999)
    l1: float = 0.0
    l2: float = 0.0
    focal_gamma: float = 0.0
    sam_rho: float = 0.0
    asam_rho: float = 0.0
    schedule: str = "constant"
    step_at: int | None = None
    step_factor: float = 0.1
    switch_at: int | None = None
    switch_lr: float | None = None
    warmup: float = 0.05
    decay: float = 0.2
    accumulation: int = 1
    validation_share: float = 0.0
    select_by: str | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        _number(self, "lr", "a finite number > 0", lambda v: v > 0)
        _number(self, "momentum", "a number in [0, 1)", lambda v: 0 <= v < 1)
        for name in ("weight_decay", "l1", "l2", "focal_gamma", "sam_rho", "asam_rho"):
            _number(self, name, "a finite number >= 0", lambda v: v >= 0)
        _number(self, "step_factor", "a finite number > 0", lambda v: v > 0)
        for name in ("warmup", "decay", "validation_share"):
            _number(self, name, "a share in [0, 1)", lambda v: 0 <= v < 1)
        for name in ("batch_size", "max_epochs", "accumulation"):
            _whole(self, name, 1)
        for name in ("max_steps", "step_at", "switch_at"):
            _whole(self, name, 1, or_none=True)
        _number(self, "stop_at_accuracy", "None or in (0, 1]", lambda v: 0 < v <= 1, or_none=True)
        for name in ("stop_at_loss", "switch_lr"):
            _number(self, name, "None or a finite number > 0", lambda v: v > 0, or_none=True)
        _betas(self)
        for name, valid in CHOICES.items():
            if not (name == "select_by" and self.select_by is None):
                check_names(name, [getattr(self, name)], valid)
        self._refuse_contradictions()

    def _refuse_contradictions(self) -> None:
        refused = {
            ("momentum", f"optimizer={self.optimizer!r}"): self.optimizer != "sgd",
            ("betas", f"optimizer={self.optimizer!r}"): self.optimizer not in ("adam", "adamw"),
            ("sam_rho", "optimizer='psgd_kron'"): self.optimizer == "psgd_kron",
            ("asam_rho", "optimizer='psgd_kron'"): self.optimizer == "psgd_kron",
            ("asam_rho", f"sam_rho={self.sam_rho!r}"): self.sam_rho > 0,
        }
        for fields, schedules in {
            ("step_at", "step_factor"): ("step",),
            ("switch_at", "switch_lr"): ("switch",),
            ("warmup",): ("cosine", "wsd"),
            ("decay",): ("wsd",),
        }.items():
            for field in fields:
                refused[field, f"schedule={self.schedule!r}"] = self.schedule not in schedules
        given = _non_default(self)
        for (field, other), contradicts in refused.items():
            if contradicts and field in given:
                raise ValueError(
                    f"{field}={getattr(self, field)!r} does nothing with {other}: change one"
                )
        if self.schedule in ("cosine", "wsd"):
            ends = self.warmup + (self.decay if self.schedule == "wsd" else 0)
            if ends > 1:
                raise ValueError(
                    f"warmup={self.warmup!r} and decay={self.decay!r} are shares of one run: "
                    "together they must be at most 1"
                )
        if self.accumulation > self.batch_size:
            raise ValueError(
                f"accumulation={self.accumulation!r} parts of batch_size={self.batch_size!r}: "
                "a part needs at least one sample"
            )
        change = {"step": "step_at", "switch": "switch_at"}.get(self.schedule)
        at = change and getattr(self, change)
        if at and self.max_steps is not None and at >= self.max_steps:
            raise ValueError(
                f"{change}={at!r} is never reached: max_steps={self.max_steps!r} ends the run "
                "before; iterations count from 0"
            )


@_named_fields_only
@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One run: data set and its options, model and its options, training, and the run seed.

    dataset, model: names from the library or registered ones (`lrsc.register_dataset`,
    `register_model`), or import paths of your own, package.module:function. data: options of
    `datasets.load` (rho, seed, n_train, ...) that differ from its defaults; model_options: options
    of `models.build`; both are mappings, kept as sorted pairs so that the config is hashable. seed:
    of the initial weights and the sample order. source: 'auto', 'real' or 'embedded'.
    """

    dataset: str
    model: str
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    seed: int = 0
    data: Any = ()
    model_options: Any = ()
    source: str = "auto"

    def __post_init__(self) -> None:
        for name in ("dataset", "model"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a name, found {shown(getattr(self, name))}")
        if isinstance(self.train, Mapping):
            object.__setattr__(self, "train", TrainConfig(**_named("train", self.train)))
        if not isinstance(self.train, TrainConfig):
            raise ValueError(f"train must be a TrainConfig, found {shown(self.train)}")
        _whole(self, "seed", 0)
        check_names("source", [self.source], SOURCES)
        for name in ("data", "model_options"):
            object.__setattr__(self, name, pairs(name, getattr(self, name)))

    def to_json(self) -> str:
        """Canonical JSON of the non-default fields: a new field with a default changes nothing."""
        return json.dumps(_non_default(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """The inverse of `to_json`; ValueError for a field that this version does not have."""
        found = json.loads(text)
        if not isinstance(found, dict) or not {"dataset", "model"} <= found.keys():
            raise ValueError(
                "no valid configuration: a JSON object with dataset and model is one, found "
                f"{text[:50]!r}"
            )
        return cls(**found)


def usual_batch_size(dataset: str) -> int:
    """Default number of samples per update: the paper's batch size for a data set."""
    return 16 if dataset in LARGE_IMAGES else 100


def run_id(config: RunConfig, source: str, versions: Mapping[str, int]) -> str:
    """Name of a run: 16 hex digits of the SHA-256 over everything that determines its training.

    source: the resolved data source and the checksum of its decoded content
    ('mnist:<sha256>'), which replaces the requested `config.source`. versions: integer versions
    of the data set's and model's code.
    """
    fields = _non_default(dataclasses.replace(config, source="auto"))
    fields |= {"source": source, "versions": dict(versions)}
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _non_default(config) -> dict:
    fields = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            if inner := _non_default(value):
                fields[field.name] = inner
        elif value != field.default:
            named = field.name in ("data", "model_options")
            fields[field.name] = dict(value) if named else value
    return fields


def pairs(name: str, options) -> tuple:
    """Options (a mapping or its pairs) as sorted, hashable pairs of plain values."""
    return tuple(sorted((k, _plain(f"{name} {k!r}", v)) for k, v in _named(name, options).items()))


def _named(name: str, options) -> dict:
    """A mapping, or its pairs, as a dict with names for keys."""
    try:
        found = dict(options)
    except (TypeError, ValueError) as error:
        text = f"{name} must map names to values, found {shown(options)}"
        raise ValueError(text) from error
    for key in found:
        if not isinstance(key, str):
            raise ValueError(f"{name} must map names to values, found the name {shown(key)}")
    return found


def _plain(name: str, value):
    if isinstance(value, list | tuple):
        return tuple(_plain(name, v) for v in value)
    found = plain(value)
    if found is None or isinstance(found, bool | str) or is_number(found):
        return found
    raise ValueError(
        f"{name} must be a finite number, a string or a list of these, found {shown(value)}"
    )


def _number(config, name: str, expected: str, valid, or_none: bool = False) -> None:
    value = getattr(config, name)
    if value is None and or_none:
        return
    if not is_number(value) or not valid(plain(value)):
        raise ValueError(f"{name} must be {expected}, found {shown(value)}")
    object.__setattr__(config, name, float(plain(value)))


def _whole(config, name: str, least: int, or_none: bool = False) -> None:
    value = getattr(config, name)
    if value is None and or_none:
        return
    if not is_whole(value, least):
        raise ValueError(
            f"{name} must be a whole number >= {least} and at most 2^53, found {shown(value)}"
        )
    object.__setattr__(config, name, plain(value))


def _betas(config) -> None:
    given = config.betas if isinstance(config.betas, list | tuple) else ()
    numbers = [plain(b) for b in given if is_number(b)]
    if len(given) != 2 or len(numbers) != 2 or not all(0 <= b < 1 for b in numbers):
        raise ValueError(f"betas must be two numbers in [0, 1), found {shown(config.betas)}")
    pair = tuple(float(b) for b in numbers)
    object.__setattr__(config, "betas", pair)
