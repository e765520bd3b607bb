"""Models: layers, initialisation, representation, pretrained weights, errors."""

import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lrsc import RunConfig, models
from lrsc.errors import DataMissing
from lrsc.models import weights
from lrsc.runs import load_checkpoint

NAMES = ["cnn", "fcn", "resnet18", "resnet50", "swin_t", "wide_resnet101_2"]
PUBLISHED = ["resnet18", "resnet50", "swin_t", "wide_resnet101_2"]
WIDTHS = {
    "cnn": 512, "fcn": 1024, "resnet18": 512, "resnet50": 2048, "swin_t": 768,
    "wide_resnet101_2": 2048,
}  # fmt: skip
FILTERS = [  # VGG11's convolutions, written out: outputs and inputs
    (64, 3), (128, 64), (256, 128), (256, 256), (512, 256), (512, 512), (512, 512), (512, 512),
]  # fmt: skip


@pytest.fixture(scope="module")
def nets():
    """Every model, once, for images of 3 x 32 x 32."""
    torch.manual_seed(0)
    return {name: models.build(name, (3, 32, 32), 10) for name in NAMES}


# -- all models -------------------------------------------------------------------------------


def test_every_model_is_listed():
    assert sorted(models.BUILDERS) == NAMES
    assert dict.fromkeys(NAMES, 1) == models.VERSIONS
    with pytest.raises(ValueError, match=f"'resnet50'. Valid: {', '.join(NAMES)}"):
        models.build("resnet_50", (3, 28, 28), 10)


@pytest.mark.parametrize("name", NAMES)
def test_logits_gradients_and_the_input_of_the_last_linear_layer(nets, name):
    net = nets[name].train()
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    z, logits = models.penultimate(net, x)
    assert net.training  # left as found
    last = next(m for m in reversed(list(net.modules())) if isinstance(m, nn.Linear))
    assert z.shape == (1, WIDTHS[name]) and logits.shape == (1, 10)
    torch.testing.assert_close(last(z), logits)
    if name != "swin_t":  # which ends on a layer norm
        assert (z >= 0).all() and (z > 0).any()  # after the activation
    loss = F.cross_entropy(net.eval()(x), torch.tensor([3]))
    parameters = list(net.parameters())
    if name == "wide_resnet101_2":  # half a GB of gradients; the first passed through all layers
        parameters = [parameters[0], last.weight]
    gradients = torch.autograd.grad(loss, parameters)
    assert all(bool(g.isfinite().all()) for g in gradients) and bool(gradients[0].any())


@pytest.mark.parametrize("name", PUBLISHED)
def test_number_of_parameters_is_the_published_one_but_for_the_head(name):
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]
    with torch.device("meta"):
        net = models.build(name, (3, 28, 28), 10)
    assert sum(p.numel() for p in net.parameters()) == published - 990 * (WIDTHS[name] + 1)


@pytest.mark.parametrize("name", ["resnet18", "swin_t"])
def test_weights_are_torchvisions_of_the_same_seed(name):
    torch.manual_seed(2)
    ours = models.build(name, (3, 28, 28), 7)
    torch.manual_seed(2)
    theirs = getattr(torchvision.models, name)(weights=None, num_classes=7)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for own, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(own, expected)
    x = torch.randn(2, 3, 28, 28)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize(
    ("name", "stride", "kernel"), [("cnn", 1, 3), ("resnet18", 2, 7), ("swin_t", 4, 4)]
)
def test_any_number_of_channels(name, stride, kernel, channels):
    with torch.device("meta"):
        net = models.build(name, (channels, 28, 28), 5)
        assert models.evaluate(net, torch.zeros(2, channels, 28, 28)).shape == (2, 5)
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    assert (first.in_channels, first.stride[0], first.kernel_size[0]) == (channels, stride, kernel)


def test_a_first_convolution_for_other_channels_is_drawn_as_torchvision_draws_the_rest():
    torch.manual_seed(0)
    weight = models.build("resnet18", (4, 28, 28), 5).conv1.weight.detach()
    std = (2 / (49 * 64)) ** 0.5  # He et al. 2015, fan out
    assert float(weight.std()) == pytest.approx(std, rel=0.03)
    assert float(weight.abs().max()) > 3 * std


# -- fcn --------------------------------------------------------------------------------------


def test_fcn_has_no_biases_and_torchs_default_initialisation():
    torch.manual_seed(0)
    net = models.build("fcn", (3, 28, 28), 10)
    layers = [m for m in net if isinstance(m, nn.Linear)]
    assert [tuple(m.weight.shape) for m in layers] == [(1024, 2352), (1024, 1024), (10, 1024)]
    assert all(m.bias is None for m in layers)
    torch.manual_seed(0)
    expected = [nn.Linear(a, b, bias=False) for a, b in ((2352, 1024), (1024, 1024), (1024, 10))]
    for layer, same in zip(layers, expected, strict=True):
        assert torch.equal(layer.weight, same.weight)


def test_widths_by_option_and_by_data_set():
    net = models.build("fcn", (5,), 2, hidden=(7, 8, 9))
    assert [tuple(p.shape) for p in net.parameters()] == [(7, 5), (8, 7), (9, 8), (2, 9)]
    assert models.options_for("fcn", "parity") == {"hidden": (200, 200)}
    assert models.options_for("fcn", "moon_star") == {"hidden": (200, 200)}
    assert models.options_for("fcn", "mnist_cifar") == {"hidden": (2048, 2048)}
    assert models.options_for("fcn", "corrupted_cifar10") == {"hidden": (2048, 2048)}
    for name, dataset in [("fcn", "colored_mnist"), ("fcn", "own"), ("resnet18", "parity")]:
        assert models.options_for(name, dataset) == {}


def test_a_models_weights_follow_the_callers_seed():
    torch.manual_seed(1)
    one = models.build("fcn", (4,), 2, hidden=(3,))
    torch.manual_seed(1)
    two = models.build("fcn", (4,), 2, hidden=(3,))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


# -- cnn --------------------------------------------------------------------------------------


def test_cnn_is_vgg11s_convolutions_and_a_linear_layer_without_biases(nets):
    shapes = [tuple(p.shape) for p in nets["cnn"].parameters()]
    assert shapes == [(c_out, c_in, 3, 3) for c_out, c_in in FILTERS] + [(10, 512)]
    weights = 9 * sum(a * b for a, b in FILTERS) + 10 * 512
    assert sum(p.numel() for p in nets["cnn"].parameters()) == weights == 9_222_848
    assert not list(nets["cnn"].buffers())  # no batch norm


def test_cnns_convolutions_are_drawn_from_a_normal_of_variance_2_over_9_c_out():
    torch.manual_seed(0)
    net = models.build("cnn", (3, 32, 32), 10)
    for (c_out, c_in), weight in zip(FILTERS, net.parameters(), strict=False):
        std, n = (2 / (9 * c_out)) ** 0.5, 9 * c_out * c_in
        drawn = weight.detach() / std
        assert float(drawn.std()) == pytest.approx(1, abs=4 / (2 * n) ** 0.5)
        assert float(drawn.mean()) == pytest.approx(0, abs=4 / n**0.5)
        assert float(drawn.pow(4).mean()) == pytest.approx(3, abs=5 * (96 / n) ** 0.5)


@pytest.mark.parametrize(
    ("size", "pools", "map_size"),
    [
        ((16, 16), 4, (1, 1)), ((28, 28), 4, (1, 1)), ((28, 56), 4, (1, 3)),
        ((31, 31), 4, (1, 1)), ((32, 32), 5, (1, 1)), ((64, 32), 5, (2, 1)),
        ((64, 64), 5, (2, 2)), ((96, 96), 5, (3, 3)), ((224, 224), 5, (7, 7)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_the_first_pool_is_left_out_below_32_pixels(channels, size, pools, map_size):
    seen = []
    with torch.device("meta"):
        net = models.build("cnn", (channels, *size), 10)
        average = next(m for m in net if isinstance(m, nn.AdaptiveAvgPool2d))
        average.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
        assert net(torch.zeros(2, channels, *size)).shape == (2, 10)
    assert sum(isinstance(m, nn.MaxPool2d) for m in net) == pools
    assert seen == [(2, 512, *map_size)]


@pytest.mark.parametrize("size", [(28, 28), (64, 32)])
def test_cnn_is_its_layers_written_out(size):
    net = models.build("cnn", (3, *size), 10).double()
    *filters, head = net.parameters()
    x = z = torch.randn(2, 3, *size, dtype=torch.float64)
    for place, weight in enumerate(filters):
        z = F.conv2d(z, weight, padding=1).clamp_min(0)
        if place in (1, 3, 5, 7) or (place == 0 and min(size) >= 32):
            z = F.max_pool2d(z, 2, 2)
    found, logits = models.penultimate(net, x)
    torch.testing.assert_close(found, z.mean((2, 3)))
    torch.testing.assert_close(logits, z.mean((2, 3)) @ head.T)


# -- the layer named --------------------------------------------------------------------------


class TwoHeads(nn.Module):
    """A user's model: its classifier is not the last linear layer; one layer is never called."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6))
        self.classifier = nn.Linear(6, 10)
        self.tokens = nn.Linear(4, 2)
        self.unused = nn.Linear(6, 2)
        self.alias = self.classifier

    def forward(self, x):
        self.tokens(self.body[0](x).flatten(2).transpose(1, 2))
        return self.classifier(input=F.relu(self.body(x)))


def test_the_input_of_the_layer_named_is_the_representation():
    net, x = TwoHeads(), torch.randn(5, 3, 8, 8)
    z, logits = models.penultimate(net, x, layer="classifier")
    assert torch.equal(z, F.relu(net.body(x))) and torch.equal(logits, net(x))
    assert torch.equal(models.representation(net, x, "alias"), z)
    assert torch.equal(models.representation(net, x, "body.3"), net.body[:3](x))
    tokens = net.body[0](x).flatten(2).transpose(1, 2)  # 5 x 36 x 4
    assert torch.equal(models.representation(net, x, "tokens"), tokens.flatten(1))
    assert models.classifier(net, "body.3") is net.body[3]
    assert models.classifier(net, x=x) is models.classifier(net) is net.classifier
    assert torch.equal(models.representation(net, x), z)


def test_a_lone_linear_layer_can_be_named_too():
    net, x = nn.Linear(4, 2), torch.randn(3, 4)
    assert models.classifier(net) is models.classifier(net, "") is net
    assert torch.equal(models.representation(net, x), x)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("clasifier", "unknown layer.*Did you mean .classifier.*: alias, body.0, .*unused"),
        ("body.1", "layer 'body.1' is a .*, expected a linear layer, a convolution or.*: body.0, "),
        ("body", "layer 'body' is a Sequential"),
        ("unused", "layer 'unused' is not called"),
    ],
)  # fmt: skip
def test_a_layer_that_cannot_be_looked_at_is_named(layer, words):
    with pytest.raises(ValueError, match=words):
        models.representation(TwoHeads(), torch.randn(2, 3, 8, 8), layer)


def test_a_model_without_a_linear_layer_is_refused():
    with pytest.raises(ValueError, match="one layer must return the logits, no layer does"):
        models.representation(nn.Conv2d(3, 3, 3), torch.zeros(1, 3, 8, 8))


def test_no_hook_is_left_behind_even_after_an_error():
    net = TwoHeads()
    models.representation(net, torch.randn(2, 3, 8, 8), "classifier")
    with pytest.raises(RuntimeError):
        models.representation(net, torch.randn(2, 1, 8, 8), "classifier")
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_representation_leaves_batch_norm_alone():
    net = models.build("resnet18", (3, 28, 28), 10).train()
    before = net.bn1.running_mean.clone()
    models.representation(net, torch.randn(4, 3, 28, 28))
    assert torch.equal(net.bn1.running_mean, before) and net.training


# -- pretrained weights -----------------------------------------------------------------------


class Small(nn.Module):
    """Stands for a torchvision model where only the file matters."""

    def __init__(self, channels=3, classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, classes)


def small(seed: int = 0, **options) -> Small:
    torch.manual_seed(seed)
    net = Small(**options)
    nn.init.normal_(net.bn1.running_mean)
    return net


def assert_same(found: dict, expected: dict):
    assert found.keys() >= expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def publish(state: dict, folder: Path) -> Path:
    """The file of a state_dict, under a name that holds its SHA-256 as torchvision's do."""
    torch.save(state, folder / "new")
    checksum = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    return (folder / "new").rename(folder / f"resnet18-{checksum[:8]}.pth")


@pytest.fixture
def places(tmp_path, monkeypatch):
    """torch.hub's folder and the data root's, both empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("LRSC_DATA", str(tmp_path / "data"))
    found = [tmp_path / "torch" / "hub" / "checkpoints", tmp_path / "data" / "weights"]
    for folder in found:
        folder.mkdir(parents=True)
    return found


@pytest.fixture
def published(places, monkeypatch):
    """A file in torch.hub's folder that takes the place of torchvision's: 1000 classes."""
    path = publish(small(seed=9, classes=1000).state_dict(), places[0])
    monkeypatch.setattr(weights, "addresses", lambda name: [f"https://example.org/{path.name}"])
    return path


def test_a_resnet18_with_imagenet_weights_has_a_random_head(places, monkeypatch):
    torch.manual_seed(9)
    whole = torchvision.models.resnet18(weights=None).state_dict()
    file = publish(whole, places[1])
    monkeypatch.setattr(weights, "addresses", lambda name: [f"https://example.org/{file.name}"])
    build = functools.partial(models.build, "resnet18", (3, 28, 28))
    torch.manual_seed(0)
    head = {n: v for n, v in build(10).state_dict().items() if n.startswith("fc.")}
    torch.manual_seed(0)
    found = build(10, weights="imagenet").state_dict()
    assert head.keys() == {"fc.weight", "fc.bias"} and found.keys() == whole.keys()
    assert_same(found, whole | head)
    assert not torch.equal(build(10, weights="imagenet").fc.weight, found["fc.weight"])
    assert_same(build(1000, weights="imagenet").state_dict(), whole)


def test_weights_of_ones_own_are_given_back_whole(tmp_path):
    own = models.build("swin_t", (1, 28, 28), 7).state_dict()
    torch.save(own, tmp_path / "own.pt")
    net = models.build("swin_t", (1, 28, 28), 7, weights=str(tmp_path / "own.pt"))
    assert_same(net.state_dict(), own)


@pytest.mark.parametrize("place", [0, 1])
def test_both_folders_are_looked_into(published, places, place):
    if place:
        published.rename(places[1] / published.name)
    net = small(classes=10)
    weights.load(net, "resnet18", "imagenet")
    expected, head = small(seed=9, classes=1000).state_dict(), small(classes=10).fc
    assert_same(
        net.state_dict(), expected | {"fc.weight": head.weight.data, "fc.bias": head.bias.data}
    )


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("resnet18", "resnet18-f37072fd.pth"),
        ("resnet50", "resnet50-0676ba61.pth"),
        ("wide_resnet101_2", "wide_resnet101_2-32ee1156.pth"),
        ("swin_t", "swin_t-704ceda3.pth"),
    ],
)
def test_absent_weights_are_named_and_not_downloaded(name, file, places, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a connection is opened"))
    with torch.device("meta"), pytest.raises(DataMissing) as caught:
        models.build(name, (3, 28, 28), 10, weights="imagenet")
    for words in (
        file,
        f"SHA-256 {file[-12:-4]}...",
        f"https://download.pytorch.org/models/{file}",
        *map(str, places),
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize("given", ["imagenet", "path"])
def test_a_published_file_that_is_not_what_its_name_says_is_refused(published, given):
    altered = bytearray(published.read_bytes())
    altered[len(altered) // 2] ^= 1
    published.write_bytes(altered)
    with pytest.raises(ValueError, match=f"checksum of {published} is wrong.*{published.stem[9:]}"):
        weights.load(small(), "resnet18", "imagenet" if given == "imagenet" else published)


def test_files_from_before_batch_norm_counted_its_batches(tmp_path):
    old = {n: v for n, v in small(seed=5).state_dict().items() if "num_batches" not in n}
    torch.save(old, tmp_path / "old.pt")
    net = small()
    weights.load(net, "resnet18", tmp_path / "old.pt")
    assert_same(net.state_dict(), old)


STATE = small().state_dict()
SHAPES = r"model: 1 of another shape \('conv1.weight' \(8, 1, 3, 3\) for \(8, 3, 3, 3\)\)$"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (small(channels=1).state_dict(), SHAPES),
        ({n: v for n, v in STATE.items() if n != "bn1.bias"}, r"model: 1 missing \('bn1.bias'\)$"),
        (
            {n: v for n, v in STATE.items() if "fc" not in n},
            r"2 missing \('fc.weight', 'fc.bias'\)",
        ),
        (STATE | {"x.y": torch.ones(1)}, r"model: 1 unexpected \('x.y'\)$"),
        (STATE | {"fc.weight": torch.ones(9, 5)}, r"'fc.weight' \(9, 5\) for \(10, 8\)"),
        ({"epoch": 3, "net_g": STATE}, r"must hold a state_dict.*net; found \['epoch', 'net_g'\]"),
        (
            {f"a.{n}": v for n, v in STATE.items()},
            r"7 missing \('conv1.weight', .*'bn1.weight', .*"
            r"\.\.\.\), 8 unexpected \('a.conv1.weight', 'a.bn1.weight', \.\.\.\)$",
        ),
        ({"state_dict": {"model.a": torch.ones(1)}}, r"unexpected \('a'\)$"),
        ({1: torch.ones(1)}, r"must hold a state_dict.*found \[1\]"),
        ([1, 2], "must hold a state_dict.*found list"),
        (nn.Linear(2, 2), "cannot be read"),
    ],
)
def test_weights_of_another_model_are_refused(tmp_path, content, words):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=words):
        weights.load(small(), "resnet18", tmp_path / "other.pt")


@given(
    prefixes=st.lists(st.sampled_from(weights.PREFIXES), max_size=3),
    wrappers=st.lists(st.sampled_from(weights.WRAPPERS), max_size=3),
    beside=st.sampled_from([{}, {"epoch": 3}, {"optimizer": {"state": {}}, "loss": 0.5}]),
)
def test_wrapped_weights_are_unwrapped(prefixes, wrappers, beside):
    content: dict = {"".join(prefixes) + n: v for n, v in STATE.items()}
    for name in wrappers:
        content = {**beside, name: content}
    assert_same(weights.unwrapped(content, STATE), STATE)


@pytest.mark.parametrize("prefix", weights.PREFIXES)
def test_prefixes_that_are_the_models_own_stay(prefix):
    own = {f"{prefix}{n}": v for n, v in STATE.items()}
    assert weights.unwrapped(own, own) == own
    twice = {f"{prefix}{n}": v for n, v in own.items()}
    assert weights.unwrapped(twice, own) == twice  # it is the model's own: nobody knows whose
    some = own | STATE
    assert weights.unwrapped(some, STATE) == some


def test_wrapped_weights_load_wherever_weights_are_read(tmp_path):
    config = RunConfig("parity", "fcn")
    net = models.build("fcn", (43,), 2, **models.options_for("fcn", "parity"))
    for content in (
        nn.DataParallel(net).state_dict(), torch.compile(net).state_dict(),
        torch.optim.swa_utils.AveragedModel(net).state_dict(),
        {"state_dict": {f"model.{n}": v for n, v in net.state_dict().items()}, "epoch": 3},
    ):  # fmt: skip
        torch.save(content, tmp_path / "own.pt")
        found, _ = load_checkpoint(tmp_path / "own.pt", config)
        assert_same(found.state_dict(), net.state_dict())
    whole = models.build("resnet18", (3, 28, 28), 7).state_dict()
    torch.save({"net": {f"module.{n}": v for n, v in whole.items()}}, tmp_path / "own.pt")
    assert_same(models.build("resnet18", (3, 28, 28), 7, weights=tmp_path / "own.pt").state_dict(),
                whole)  # fmt: skip
    with pytest.raises(ValueError, match="missing.*unexpected") as caught:
        load_checkpoint(tmp_path / "own.pt", config)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


class _Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_no_code_in_a_weights_file_is_run(tmp_path):
    torch.save({"fc.weight": _Runs(tmp_path / "run")}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="bad.pt cannot be read"):
        weights.load(small(), "resnet18", tmp_path / "bad.pt")
    assert not (tmp_path / "run").exists()


def test_damaged_absent_and_senseless_weights(tmp_path):
    (tmp_path / "damaged.pt").write_bytes(b"no weights" * 100)
    with pytest.raises(ValueError, match="damaged.pt cannot be read"):
        weights.load(small(), "resnet18", tmp_path / "damaged.pt")
    with pytest.raises(DataMissing, match="weights='imagnet' is not a file.*'imagenet'"):
        weights.load(small(), "resnet18", "imagnet")
    with pytest.raises(ValueError, match="weights must be None, 'imagenet' or the path.*found 3"):
        weights.load(small(), "resnet18", 3)
    with torch.device("meta"), pytest.raises(ValueError, match="3 channels, found 1"):
        models.build("swin_t", (1, 28, 28), 10, weights="imagenet")


# -- small maps -------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"kernel_size": 3, "padding": 1}, [(1, 1), (2, 2), (1, 2), (2, 3), (5, 4)]),
        ({"kernel_size": 3, "padding": 1, "stride": 2}, [(1, 1), (2, 2), (2, 1), (3, 3), (4, 4)]),
        ({"kernel_size": 3}, [(3, 3), (4, 3)]),
        ({"kernel_size": 1}, [(1, 1), (2, 2)]),
        ({"kernel_size": 1, "stride": 2}, [(1, 1), (2, 2)]),
        ({"kernel_size": (5, 3), "padding": (2, 0)}, [(1, 3), (3, 3), (3, 4), (6, 6)]),
        ({"kernel_size": 3, "padding": 2, "dilation": 2}, [(1, 1), (2, 2), (5, 5)]),
        ({"kernel_size": 3, "padding": "same"}, [(1, 1), (2, 2), (4, 4)]),
        ({"kernel_size": 3, "padding": 1, "padding_mode": "circular"}, [(2, 2), (4, 4)]),
        ({"kernel_size": 3, "padding": 1, "groups": 2}, [(2, 2), (4, 4)]),
    ],
)
def test_small_map_convolution_is_torchs_with_its_gradients(options, sizes, bias):
    ours = models.SmallMapConv2d(4, 6, bias=bias, **options).double()
    torchs = nn.Conv2d(4, 6, bias=bias, **options).double()
    torchs.load_state_dict(ours.state_dict())
    for size in sizes:
        x = torch.randn(7, 4, *size, dtype=torch.float64)
        found, expected = ours(x), torchs(x)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        out = torch.randn_like(found)
        for left, right in zip(
            torch.autograd.grad(found, list(ours.parameters()), out),
            torch.autograd.grad(expected, list(torchs.parameters()), out),
            strict=True,
        ):
            torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


# -- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shape", "classes", "options", "words"),
    [
        ("resnet81", (3, 28, 28), 10, {}, "'resnet18'"),
        ("fcn", (3, 28, 28), 10, {"widths": (3,)}, "'widths'.*hidden"),
        ("fcn", (3, 28, 28), 1, {}, "n_classes"),
        ("fcn", (), 10, {}, "input_shape"),
        ("fcn", (3, 0, 28), 10, {}, "input_shape"),
        ("fcn", (3, 28, 28), 10, {"hidden": ()}, "hidden"),
        ("fcn", (3, 28, 28), 10, {"hidden": (0,)}, "hidden"),
        ("resnet18", (20,), 2, {}, "images"),
        ("swin_t", (20,), 2, {}, "swin_t takes images"),
        ("cnn", (28, 28), 2, {}, r"cnn takes images \(C, H, W\), found shape \(28, 28\)"),
        ("cnn", (3, 15, 64), 10, {}, "at least 16 x 16 pixels, found 15 x 64"),
        ("swin_t", (3, 32, 3), 10, {}, "at least 4 x 4 pixels, found 32 x 3"),
        ("cnn", (3, 28, 28), 10, {"weights": None}, "option of model 'cnn' 'weights'.*none"),
        ("resnet50", (3, 28, 28), 10, {"weight": None}, "Did you mean 'weights'"),
    ],
)
def test_errors_name_the_argument(name, shape, classes, options, words):
    with pytest.raises(ValueError, match=words):
        models.build(name, shape, classes, **options)


def test_threads_that_look_at_one_network_wait_for_one_another():
    net = models.build("resnet18", (3, 16, 16), 10)
    inputs = torch.randn(6, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = [models.representation(net, x) for x in inputs]
    net.train()
    with ThreadPoolExecutor(6) as pool:
        found = [*pool.map(lambda x: models.representation(net, x), inputs)]
        evaluated = [*pool.map(lambda x: models.evaluate(net, x), inputs)]
    assert all(map(torch.equal, found, expected)) and net.training
    assert all(map(torch.equal, evaluated, [models.evaluate(net, x) for x in inputs]))
