"""The classifier is what returns the logits, wherever it stands; what cannot be told is refused."""

import copy
import types

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import lrsc
from lrsc import attribution, metrics, models, pruning
from lrsc.datasets import BiasedDataset, Split

D, K = 12, 4


class Cosine(nn.Module):
    """A classifier without nn.Linear, of ten times the cosines."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(K, 16))

    def forward(self, z):
        return 10 * F.normalize(z, dim=1) @ F.normalize(self.weight, dim=1).T


class Net(nn.Module):
    """Two hidden layers a, b and a head, made and used in the ways that people do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind in ("head first", "gated", "averaged"):
            self.head = nn.Linear(16, K)
        self.a, self.b = nn.Linear(D, K if kind == "as wide" else 16), nn.Linear(16, 16)
        if kind == "as wide":  # the first hidden layer has as many neurons as there are classes
            self.b = nn.Linear(K, 16)
        if kind == "cosine":
            self.head = Cosine()
        elif not hasattr(self, "head"):
            self.head = nn.Linear(16, K)
        self.other = nn.Linear(16, K)  # a second head; in some kinds of no use
        self.register_buffer("temperature", torch.tensor(3.0))

    def hidden(self, x):
        return self.b(self.a(x.flatten(1)).relu()).relu()

    def forward(self, x):
        z = self.hidden(x)
        found = self.head(z)
        if self.kind == "log-softmax":
            return found.log_softmax(1)
        if self.kind == "softmax":
            return found.softmax(1)
        if self.kind == "temperature":
            return found / self.temperature
        if self.kind == "averaged":
            return (found + self.other(z)) / 2
        if self.kind == "gated":
            return found * self.other(z).sigmoid()
        if self.kind == "auxiliary called":
            self.other(z)
        return found


TOLD = (
    "plain",
    "head first",
    "as wide",
    "cosine",
    "log-softmax",
    "softmax",
    "temperature",
    "auxiliary called",
)
NOT_TOLD = ("averaged", "gated")


def net_of(kind: str) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Net(kind).eval()


@pytest.fixture(scope="module")
def data() -> BiasedDataset:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(200) % K
    x = torch.randn(200, D, generator=generator) + F.one_hot(y, D) * 2
    part = Split(x, y, torch.arange(200) // K % K)
    return BiasedDataset("mine", part, part, K)


def curve(net: Net, data: BiasedDataset) -> list[float]:
    """Accuracies after pruning a and b by columns, written out."""
    after = []
    for k in range(1, 10):
        small = copy.deepcopy(net)
        for layer in (small.a, small.b):
            rows = len(layer.weight)
            order = layer.weight.norm(dim=1).argsort(stable=True)[: round(k / 10 * rows)]
            with torch.no_grad():
                layer.weight[order], layer.bias[order] = 0, 0
        with torch.no_grad():
            after.append(float((small(data.test.x).argmax(1) == data.test.y).double().mean()))
    return after


@pytest.mark.parametrize("kind", TOLD)
def test_the_classifier_is_what_returns_the_logits(kind, data):
    net = net_of(kind)
    if kind == "auxiliary called":  # an unused head that runs is pruned like any other layer
        net.other.requires_grad_(False)
    found = lrsc.measure(net, data)
    assert models.classifier_name(net) == "head"
    z = net.hidden(data.test.x).detach()
    assert torch.equal(models.representation(net, data.test.x), z)
    assert float(found.csi_all) == pytest.approx(
        float(metrics.class_selectivity(z, data.test.y).mean()), abs=1e-5
    )
    assert found.accuracy_pruned_column.values.tolist() == pytest.approx(curve(net, data))
    assert {"head.weight"}.isdisjoint(pruning.prunable(net))
    assert models.feeding(net) is net.b


@pytest.mark.parametrize("kind", NOT_TOLD)
def test_what_cannot_be_told_is_refused_with_what_to_pass(kind, data):
    with pytest.raises(
        ValueError, match=r"one layer must return the logits.*layer='\.\.\.' \(.*head"
    ):
        lrsc.measure(net_of(kind), data)
    net = net_of(kind)
    named = lrsc.measure(net, data, layer="head")
    z = net.hidden(data.test.x).detach()
    assert float(named.sparsity) == pytest.approx(float(metrics.sparsity(z).mean()))
    assert "head.weight" not in pruning.prunable(net, "head")
    assert {"a.weight", "b.weight"} <= set(pruning.prunable(net, "head"))


def test_a_diverged_network_is_named_as_such(data):
    net = net_of("plain")
    net.head.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="this Net returns NaN or infinity for finite inputs"):
        lrsc.measure(net, data)


def test_a_network_that_has_not_run_is_not_guessed_at():
    net = net_of("head first")
    for call in (pruning.prunable, lambda n: pruning.prune(n, 0.5)):
        with pytest.raises(ValueError, match=r"is not known before it has run.*layer='\.\.\.'"):
            call(net)
    assert set(pruning.prunable(net, "head")) == {"a.weight", "b.weight", "other.weight"}
    models.representation(net, torch.randn(8, D))
    assert "head.weight" not in pruning.prunable(net)
    net.head = nn.Linear(16, K)  # another head: what was seen holds no more
    with pytest.raises(ValueError, match="is not known before it has run"):
        pruning.prunable(net)


def test_shrink_leaves_the_classifier_alone(data):
    net = net_of("head first")
    small = pruning.shrink(net, 0.5, data.test.x[:8]).model
    assert small.head.weight.shape[0] == K and len(small.b.weight) < 16


def test_the_first_convolution_is_the_one_that_runs_first():
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Conv2d(4, 6, 3), nn.Conv2d(3, 4, 3)
            self.head = nn.Linear(6, K)

        def forward(self, x):
            return self.head(self.second(self.first(x).relu()).relu().mean((2, 3)))

    net = Late()
    models.representation(net, torch.randn(8, 3, 8, 8))
    assert set(pruning.prunable(net)) == {"second.weight"}


class InPlace(Net):
    """A second head is added to the first one's output, in place."""

    def forward(self, x):
        z = self.hidden(x)
        found = self.head(z)
        found += self.other(z)
        return found


class Twice(Net):
    """The head is called a second time, for something else."""

    def forward(self, x):
        z = self.hidden(x)
        found = self.head(z)
        self.aside = self.head(-z)
        return found


class Rooted(Net):
    """Two averaged heads, and weights beside the layers."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.beside = nn.Parameter(torch.ones(2, 2))

    def forward(self, x):
        z = self.hidden(x)
        return (self.head(z) + self.other(z)) / 2 + 0 * self.beside.sum()


@pytest.mark.parametrize("kind", [InPlace, Rooted])
def test_heads_that_only_share_in_the_logits_are_not_taken_for_the_classifier(kind, data):
    with pytest.raises(ValueError, match="one layer must return the logits"):
        lrsc.measure(kind("plain"), data)


def test_of_two_calls_of_the_classifier_the_one_that_gave_the_logits_counts(data):
    net = Twice("plain").eval()
    z = models.representation(net, data.test.x)
    assert torch.equal(z, net.hidden(data.test.x).detach())


def test_a_normalised_classifier_has_to_be_named(data):
    net = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, K), nn.BatchNorm1d(K)).eval()
    net[3].running_mean.normal_()
    nn.init.uniform_(net[3].weight, 0.5, 2.0)
    with pytest.raises(ValueError, match="one layer must return the logits, no layer does"):
        lrsc.measure(net, data)
    assert "2.weight" not in pruning.prunable(net, "2")


def test_a_classifier_that_shares_its_weights_is_left_alone(data):
    net = net_of("plain")
    net.b = nn.Linear(16, K)
    net.head = nn.Linear(K, K)
    net.head.weight = nn.Parameter(torch.randn(K, K))
    net.c = nn.Linear(K, K)
    net.c.weight = net.head.weight
    models.representation(net, data.test.x[:8])
    assert set(pruning.prunable(net)) & {"head.weight", "c.weight"} == set()


def test_what_is_known_holds_for_a_pruned_copy_and_not_for_changed_heads(data):
    net = net_of("head first")
    models.representation(net, data.test.x[:8])
    assert pruning.sparsity_of(pruning.prune(net, 0.5)) == 0.5
    net.b = nn.Sequential(nn.Linear(16, 16))
    with pytest.raises(ValueError, match="not known before it has run"):
        pruning.prunable(net)


def test_a_compiled_network_is_measured_as_the_one_inside(data):
    net = net_of("plain")
    compiled = torch.compile(net, backend="eager")
    assert lrsc.measure(compiled, data).equals(lrsc.measure(net, data))


def test_a_dead_network_has_a_classifier(data):
    net = nn.Sequential(nn.Linear(D, K, bias=False), nn.ReLU(), nn.Linear(K, K, bias=False))
    for p in net.parameters():
        nn.init.zeros_(p)
    assert lrsc.measure(net, data).prunability.notnull()
    assert models.classifier_name(net) == "2"


def test_what_is_no_network_is_named(data):
    runs = lrsc.fit("fcn", data, lrsc.TrainConfig(max_steps=1), progress=False)
    with pytest.raises(ValueError, match="model must be a network or one run of fit, found"):
        lrsc.measure(runs, data)
    with pytest.raises(ValueError, match="has no parameters"):
        lrsc.fit(nn.Flatten, data, lrsc.TrainConfig(max_steps=1), progress=False)
    frozen = Wrapped(lambda z: z).requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter with requires_grad"):
        lrsc.fit(frozen, data, lrsc.TrainConfig(max_steps=1), progress=False)


# -- what models return -------------------------------------------------------------------------


class Wrapped(nn.Module):
    def __init__(self, wrap) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.body = nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(),
                                      nn.Linear(16, K))  # fmt: skip
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(self.body(x))


WRAPS = {
    "dict": lambda z: {"loss": None, "logits": z}, "tuple": lambda z: (z, z * 2),
    "list": lambda z: [z], "object": lambda z: types.SimpleNamespace(logits=z),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRAPS)
def test_logits_are_taken_out_of_what_a_model_returns(kind, data):
    few = lrsc.TrainConfig(max_steps=3, batch_size=50)
    (plain,) = lrsc.fit(lambda: Wrapped(lambda z: z), data, few, progress=False)
    (run,) = lrsc.fit(lambda: Wrapped(WRAPS[kind]), data, few, progress=False)
    assert torch.equal(run.curves["loss"], plain.curves["loss"])
    one, other = (lrsc.measure(r.model, data) for r in (run, plain))
    assert one.drop_vars("seed", errors="ignore").equals(other)
    x, y = data.test.x[:3], data.test.y[:3]
    for method in (attribution.integrated_gradients, attribution.deeplift):
        assert torch.equal(method(run.model, x, y), method(plain.model, x, y))


@pytest.mark.parametrize(
    "wrap", [lambda z: None, lambda z: {"out": z}, lambda z: (), lambda z: "z"]
)
def test_what_holds_no_logits_is_named(wrap, data):
    for call in (
        lambda net: lrsc.fit(net, data, lrsc.TrainConfig(max_steps=1), progress=False),
        lambda net: lrsc.measure(net, data),
        lambda net: attribution.integrated_gradients(net, data.test.x[:2], data.test.y[:2]),
    ):
        with pytest.raises(ValueError, match="the model returns a .*expected a tensor of logits"):
            call(Wrapped(wrap))


def test_heads_that_only_train_are_refused_before_training():
    y = torch.arange(8) % 4
    part = Split(torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8), y, y)
    data, few = BiasedDataset("mine", part, part, 4), lrsc.TrainConfig(max_steps=1, batch_size=4)

    class Auxiliary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 4), nn.Linear(3, 4)

        def forward(self, x):
            z = x.mean((2, 3))
            return (self.a(z), self.b(z)) if self.training else self.a(z)

    with pytest.raises(ValueError, match="in training the model returns a tuple.*auxiliary"):
        lrsc.fit(Auxiliary, data, few, progress=False)


# -- weights, types, factories ------------------------------------------------------------------

COMPUTED = {
    "weight_norm": (parametrizations.weight_norm, parametrize.remove_parametrizations),
    "spectral_norm": (parametrizations.spectral_norm, parametrize.remove_parametrizations),
    "old weight_norm": (weight_norm, torch.nn.utils.remove_weight_norm),
    "old spectral_norm": (spectral_norm, torch.nn.utils.remove_spectral_norm),
    "prune": (lambda m: prune.l1_unstructured(m, "weight", 0.5), prune.remove),
}


@pytest.mark.filterwarnings("ignore:.*deprecated:FutureWarning")
@pytest.mark.parametrize("where", ["hidden", "classifier"])
@pytest.mark.parametrize("kind", COMPUTED)
def test_computed_weights_work_or_the_call_that_is_named_makes_them(kind, where, data):
    net = Wrapped(lambda z: z)
    index = "body.2" if where == "hidden" else "body.4"
    COMPUTED[kind][0](net.get_submodule(index))
    x, y = data.test.inputs(data.test.x[:8]), data.test.y[:8]
    net(x).sum().backward()  # as after a step of training
    maps = attribution.deeplift(net, x, y), attribution.integrated_gradients(net, x, y)
    assert all(m.isfinite().all() for m in maps)
    calls = (
        lambda: lrsc.measure(net, data), lambda: pruning.prune(net, 0.5),
        lambda: pruning.shrink(net, 0.5, x),
    )  # fmt: skip
    for call in calls:
        if where == "classifier":
            call()
            continue
        with pytest.raises(ValueError, match="computed from other parameters.*call torch") as error:
            call()
    if where == "hidden":
        before = net.eval()(x).detach()
        code = str(error.value).partition("call ")[2].removesuffix(" before")
        eval(code, {"torch": torch, "model": net})
        torch.testing.assert_close(net(x).detach(), before)
        for call in calls:
            call()


def test_an_output_that_is_changed_in_place_has_deeplift():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.act, self.head = nn.Linear(D, D), nn.SiLU(), nn.Linear(D, K)

        def forward(self, x):
            found = self.act(self.a(x))
            found += x
            return self.head(found)

    net, x, y = Block(), torch.randn(5, D), torch.arange(5) % K
    error = attribution.completeness_error(net, x, y, attribution.deeplift(net, x, y))
    assert float(error.max()) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_networks_in_other_precisions_are_measured(dtype, data):
    net = Wrapped(lambda z: z)
    expected = float(lrsc.measure(net, data).test_loss)
    other = copy.deepcopy(net).to(dtype)
    assert float(lrsc.measure(other, data).test_loss) == pytest.approx(expected, rel=0.05)
    a = attribution.integrated_gradients(other, data.test.x[:2], data.test.y[:2])
    assert a.isfinite().all()
    with pytest.raises(ValueError, match=f"weights of {dtype}, expected torch.float32"):
        lrsc.fit(other, data, lrsc.TrainConfig(max_steps=1), progress=False)


def test_a_factory_that_gives_the_same_weights_again_is_an_error(data):
    few = lrsc.TrainConfig(max_steps=2)
    net, trunk = Wrapped(lambda z: z), nn.Linear(D, 16)
    for factory in (lambda: net, lambda: nn.Sequential(trunk, nn.ReLU(), nn.Linear(16, K))):
        with pytest.raises(ValueError, match="a second time; each run needs weights of its own"):
            lrsc.fit(factory, data, few, lrs=[0.01, 0.1], progress=False)
    trunk.requires_grad_(False)  # one that is not trained may be shared
    lrsc.fit(lambda: nn.Sequential(trunk, nn.ReLU(), nn.Linear(16, K)), data, few, lrs=[0.01, 0.1],
             progress=False)  # fmt: skip


@pytest.mark.parametrize("lrs", [[0.1], [0.1, 0.2]])
def test_lazy_modules_train(lrs, data):
    runs = lrsc.fit(
        lambda: nn.Sequential(nn.LazyLinear(20), nn.ReLU(), nn.LazyLinear(K)), data,
        lrsc.TrainConfig(max_steps=2), lrs=lrs, progress=False,
    )  # fmt: skip
    assert [run.steps for run in runs] == [2] * len(lrs)


# -- what is not defined, and what is left alone ------------------------------------------------


@pytest.mark.parametrize("what", ["class", "bias value", "samples"])
def test_measures_that_are_not_defined_are_nan_with_a_note(what, data):
    y, bias = data.test.y, data.test.bias
    keep = {"class": y == 0, "bias value": bias == 0, "samples": torch.arange(200) < K}[what]
    test = data.test.take(keep.nonzero()[:, 0])
    found = lrsc.measure(net_of("plain"), BiasedDataset("mine", data.train, test, K))
    note = f"NaN: the test samples show one {what} only"
    names = {"class": ("csi", "csi_all"), "bias value": ("bsi",), "samples": ()}[what]
    for name in names:
        assert found[name].isnull() and found[name].attrs["note"] == note
    assert found.unbiased_accuracy.notnull() and found.sparsity.notnull()
    if what == "samples":
        assert found.class_separation.isnull()
        assert "no class has two" in found.class_separation.attrs["note"]


def test_unknown_bias_of_test_samples_is_left_out(data):
    hidden = torch.arange(200) % 3 == 0
    bias = torch.where(hidden, -1, data.test.bias)
    test = Split(data.test.x, data.test.y, bias, bias_unknown=-1)
    net = net_of("plain")
    found = lrsc.measure(net, BiasedDataset("mine", data.train, test, K), methods=[])
    shown = data.test.take((~hidden).nonzero()[:, 0])
    z = net.hidden(shown.x).detach()
    predicted = net(shown.x).argmax(1)
    worst = metrics.worst_group_accuracy(predicted, shown.y, shown.bias)
    assert float(found.worst_group_accuracy) == pytest.approx(float(worst))
    assert float(found.bsi_all) == pytest.approx(
        float(metrics.class_selectivity(z, shown.bias).mean()), abs=1e-6
    )


def test_weights_that_pruning_does_not_know_are_counted_and_named():
    net = torchvision.models.VisionTransformer(16, 8, 2, 2, 32, 64, num_classes=K)
    y = torch.arange(8) % K
    part = Split(torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8), y, y)
    found = lrsc.measure(net, BiasedDataset("mine", part, part, K)).prunability
    alone = found.attrs["left_alone"].split(", ")
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in alone
    sizes = dict(net.named_parameters())
    left = sum(sizes[name].numel() for name in alone)
    pruned = sum(p.numel() for p in pruning.prunable(net).values())
    assert found.attrs["pruned_share"] == pytest.approx(pruned / (pruned + left))


class Unused(nn.Module):
    """Two layers and a head; of the others some have weights that are used, though not called."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "projection":
            self.proj = nn.Linear(16, 40)
        if kind == "nested":
            self.aux = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, K))
        self.a, self.b, self.head = nn.Linear(D, 16), nn.Linear(16, 16), nn.Linear(16, K)
        if kind == "functional":
            self.c = nn.Linear(16, 16)
        if kind == "attention":
            self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        z = self.b(self.a(x).relu()).relu()
        if self.kind == "functional":
            z = F.linear(z, self.c.weight, self.c.bias)
        if self.kind == "attention":
            z = self.attend(z[:, None], z[:, None], z[:, None])[0][:, 0]
        return self.head(z)


@pytest.mark.parametrize(
    ("kind", "more", "left"),
    [
        ("plain", set(), set()),
        ("projection", set(), {"proj.weight"}),
        ("nested", set(), {"aux.0.weight", "aux.2.weight"}),
        ("functional", {"c.weight"}, set()),
        ("attention", {"attend.out_proj.weight"}, {"attend.in_proj_weight"}),
    ],
)
def test_layers_that_nothing_uses_are_not_pruned(kind, more, left, data):
    net = Unused(kind)
    models.representation(net, data.test.x)
    assert pruning.prunable(net).keys() == {"a.weight", "b.weight"} | more
    assert pruning.left_alone(net).keys() == left
    plain = Unused("plain" if kind in ("projection", "nested") else kind)
    plain.load_state_dict({n: v for n, v in net.state_dict().items() if n in plain.state_dict()})
    curves = (pruning.pruning_curves([one, copy.deepcopy(one)], data.test, method="magnitude")
              for one in (net, plain))  # fmt: skip
    one, other = curves
    assert torch.equal(one, other)
    assert torch.equal(one[0], one[1])


def test_a_convolution_may_be_the_classifier():
    y = torch.arange(60) % K
    x = torch.randn(60, 3, 8, 8)
    part = Split(x, y, y)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 12, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Conv2d(12, K, 1), nn.Flatten(),
    )  # fmt: skip
    found = lrsc.measure(net, BiasedDataset("mine", part, part, K))
    named = lrsc.measure(net, BiasedDataset("mine", part, part, K), layer="5")
    assert found.drop_attrs().identical(named.drop_attrs())
    assert torch.equal(models.representation(net, x), net[:5](x).flatten(1))


def test_logits_that_are_not_finite_are_named_as_such(data):
    net = net_of("plain")
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    with pytest.raises(ValueError, match="returns NaN or infinity"):
        models.find(net, data.test.x[:8])


class Heads(nn.Module):
    """Of two heads one begins at zero: training turns it into the one that matters."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.fc, self.late = nn.Linear(D, 16), nn.Linear(16, K), nn.Linear(16, K)
        nn.init.zeros_(self.late.weight), nn.init.zeros_(self.late.bias)

    def forward(self, x):
        z = self.a(x).relu()
        return self.fc(z) + self.late(z)


def test_what_was_seen_before_a_training_is_looked_at_again(data):
    net = Heads()
    models.representation(net, data.test.x)
    assert models.classifier_name(net) == "fc"
    config = lrsc.TrainConfig(max_steps=3, batch_size=50, lr=0.1, stop_at_accuracy=None)
    lrsc.fit(net, data, config, progress=False)
    with pytest.raises(ValueError, match="classifier"):
        pruning.prune(net, 0.5)
    plain = net_of("plain")
    models.representation(plain, data.test.x)
    lrsc.fit(plain, data, config, progress=False)
    assert pruning.prune(plain, 0.5) is not plain


def test_a_forward_of_an_instance_s_own_is_computed(data):
    def net() -> nn.Sequential:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return nn.Sequential(nn.Linear(D, 16), nn.ReLU(), nn.Linear(16, K))

    plain, own = net(), net()
    assert models.linear_layers(plain)
    own[1].forward = torch.tanh
    assert models.linear_layers(own) is None
    written = nn.Sequential(plain[0], nn.Tanh(), plain[2])
    a, b = (pruning.pruning_curve(each, data.test, method="magnitude") for each in (own, written))
    assert torch.equal(a, b)
    hook = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert models.linear_layers(plain) is None
    finally:
        hook.remove()
