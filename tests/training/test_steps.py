"""One update: parts of a batch, penalties, sharpness, schedules and precision inside `fit`."""

import pytest
import torch
from torch import nn

import lrsc
from lrsc import TrainConfig


def config(**fields):
    return TrainConfig(**{"lr": 0.05, "batch_size": 20, "max_epochs": 4, "stop_at_accuracy": None}
                       | fields)  # fmt: skip


def small():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 3))


def trained(dataset, factory=small, **fields):
    (run,) = lrsc.fit(factory, dataset, config(**fields))
    return torch.cat([p.detach().flatten() for p in run.model.parameters()]), run.curves


@pytest.mark.parametrize("other", [{}, {"focal_gamma": 2.0}, {"asam_rho": 0.5}, {"l1": 1e-3}])
def test_a_batch_in_parts_is_the_whole_batch(own_dataset, other):
    whole, curves = trained(own_dataset, **other)
    parts, their_curves = trained(own_dataset, accumulation=3, **other)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(their_curves["loss"], curves["loss"], rtol=1e-4, atol=1e-6)


def test_l2_is_weight_decay_under_sgd(own_dataset):
    l2, _ = trained(own_dataset, l2=0.1)
    decay, _ = trained(own_dataset, weight_decay=0.1)
    plain, _ = trained(own_dataset)
    torch.testing.assert_close(l2, decay, rtol=1e-4, atol=1e-6)
    assert float((l2 - plain).norm()) > 0.01


def test_l1_moves_weights_towards_zero(own_dataset):
    plain, _ = trained(own_dataset)
    sparse, _ = trained(own_dataset, l1=0.05)
    assert float(sparse.abs().sum()) < 0.9 * float(plain.abs().sum())


@pytest.mark.parametrize("name", ["sam_rho", "asam_rho"])
def test_no_radius_is_sgd_and_a_radius_is_not(own_dataset, name):
    plain, _ = trained(own_dataset)
    near, _ = trained(own_dataset, **{name: 1e-7})
    far, _ = trained(own_dataset, **{name: 1.0})
    torch.testing.assert_close(near, plain, rtol=1e-4, atol=1e-5)
    assert float((far - plain).norm()) > 0.01


def test_the_second_pass_of_sam_leaves_batch_statistics_alone(own_dataset):
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(192), nn.Linear(192, 3))
    (run,) = lrsc.fit(net, own_dataset, config(sam_rho=1.0))
    assert int(run.model[1].num_batches_tracked) == run.steps == 12


def test_a_schedule_reaches_the_optimiser(own_dataset):
    norms = lambda net: torch.stack([p.detach().norm() for p in net.parameters()])  # noqa: E731
    (run,) = lrsc.fit(
        small, own_dataset, config(schedule="step", step_at=5, step_factor=1e-30),
        probes={"w": norms}, probe_every=1,
    )  # fmt: skip
    moved = run.curves["w"].diff(dim=0).abs().amax(1) > 0
    assert moved.tolist() == [True] * 5 + [False] * 7
    constant = trained(own_dataset)[1]["loss"]
    torch.testing.assert_close(run.curves["loss"][:6], constant[:6])


def test_a_change_after_the_end_is_refused_with_both_settings(own_dataset):
    with pytest.raises(ValueError, match=r"switch_at=12.*12"):
        lrsc.fit(small, own_dataset, config(schedule="switch", switch_at=12))
    lrsc.fit(small, own_dataset, config(schedule="switch", switch_at=11))


@pytest.mark.parametrize("name", ["adam", "adamw", "psgd_kron"])
def test_every_optimiser_lowers_the_loss(own_dataset, name):
    _, curves = trained(own_dataset, optimizer=name, lr=0.01, max_epochs=20)
    assert float(curves["loss"][-3:].mean()) < 0.8 * float(curves["loss"][:3].mean())


def test_the_focal_loss_trains_and_cross_entropy_is_recorded(own_dataset):
    _, plain = trained(own_dataset)
    _, focal = trained(own_dataset, focal_gamma=3.0)
    assert float(plain["loss"][0]) == float(focal["loss"][0])
    assert not torch.equal(plain["loss"][1:], focal["loss"][1:])


def test_bf16_keeps_weights_and_curves_in_fp32(own_dataset):
    kinds = set()

    class Watched(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            if self.training:
                kinds.add(y.dtype)
            return y

    net = lambda: nn.Sequential(nn.Flatten(), Watched(192, 3))  # noqa: E731
    (run,) = lrsc.fit(net, own_dataset, config(precision="bf16"))
    (full,) = lrsc.fit(net, own_dataset, config())
    assert kinds == {torch.bfloat16, torch.float32}
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    assert run.curves["loss"].dtype == torch.float32
    torch.testing.assert_close(run.curves["loss"], full.curves["loss"], rtol=0.05, atol=0.02)
    assert not torch.equal(run.curves["loss"], full.curves["loss"])


def test_gradients_are_there_when_a_probe_looks(own_dataset):
    def gradient(net):
        found = [p.grad for p in net.parameters()]
        return torch.tensor(float("nan")) if found[0] is None else found[0].norm()

    (run,) = lrsc.fit(small, own_dataset, config(), probes={"g": gradient}, probe_every=6)
    values = run.curves["g"]
    assert run.curves["g_step"].tolist() == [0, 6, 12]
    assert bool((values[:2] > 0).all()) and bool(values[2].isnan())


def test_out_of_memory_names_the_settings_that_need_less(own_dataset):
    class Hungry(nn.Linear):
        def forward(self, x):
            if self.training:
                torch.empty(2**50)
            return super().forward(x)

    net = lambda: nn.Sequential(nn.Flatten(), Hungry(192, 3))  # noqa: E731
    with pytest.raises(lrsc.errors.OutOfMemory, match="batch_size.*\n?.*accumulation.*precision"):
        lrsc.fit(net, own_dataset, config())


def test_probe_names_and_intervals_are_checked(own_dataset):
    probe = {"x": lambda net: torch.zeros(())}
    for every in (0, {"y": 3}, 1.5):
        with pytest.raises(ValueError, match="probe_every"):
            lrsc.fit(small, own_dataset, config(), probes=probe, probe_every=every)
    with pytest.raises(ValueError, match="'loss' is a curve of its own"):
        lrsc.fit(small, own_dataset, config(), probes={"loss": probe["x"]})
    several = {"a": lambda net: {"one": torch.zeros(2), "two": torch.ones(())}, "b": probe["x"]}
    (run,) = lrsc.fit(
        small, own_dataset, config(), probes=several, probe_every={"a": 4, "b": 6}, progress=False
    )
    assert run.curves["a_one"].shape == (4, 2) and run.curves["b"].shape == (3,)
    assert run.curves["a_step"].tolist() == [0, 4, 8, 12]


def test_tf32_on_a_cpu_is_refused(own_dataset):
    with pytest.raises(ValueError, match="precision='tf32' does nothing on device='cpu'"):
        lrsc.fit(small, own_dataset, config(precision="tf32"), device="cpu")
