"""Optimisers against the published formulas in NumPy, and resumed against uninterrupted."""

import importlib.util
import io

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lrsc import TrainConfig, optimizers

EVERY = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.01},
    "adamw": {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1},
    "psgd_kron": {"lr": 0.01, "weight_decay": 0.1},
}
every_optimizer = pytest.mark.parametrize("name", EVERY)

CURVATURE = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 0.1]])
START = np.array([1.0, -2.0, 0.5])


def quadratic(w: torch.Tensor) -> torch.Tensor:
    return 0.5 * w @ torch.tensor(CURVATURE, dtype=w.dtype) @ w


def trajectory(config: TrainConfig, steps: int = 30) -> np.ndarray:
    """Weights after each step on the quadratic, in double precision."""
    w = nn.Parameter(torch.tensor(START))
    optimizer, found = optimizers.build(config, iter([w]), "cpu"), []
    for _ in range(steps):
        optimizer.zero_grad()
        quadratic(w).backward()
        optimizer.step()
        found.append(w.detach().numpy().copy())
    return np.array(found)


@pytest.fixture(autouse=True)
def seeded_and_put_back():
    state = np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    np.random.set_state(state)


# -- the updates ------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_is_its_definition(momentum, decay):
    config = TrainConfig(lr=0.1, momentum=momentum, weight_decay=decay)
    w, velocity, expected = START.copy(), np.zeros(3), []
    for _ in range(30):
        velocity = momentum * velocity + CURVATURE @ w + decay * w
        w = w - 0.1 * velocity
        expected.append(w)
    np.testing.assert_allclose(trajectory(config), expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.8)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_and_adamw_are_the_published_ones(optimizer, betas, decay):
    config = TrainConfig(lr=0.03, optimizer=optimizer, betas=betas, weight_decay=decay)
    w, m, v, expected = START.copy(), np.zeros(3), np.zeros(3), []
    for t in range(1, 31):
        g = CURVATURE @ w
        if optimizer == "adam":  # L2: through the moments
            g = g + decay * w
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        moved = 0.03 * (m / (1 - betas[0] ** t)) / (np.sqrt(v / (1 - betas[1] ** t)) + 1e-8)
        if optimizer == "adamw":  # decoupled: beside them
            moved = moved + 0.03 * decay * w
        w = w - moved
        expected.append(w)
    np.testing.assert_allclose(trajectory(config), expected, rtol=1e-9, atol=1e-12)


def test_kron_decays_matrices_only_and_beside_the_gradient():
    """With zero gradients its own update is 0: what is left is w (1 - lr * decay) a step."""
    config = TrainConfig(lr=0.1, optimizer="psgd_kron", weight_decay=0.5)
    matrix, bias = (nn.Parameter(torch.ones(shape)) for shape in ((3, 2), (3,)))
    optimizer = optimizers.build(config, [matrix, bias], "cpu")
    for w in (matrix, bias):
        w.grad = torch.zeros_like(w)
    for _ in range(3):
        optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((3, 2), 0.95**3))
    assert bias.tolist() == [1.0, 1.0, 1.0]


def test_kron_solves_a_badly_conditioned_problem_sooner_than_sgd():
    """Loss |A W B|^2 / 2 with condition number 10^6; SGD at the best stable LR and momentum."""
    a, b = (torch.diag(torch.logspace(0, -1.5, n)) for n in (6, 5))
    start = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))

    def left(config: TrainConfig, schedule) -> float:
        w = nn.Parameter(start.clone())
        optimizer = optimizers.build(config, [w], "cpu")
        for t in range(200):
            optimizers.set_lr(optimizer, schedule(t))
            optimizer.zero_grad()
            (0.5 * (a @ w @ b).square().sum()).backward()
            optimizer.step()
        return (0.5 * (a @ w @ b).square().sum()).item()

    sgd = min(
        left(TrainConfig(lr=lr, momentum=momentum), lambda _, lr=lr: lr)
        for lr in (0.3, 1.0, 1.9)
        for momentum in (0.0, 0.9, 0.99)
    )
    kron = left(TrainConfig(optimizer="psgd_kron"), lambda t: 0.1 * (1 - t / 200))
    assert kron < 0.1 * sgd


# -- resuming ---------------------------------------------------------------------------------


class Problem:
    """A small network of every kind of parameter, its optimiser, and one batch a step."""

    def __init__(self, name: str) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.net = nn.Sequential(
                nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 3, bias=False),
            )  # fmt: skip
            weight = self.net[0].weight
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
            config = TrainConfig(optimizer=name, **EVERY[name])
            self.optimizer = optimizers.build(config, self.net.parameters(), "cpu")

    def train(self, first: int, last: int) -> None:
        for step in range(first, last):
            generator = torch.Generator().manual_seed(step)
            x = torch.randn(8, 3, 6, 6, generator=generator)
            self.optimizer.zero_grad()
            F.cross_entropy(self.net(x), torch.arange(8) % 3).backward()
            self.optimizer.step()

    def saved(self) -> io.BytesIO:
        file = io.BytesIO()
        torch.save([self.net.state_dict(), self.optimizer.state_dict()], file)
        file.seek(0)
        return file

    def load(self, file: io.BytesIO) -> None:
        net, optimizer = torch.load(file, weights_only=True)
        self.net.load_state_dict(net)
        self.optimizer.load_state_dict(optimizer)

    def weights(self) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in self.net.parameters()])


def disturb() -> None:
    """Move the global generators, so that whoever depends on them is found."""
    torch.rand(3)
    np.random.random(3)


def same(one, other) -> bool:
    """Whether two nested states are equal in every type, value and bit."""
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(one, list | tuple):
        return type(one) is type(other) and all(map(same, one, other)) and len(one) == len(other)
    return type(one) is type(other) and one == other


@every_optimizer
def test_resumed_is_uninterrupted_bit_for_bit(name):
    whole, first, second = (Problem(name) for _ in range(3))
    whole.train(0, 20)
    first.train(0, 10)
    optimizers.set_lr(second.optimizer, 0.5)  # must come from the state
    disturb()
    second.load(first.saved())
    assert same(first.optimizer.state_dict(), second.optimizer.state_dict())
    disturb()
    second.train(10, 20)
    assert torch.equal(second.weights(), whole.weights())
    assert not torch.equal(first.weights(), whole.weights())
    assert same(second.optimizer.state_dict(), whole.optimizer.state_dict())


def test_kron_resumes_where_its_preconditioner_is_updated_now_and_then():
    """From step 500 on updates are rarer, counted by the optimiser; balancing is drawn."""
    whole, first, second = (Problem("psgd_kron") for _ in range(3))
    for problem in (whole, first, second):
        problem.optimizer.param_groups[0]["step"] = 2000
        problem.optimizer.balance_prob = 0.5
    whole.train(0, 20)
    for stop in (7, 9):  # inside an interval
        first.train(0 if stop == 7 else 7, stop)
        disturb()
        second.load(first.saved())
        second.train(stop, 20)
        assert torch.equal(second.weights(), whole.weights())


@every_optimizer
def test_two_are_equal_whatever_the_global_generators_hold(name):
    one, two = Problem(name), Problem(name)
    one.train(0, 5)
    disturb()
    two.train(0, 5)
    assert torch.equal(one.weights(), two.weights())


@every_optimizer
def test_a_step_leaves_the_global_generators_alone(name):
    problem = Problem(name)
    torchs, numpys = torch.get_rng_state(), np.random.get_state()
    problem.train(0, 3)
    assert torch.equal(torch.get_rng_state(), torchs)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpys, strict=True))


def test_krons_noise_is_of_the_seed_and_of_the_step():
    def drawn(seed: int, step: int) -> list[float]:
        with optimizers._noise(seed, step, torch.device("cpu")):
            return [*torch.rand(4).tolist(), np.random.random()]

    keys = [(seed, step) for seed in (0, 1, 2, 2**31) for step in range(50)]
    found = {key: drawn(*key) for key in keys}
    assert drawn(1, 5) == found[1, 5]
    assert len({tuple(values) for values in found.values()}) == len(keys)
    torch.manual_seed(0)
    assert found[0, 0][:4] != torch.rand(4).tolist()  # not what weights are drawn from
    assert np.abs(np.mean(list(found.values()), axis=0) - 0.5).max() < 0.08  # 4 deviations


def test_kron_of_another_seed_takes_other_steps():
    ends = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        w = nn.Parameter(torch.ones(4, 3))
        optimizer = optimizers.build(TrainConfig(optimizer="psgd_kron"), [w], "cpu")
        for _ in range(3):
            w.grad = w.detach() ** 2 + torch.arange(3)
            optimizer.step()
        ends.append(w.detach())
    assert not torch.equal(*ends)


# -- building ---------------------------------------------------------------------------------


@every_optimizer
def test_lr_and_decay_are_the_configs(name):
    config = TrainConfig(optimizer=name, **EVERY[name])
    optimizer = optimizers.build(config, [nn.Parameter(torch.ones(2))], "cpu")
    (group,) = optimizer.param_groups
    assert group["lr"] == config.lr and group["weight_decay"] == config.weight_decay
    assert group.get("fused", True)


@every_optimizer
def test_set_lr_sets_every_group(name):
    config = TrainConfig(optimizer=name, **EVERY[name])
    optimizer = optimizers.build(config, [nn.Parameter(torch.ones(2))], "cpu")
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(3))]})
    optimizers.set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_other_devices_are_not_fused():
    optimizer = optimizers.build(TrainConfig(), [nn.Parameter(torch.ones(2))], "meta")
    assert not optimizer.param_groups[0]["fused"]


@pytest.mark.parametrize("missing", ["pytorch_optimizer", "opt_einsum"])
def test_a_missing_package_is_named(missing, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == missing else found(name)
    )
    package = missing.replace("_", "-")
    with pytest.raises(ValueError, match=f"not installed: {package}; pip install {package}"):
        optimizers.build(TrainConfig(optimizer="psgd_kron"), [], "cpu")


# -- sharpness-aware minimisation -------------------------------------------------------------


def sam_trajectory(rho: float, adaptive: bool, start=START, steps: int = 30) -> np.ndarray:
    """SGD at LR 0.1 with SAM on the quadratic; the weights in two parameters."""
    parts = [nn.Parameter(torch.tensor(start[:2])), nn.Parameter(torch.tensor(start[2:]))]
    optimizer = optimizers.build(TrainConfig(lr=0.1), parts, "cpu")
    sharpness, found = optimizers.SharpnessAware(iter(parts), rho, adaptive), []
    for _ in range(steps):
        for pass_number in range(2):
            optimizer.zero_grad()
            quadratic(torch.cat(parts)).backward()
            if pass_number == 0:
                sharpness.ascend()
        sharpness.restore()
        optimizer.step()
        found.append(torch.cat(parts).detach().numpy())
    return np.array(found)


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("start", [START, np.array([1.0, 0.0, -3.0])])
def test_sam_and_asam_are_the_published_ones(adaptive, start):
    w, expected = start.copy(), []
    for _ in range(30):
        g = CURVATURE @ w
        t = np.abs(w) + 0.01 if adaptive else np.ones(3)
        epsilon = 0.3 * t**2 * g / np.sqrt(((t * g) ** 2).sum())
        w = w - 0.1 * CURVATURE @ (w + epsilon)
        expected.append(w)
    found = sam_trajectory(0.3, adaptive, start)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_vanishing_radius_is_plain_sgd(adaptive):
    sgd = trajectory(TrainConfig(lr=0.1))
    np.testing.assert_allclose(sam_trajectory(1e-13, adaptive), sgd, atol=1e-11)
    assert np.array_equal(sam_trajectory(0.0, adaptive), sgd)
    assert np.abs(sam_trajectory(0.3, adaptive) - sgd).max() > 0.01


def moved(gradients: list, rho: float, adaptive: bool) -> list[torch.Tensor]:
    """epsilon in single precision of parameters 1, 2, 3, ... with these gradients."""
    weights = [nn.Parameter(torch.full((2, 2), 1.0 + i)) for i in range(len(gradients))]
    for w, g in zip(weights, gradients, strict=True):
        w.grad = None if g is None else torch.full((2, 2), float(g))
    before = [w.detach().clone() for w in weights]
    sharpness = optimizers.SharpnessAware(weights, rho, adaptive)
    sharpness.ascend()
    found = [w.detach() - b for w, b in zip(weights, before, strict=True)]
    sharpness.restore()
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))
    return found


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_zero_gradient_moves_nothing(adaptive):
    assert all((e == 0).all() for e in moved([0.0, 0.0], 0.5, adaptive))
    assert all((e == 0).all() for e in moved([None, None], 0.5, adaptive))


def test_the_radius_is_that_of_all_parameters_together():
    epsilon = torch.cat(moved([3.0, None, -4.0], 0.5, False))
    assert epsilon.norm().item() == pytest.approx(0.5, rel=1e-5)
    assert (epsilon[2:4] == 0).all() and (epsilon[:2] > 0).all() and (epsilon[4:] < 0).all()
    epsilon = torch.stack(moved([3.0, None, -4.0], 0.5, True))
    scaled = epsilon / (torch.tensor([1.0, 2.0, 3.0])[:, None, None] + 0.01)
    assert scaled.norm().item() == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_gradient_of_the_first_pass_is_left_as_it_was(adaptive):
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    w.grad = torch.tensor([3.0, 4.0])
    optimizers.SharpnessAware([w], 0.5, adaptive).ascend()
    assert w.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("adaptive", [False, True])
def test_restored_weights_are_bit_equal(adaptive):
    generator = torch.Generator().manual_seed(0)
    w = nn.Parameter(torch.randn(50, 7, 3, 3, generator=generator))
    w.data = w.data.contiguous(memory_format=torch.channels_last)
    before, sharpness = w.detach().clone(), optimizers.SharpnessAware([w], 1e4, adaptive)
    for _ in range(2):
        w.grad = torch.randn(w.shape, generator=generator)
        sharpness.ascend()
        assert not torch.equal(w, before)
        sharpness.restore()
        assert torch.equal(w, before) and w.stride() == before.stride()
        with torch.no_grad():
            before = w.mul_(1.5).clone()


def test_a_negative_radius_is_refused():
    with pytest.raises(ValueError, match="rho must be a number >= 0, found -1"):
        optimizers.SharpnessAware([], -1, False)


# -- running statistics -----------------------------------------------------------------------


def normalising() -> nn.Sequential:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3, momentum=None)))
    net(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)))
    return net


def test_running_statistics_stand_still_and_batch_statistics_are_used():
    net = normalising()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = 5 + 3 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    with optimizers.frozen_statistics(net):
        found = net(x)
        assert all(torch.equal(v, before[n]) for n, v in net.state_dict().items())
    assert torch.equal(found, normalising()(x))
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.var(0, unbiased=False), torch.ones(3), atol=1e-3, rtol=0)
    net(x)
    assert all(not torch.equal(v, before[n]) for n, v in net.named_buffers())
    expected = normalising()
    expected(x)
    assert same(dict(net.state_dict()), dict(expected.state_dict()))


def test_layers_in_eval_mode_keep_to_their_running_statistics():
    net, x = normalising(), torch.randn(4, 3)
    net[0].eval()
    with optimizers.frozen_statistics(net):
        found = net[0](x)
    assert torch.equal(found, net[0](x)) and not torch.equal(found, normalising()[0](x))


def test_a_layer_without_running_statistics_stays_so():
    net = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3))
    with pytest.raises(KeyError), optimizers.frozen_statistics(net):
        raise KeyError
    assert [layer.track_running_stats for layer in net] == [False, True]
