"""Any network is called alike: one that works in place, looks at strides, or cannot be copied."""

import threading

import pytest
import torch
from torch import nn

import lrsc
from lrsc import attribution, models, pruning


class InPlace(nn.Module):
    """Standardises what it is given, in place or not."""

    def __init__(self, inside: bool) -> None:
        super().__init__()
        self.inside, self.a, self.b = inside, nn.Linear(192, 12), nn.Linear(12, 12)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        x = x.sub_(0.5).mul_(2.0) if self.inside else (x - 0.5) * 2.0
        return self.head(self.b(self.a(x.flatten(1)).relu()).relu())


def pair() -> tuple[nn.Module, nn.Module]:
    one, other = InPlace(True), InPlace(False)
    other.load_state_dict(one.state_dict())
    return one.eval(), other.eval()


@pytest.mark.parametrize(
    "look",
    [
        models.evaluate,
        models.representation,
        lambda net, x: attribution.integrated_gradients(net, x, torch.zeros(len(x)).long()),
        lambda net, x: attribution.deeplift(net, x, torch.zeros(len(x)).long()),
        lambda net, x: attribution.completeness_error(net, x, torch.zeros(len(x)).long(), x),
        lambda net, x: pruning.shrink(net, 0.5, x, runs=1).model(x.clone()),
    ],
)
def test_what_works_in_place_gives_the_same_and_leaves_the_inputs(look, own_dataset):
    x = own_dataset.test.inputs(own_dataset.test.x[:12])
    before = x.clone()
    found, expected = (look(net, x) for net in pair())
    assert torch.allclose(found, expected, 1e-4, 1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("settings", [{}, {"sam_rho": 0.1}, {"accumulation": 2}])
def test_what_works_in_place_trains_the_same(settings, own_dataset):
    config = lrsc.TrainConfig(max_steps=4, batch_size=20, stop_at_accuracy=None, **settings)
    one, other = (
        lrsc.fit(net, own_dataset, config, progress=False)[0].curves["loss"] for net in pair()
    )
    assert torch.equal(one, other)


class Strided(nn.Module):
    """Reads its maps as if their channels came first, whatever their strides are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 8, 3), nn.Linear(128, 3)

    def forward(self, x):
        h = self.b(self.a(x).relu()).relu()
        return self.head(torch.as_strided(h, (len(h), 128), (128, 1)))


def test_what_looks_at_strides_keeps_its_layout(own_dataset):
    net = Strided()
    x = own_dataset.test.inputs(own_dataset.test.x[:2])
    assert not models.same_with_channels_last(net, x)
    assert models.same_with_channels_last(nn.Sequential(net.a, nn.ReLU(), nn.Flatten()), x)
    config = lrsc.TrainConfig(max_steps=30, batch_size=20, lr=0.05, stop_at_accuracy=None)
    trained = lrsc.fit(net, own_dataset, config, progress=False)[0].model
    plain = Strided()
    plain.load_state_dict(trained.state_dict())
    test = own_dataset.test
    expected = (plain(test.inputs(test.x)).argmax(1) == test.y).double().mean()
    assert pruning.pruning_curve(trained, test, [0.0])[0] == expected
    assert (models.predict(trained, test).argmax(1) == test.y).double().mean() == expected


def test_what_cannot_be_copied_is_refused_by_name(own_dataset):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3))
    net.guard = threading.Lock()
    for use in (lambda: lrsc.measure(net, own_dataset), lambda: lrsc.fit(net, own_dataset)):
        with pytest.raises(ValueError, match=r"cannot be copied \(.*lock.*__deepcopy__"):
            use()


def nets_of(kind: str) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 3))
    if kind == "dense":
        return net
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["dense", "images"])
@pytest.mark.parametrize("layer", [None, "given"])
def test_a_network_that_diverged_has_no_measures(kind, layer, own_dataset):
    net = nets_of(kind)
    layer = layer and str(len(net) - 1)
    with torch.no_grad():
        net[-1].bias[0] = torch.nan
    x = own_dataset.test.inputs(own_dataset.test.x[:4])
    for use in (
        lambda: lrsc.measure(net, own_dataset, layer=layer),
        lambda: pruning.prunability(net, own_dataset.test, layer=layer),
        lambda: attribution.integrated_gradients(net, x, torch.zeros(4).long()),
        lambda: attribution.deeplift(net, x, torch.zeros(4).long()),
        lambda: lrsc.training.soups.uniform_soup([net, net], own_dataset.train),
    ):
        with pytest.raises(ValueError, match="NaN"):
            use()
