"""What others do to torch's global state changes no run: threads, generators, modes, types."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import lrsc
from lrsc.models.draws import Draws

STEPS = 4
CPU = torch.device("cpu")


class Noisy(nn.Module):
    """Draws in its forward pass in every way that torch's layers do."""

    def __init__(self, d: int = 43) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(d, 16), nn.Linear(16, 2)
        self.attend = nn.MultiheadAttention(16, 2, dropout=0.2, batch_first=True)
        self.lstm = nn.LSTM(16, 16, 2, dropout=0.3, batch_first=True)

    def forward(self, x):
        h = F.dropout(self.a(x), 0.3, self.training)[:, None]
        if self.training:
            h = F.rrelu(F.alpha_dropout(h, 0.1, True), training=True)
            h = F.scaled_dot_product_attention(h, h, h, dropout_p=0.1) + torch.rand_like(h)
            h = h + torch.normal(0.0, 0.1, h.shape) + torch.bernoulli(torch.full_like(h, 0.5))
            h = h + torch.randn(h.shape) + torch.randint(0, 2, h.shape) + F.gumbel_softmax(h)
            h = h[torch.randperm(len(h)).argsort()] * torch.empty_like(h).uniform_(0.9, 1.1)
        h = self.lstm(h + self.attend(h, h, h, need_weights=False)[0])[0]
        return self.head(h[:, 0])


def with_dropout() -> nn.Module:
    return nn.Sequential(nn.Linear(43, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 2))


MODELS = {"fcn": "fcn", "dropout": with_dropout, "noisy": Noisy}


@pytest.fixture(scope="module")
def data():
    return lrsc.datasets.load("parity", n_train=200)


def trained(data, name: str = "fcn", seed: int = 0, **settings) -> list[torch.Tensor]:
    config = lrsc.TrainConfig(**({"max_steps": STEPS} | settings))
    (run,) = lrsc.fit(MODELS[name], data, config, seeds=[seed], progress=False)
    return [run.curves["loss"], *run.model.state_dict().values()]


def same(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("name", [*MODELS, "kron"])
def test_runs_in_threads_are_those_alone(data, name):
    def one(seed: int) -> list[torch.Tensor]:
        if name == "kron":
            return trained(data, "fcn", seed, optimizer="psgd_kron", lr=1e-3)
        return trained(data, name, seed)

    seeds = [0, 1, 2, 0, 3, 1]
    alone = [one(seed) for seed in seeds]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(one, seeds))
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))
    assert not same(alone[0], alone[1])


def test_runs_of_asyncio_are_those_alone(data):
    async def both():
        runs = (asyncio.to_thread(trained, data, "dropout", seed) for seed in (0, 1))
        return await asyncio.gather(*runs)

    assert all(same(a, trained(data, "dropout", s)) for s, a in enumerate(asyncio.run(both())))


@given(
    st.sampled_from(sorted(MODELS)),
    st.integers(0, 2**31),
    st.sampled_from([torch.no_grad, torch.inference_mode, torch.enable_grad]),
)
@settings(max_examples=8, deadline=None)
def test_what_the_caller_has_set_changes_nothing(name, noise, mode):
    data = lrsc.datasets.load("parity", n_train=200)
    alone = trained(data, name)
    with torch.random.fork_rng():
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        with mode():
            here = trained(lrsc.datasets.load("parity", n_train=200), name)
        assert torch.equal(torch.get_rng_state(), before)  # nor do we change what is the caller's
    assert same(alone, here)


def test_another_default_type_is_refused_by_name(data):
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match=r"default type is torch\.float64.*set_default_dtype"):
            trained(data)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_module_made_in_inference_mode_is_refused_by_name(data):
    with torch.inference_mode():
        net = lrsc.models.build("fcn", data.input_shape, 2)
    with pytest.raises(ValueError, match=r"made in torch\.inference_mode"):
        lrsc.fit(net, data, lrsc.TrainConfig(max_steps=1), progress=False)


def test_draws_are_those_of_torchs_generator_with_the_seed():
    def step(net: nn.Module) -> list[torch.Tensor]:
        net.train()(torch.linspace(-1, 1, 43 * 8).reshape(8, 43)).sum().backward()
        return [p.grad for p in net.parameters()]

    with torch.random.fork_rng():
        torch.manual_seed(5)
        expected = step(Noisy())
    state, draws = torch.get_rng_state(), Draws(5, CPU)
    with draws.inside():
        found = step(Noisy())
    assert same(expected, found) and draws.drawn
    assert torch.equal(torch.get_rng_state(), state)


def test_states_go_on_inside_and_outside():
    draws = Draws(5, CPU)
    with draws.inside():
        torch.rand(2)
    kept = draws.state()
    with draws.inside():
        expected = torch.rand(3)
        draws.set_state(kept)
        assert torch.equal(torch.rand(3), expected)
    draws.set_state(kept)
    with draws.inside():
        assert torch.equal(torch.rand(3), expected)


class Checkpointed(nn.Module):
    """Dropout in a block whose activations are computed again in the backward pass."""

    def __init__(self, again: bool) -> None:
        super().__init__()
        self.a, self.head, self.again = nn.Linear(43, 16), nn.Linear(16, 2), again

    def block(self, x):
        return F.dropout(self.a(x).relu(), 0.5, self.training)

    def forward(self, x):
        found = checkpoint(self.block, x, use_reentrant=False) if self.again else self.block(x)
        return self.head(found)


def test_activation_checkpointing_draws_the_same_again(data):
    few = lrsc.TrainConfig(max_steps=STEPS, lr=0.5)
    one, other = (
        lrsc.fit(lambda again=again: Checkpointed(again), data, few, progress=False)[0]
        for again in (True, False)
    )
    assert torch.equal(one.curves["loss"], other.curves["loss"])


class Seeded(nn.Module):
    """A fixed projection that its constructor draws with a seed of its own."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.projection = torch.randn(43, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        return self.head((x @ self.projection).relu())


def test_seeds_of_a_models_own_are_honoured(data):
    runs = lrsc.fit(Seeded, data, lrsc.TrainConfig(max_steps=1), seeds=[0, 1], progress=False)
    expected = torch.randn(43, 16, generator=torch.Generator().manual_seed(7))
    assert all(torch.equal(run.model.projection, expected) for run in runs)


def test_a_network_that_draws_nothing_is_not_slowed_down(data):
    (run,) = lrsc.fit(
        "fcn", data, lrsc.TrainConfig(max_steps=2), engine="reference", progress=False
    )
    assert run.engine == "reference"
    draws = Draws(0, CPU)
    with draws.inside():
        run.model(data.train.inputs(data.train.x[:2]))
    assert not draws.drawn


def same_measures(net, data) -> list[torch.Tensor]:
    found = lrsc.measure(net, data, methods="column")
    x = data.test.inputs(data.test.x[:50])
    found = [torch.as_tensor(v.values) for v in found.data_vars.values()]
    return [v.nan_to_num(-1) for v in found] + [lrsc.models.evaluate(net, x)]


@pytest.mark.parametrize("name", ["fcn", "noisy"])
def test_autocast_and_precision_of_the_caller_change_nothing(data, name):
    net = MODELS["noisy"]() if name == "noisy" else lrsc.models.build("fcn", (43,), 2)
    alone, measured = trained(data, name), same_measures(net.eval(), data)
    with torch.autocast("cpu", torch.bfloat16):
        assert same(trained(data, name), alone)
        assert same(same_measures(net, data), measured)
    matmul, conv = torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv
    torch.set_float32_matmul_precision("medium")
    try:
        assert same(trained(data, name), alone)
        assert same(same_measures(net, data), measured)
        assert torch.get_float32_matmul_precision() == "medium"
        torch.set_float32_matmul_precision("highest")
        matmul.fp32_precision, conv.fp32_precision = "bf16", "tf32"  # torch's newer way
        assert same(trained(data, name), alone)
        assert (matmul.fp32_precision, conv.fp32_precision) == ("bf16", "tf32")
    finally:
        matmul.fp32_precision, conv.fp32_precision = "ieee", "ieee"
        torch.set_float32_matmul_precision("highest")
