"""Soups beside their networks: from small runs, written by the command, shown, and claim C14."""

import numpy as np
import pytest
import torch

from lrsc import cli, experiments, measures, pages, results, sweep
from lrsc.claims import settings
from lrsc.claims.evidence import Open
from lrsc.runs import load_checkpoint
from lrsc.studies import soups

LRS = (0.05, 0.2)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Two LRs and two seeds of a small network on Parity."""
    root = tmp_path_factory.mktemp("results")
    sweep.run(
        [experiments.run_config("parity", "fcn", lr, s, "quick", 1)
         for lr in LRS for s in (0, 1)],
        root=root,
    )  # fmt: skip
    return root


@pytest.fixture(scope="module")
def compared(done):
    return soups.compare("parity", "fcn", LRS[::-1], "quick", root=done)


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A folder in place of book/results, and a results folder without any."""
    monkeypatch.setattr("lrsc.results.path.shipped_folder", lambda: tmp_path)
    monkeypatch.setattr("lrsc.results.path.default_root", lambda: tmp_path / "local")
    return tmp_path


def test_a_soup_a_seed_beside_its_networks_as_they_were_measured(done, compared):
    assert compared["kind"].values.tolist() == ["network", "network", "soup"] * 2
    assert compared["seed"].values.tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_array_equal(compared["lr"].values[:3], [*LRS, np.nan])
    runs = {run.attrs["run_id"]: run for run in results.local_runs(done)}
    for i in (0, 1, 3, 4):
        for name in ("unbiased_accuracy", "prunability_magnitude"):
            run = runs[str(compared["run_id"].values[i])]
            assert float(compared[name][i]) == float(run[name])
    # the soup of seed 1, with weights averaged by hand
    states = [torch.load(results.weights_path(str(compared["run_id"].values[i]), done))
              for i in (3, 4)]  # fmt: skip
    config = experiments.run_config("parity", "fcn", LRS[0], 1, "quick", 1)
    net, data = load_checkpoint(
        results.weights_path(str(compared["run_id"].values[3]), done), config
    )
    net.load_state_dict({k: (states[0][k] + states[1][k]) / 2 for k in states[0]})
    found = measures.measure(net, data)
    for name in ("unbiased_accuracy", "prunability", "csi"):
        assert float(compared[name][5]) == pytest.approx(float(found[name]), abs=0.01), name
    assert compared["prunability"].attrs["units"] == "1"


def test_gains_are_over_the_mean_of_a_seeds_networks(compared):
    values = compared["unbiased_accuracy"].values
    expected = [values[2] - values[:2].mean(), values[5] - values[3:5].mean()]
    np.testing.assert_allclose(soups.gains(compared, "unbiased_accuracy"), expected)


def test_what_is_missing_is_named(done):
    with pytest.raises(ValueError, match="at least two different"):
        soups.compare("parity", "fcn", (0.05, 0.05), "quick", root=done)
    with pytest.raises(ValueError, match="no run of 'parity' and 'fcn' at LR 0.4"):
        soups.compare("parity", "fcn", (0.05, 0.4), "quick", root=done)


def test_seeds_without_all_lrs_are_left_out(done, tmp_path):
    here = tmp_path / "runs"
    here.mkdir()
    for path in (done / "runs").glob("*.nc"):
        found = results.load(path)
        if '"lr":0.2' in found.attrs["config"].replace(" ", "") and found.attrs["run_id"]:
            found.attrs["status"] = "diverged"
        results.save(found, here / path.name)
    with pytest.raises(ValueError, match="no seed of 'parity' and 'fcn' has a run that"):
        soups.compare("parity", "fcn", LRS, "quick", root=tmp_path)


def test_the_command_writes_to_the_results_folder(done, book, compared, capsys):
    arguments = ["--dataset", "parity", "--model", "fcn", "--profile", "quick"]
    assert cli.main(
        ["results", "soup", *arguments, "--lrs", "0.05,0.2", "--results", str(done)]
    ) == 0  # fmt: skip
    path = results.derived_path("soup_parity_fcn", "quick", done)
    assert str(path) in capsys.readouterr().out and not list(book.glob("*.nc"))
    np.testing.assert_array_equal(results.load(path)["csi"].values, compared["csi"].values)


@pytest.mark.parametrize("ship", [True, False])
def test_the_section_shows_what_ships_and_what_is_local(ship, compared, book, displayed_texts):
    made = evidence(compared, 0.3, 0.1)
    results.write_derived(made, "soup_parity_fcn", "desk", ship=ship)
    pages.show_soups()
    title, images, caption, table, shows = displayed_texts
    assert title == "**Parity, FCN**" and images.count("<img ") == 1
    assert "Soup from 2" in images and "`mnist`" in caption and made.attrs["made_by"] in caption
    assert ("(../book/results/soup_parity" in caption) == ship
    accuracy = 100 * made["unbiased_accuracy"].values[[2, 5]].mean()
    assert f"soup</th><td>{accuracy:.1f}" in table and f"accuracy {accuracy:.1f} %" in shows


def test_without_a_soup_the_section_says_how_to_make_one(book, displayed_texts):
    (book / "soup_x_y.nc").write_bytes(b"no netCDF")
    pages.show_soups()
    assert "`book/results/soup_x_y.nc` is damaged" in displayed_texts[0]
    (book / "soup_x_y.nc").unlink()
    pages.show_soups()
    assert "lrsc results soup --dataset" in displayed_texts[1]


def evidence(compared, accuracy: float, prunability: float):
    """A comparison on real data in which soups gain so much over their networks."""
    rise = np.where(compared["kind"].values == "soup", 1.0, 0.0) + 0.001 * compared["seed"].values
    n = compared.sizes["run"]
    texts = {"profile": "desk", "source_id": "mnist"}
    return compared.assign(
        unbiased_accuracy=("run", 0.5 + accuracy * rise),
        prunability=("run", 0.5 + prunability * rise),
        activation_compressibility=("run", 0.5 + prunability * rise),
    ).assign_coords({k: ("run", np.full(n, v, object)) for k, v in texts.items()})


@pytest.mark.parametrize(("accuracy", "prunability"), [(0.3, 0.1), (0.1, 0.3)])
def test_c14_compares_the_gains(compared, book, accuracy, prunability):
    made = evidence(compared, accuracy, prunability)
    made["unbiased_accuracy"][2] += 0.001  # so that seeds differ
    results.save(made, book / "soup_a_b.nc")
    found = settings.soups(Open())
    assert found["effect"] == pytest.approx(accuracy - prunability, abs=0.01)
    assert found["rows"][0]["profile"] == "desk" and len(found["rows"]) == 1
    assert found["up"] == found["down"] == 1  # two seeds decide nothing


def test_stand_ins_quick_runs_and_damaged_files_are_no_evidence(compared, book):
    results.save(compared, book / "soup_quick.nc")
    (book / "soup_damaged.nc").write_bytes(b"no netCDF")
    assert settings.soups(Open())["rows"] == []
