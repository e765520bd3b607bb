"""TrainConfig and RunConfig: checks on construction, canonical JSON, run names."""

import dataclasses
import math
import re
import subprocess
import sys

import pytest

from lrsc import RunConfig, TrainConfig
from lrsc.config import CHOICES, run_id

VERSIONS = {"data": 1, "model": 1}


def name(config=None, source="mnist:abc", versions=VERSIONS, **fields):
    return run_id(config or RunConfig("colored_mnist", "fcn", **fields), source, versions)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lr", 0), ("lr", -0.1), ("lr", math.nan), ("lr", math.inf), ("lr", "0.1"), ("lr", True),
        ("momentum", 1.0), ("momentum", -0.1), ("weight_decay", -1), ("batch_size", 0),
        ("batch_size", 2.5), ("max_epochs", 0), ("max_steps", 0), ("stop_at_accuracy", 0.0),
        ("stop_at_accuracy", 1.5),
    ],
)  # fmt: skip
def test_train_config_names_the_bad_field(field, value):
    with pytest.raises(ValueError, match=field):
        TrainConfig(**{field: value})


def test_unknown_field_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'batchsize'.*'batch_size'.*max_epochs"):
        TrainConfig(batchsize=10)
    with pytest.raises(ValueError, match=r"'datset'.*'dataset'"):
        RunConfig(datset="parity", model="fcn")


def test_unknown_source_is_named():
    with pytest.raises(ValueError, match=r"'reel'.*'real'"):
        RunConfig("parity", "fcn", source="reel")


def test_json_holds_only_what_differs_from_the_defaults():
    assert RunConfig("parity", "fcn").to_json() == '{"dataset":"parity","model":"fcn"}'
    config = RunConfig("parity", "fcn", TrainConfig(lr=0.5), seed=3, data={"rho": 0.2})
    assert config.to_json() == (
        '{"data":{"rho":0.2},"dataset":"parity","model":"fcn","seed":3,"train":{"lr":0.5}}'
    )


@pytest.mark.parametrize(
    "config",
    [
        RunConfig("parity", "fcn"),
        RunConfig("parity", "fcn", TrainConfig(lr=0.5, max_steps=3), 7, {"rho": 0.2, "n_core": 4}),
        RunConfig("parity", "fcn", model_options={"hidden": [10, 20]}, source="real"),
    ],
)
def test_json_round_trip(config):
    again = RunConfig.from_json(config.to_json())
    assert again == config and hash(again) == hash(config)


def test_a_frozen_config_cannot_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().lr = 1.0


def test_the_order_of_options_does_not_matter():
    one = RunConfig("parity", "fcn", data={"rho": 0.2, "n_core": 4})
    assert one == RunConfig("parity", "fcn", data={"n_core": 4, "rho": 0.2})


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 1}, {"train": TrainConfig(lr=0.2)}, {"data": {"rho": 0.1}},
        {"model_options": {"hidden": (10,)}}, {"train": TrainConfig(max_epochs=3)},
    ],
)  # fmt: skip
def test_run_id_depends_on_what_determines_the_training(changed):
    assert name(**changed) != name()


def test_run_id_depends_on_the_resolved_source_and_versions_not_on_the_asked_for_source():
    assert name(source="digits:abc") != name()
    assert name(source="mnist:abd") != name()
    assert name(versions={"data": 2, "model": 1}) != name()
    assert name(RunConfig("colored_mnist", "fcn", source="real")) == name()


def test_run_id_is_fixed_for_ever():
    # results on disk carry these names: a change here orphans every one of them
    assert name() == "bcfc9b308f3141e8"
    assert len(name()) == 16 and int(name(), 16) >= 0


def test_run_id_is_the_same_in_another_process():
    code = (
        "from lrsc import RunConfig; from lrsc.config import run_id; print(run_id(RunConfig("
        "'colored_mnist', 'fcn'), 'mnist:abc', {'model': 1, 'data': 1}))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == name()


def test_options_must_be_plain():
    with pytest.raises(ValueError, match="data 'rho' must be a finite number"):
        RunConfig("parity", "fcn", data={"rho": object()})


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"asam_rho": 0.1, "optimizer": "psgd_kron"}, ("asam_rho=0.1", "optimizer='psgd_kron'")),
        ({"asam_rho": 0.1, "sam_rho": 0.2}, ("asam_rho=0.1", "sam_rho=0.2")),
        ({"momentum": 0.9, "optimizer": "adam"}, ("momentum=0.9", "optimizer='adam'")),
        ({"betas": (0.8, 0.9)}, ("betas=(0.8, 0.9)", "optimizer='sgd'")),
        ({"step_at": 10}, ("step_at=10", "schedule='constant'")),
        ({"switch_lr": 0.1, "schedule": "step"}, ("switch_lr=0.1", "schedule='step'")),
        ({"warmup": 0.1}, ("warmup=0.1", "schedule='constant'")),
        ({"decay": 0.1, "schedule": "cosine"}, ("decay=0.1", "schedule='cosine'")),
        ({"warmup": 0.5, "decay": 0.6, "schedule": "wsd"}, ("warmup=0.5", "decay=0.6")),
        ({"schedule": "step", "step_at": 9, "max_steps": 9}, ("step_at=9", "max_steps=9")),
        ({"batch_size": 4, "accumulation": 5}, ("accumulation=5", "batch_size=4")),
    ],
)
def test_settings_that_contradict_one_another_are_refused_by_name(fields, named):
    first, second = map(re.escape, named)
    with pytest.raises(ValueError, match=f"{first}.*{second}"):
        TrainConfig(**fields)


@pytest.mark.parametrize("schedule", CHOICES["schedule"])
@pytest.mark.parametrize("epochs", [1, 100])
def test_every_schedule_is_valid_with_max_epochs_alone(schedule, epochs):
    assert TrainConfig(schedule=schedule, max_epochs=epochs).schedule == schedule


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_choices_get_the_list(name):
    with pytest.raises(ValueError, match=f"unknown {name} 'nothing'.*{CHOICES[name][0]}"):
        TrainConfig(**{name: "nothing"})


def test_every_field_goes_through_json_and_back():
    train = TrainConfig(
        optimizer="adamw", betas=[0.8, 0.95], schedule="cosine", warmup=0.1, l1=1e-5, l2=1e-4,
        focal_gamma=2, asam_rho=0.5, accumulation=2, validation_share=0.1, select_by="mean",
        precision="bf16", stop_at_loss=5e-5,
    )  # fmt: skip
    config = RunConfig("parity", "fcn", train)
    assert RunConfig.from_json(config.to_json()) == config
    assert train.betas == (0.8, 0.95)
