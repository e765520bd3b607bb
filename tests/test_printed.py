"""What is printed works: every command that README, book, helps and messages name is taken as it
stands, and those that train are run, with a budget of one short training."""

import argparse
import dataclasses
import gc
import re
import shlex
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
from test_prose import blocks, rendered_texts

import lrsc
from lrsc import cli, experiments, sweep
from lrsc.cli.options import NAMES

ROOT = Path(__file__).parents[1]
GROUPS = "run|sweep|campaign|measure|tune|audit|status|score|bench|repro|book|data|results"
PLACE = re.compile(r"\b[A-Z]{3,}\b|\.\.\.|\0|[<{]")  # what a reader has to put in


def pages() -> dict[str, str]:
    """README, pages, and the text cells of notebooks, by file."""
    texts = [ROOT / "README.md", *sorted((ROOT / "book").rglob("*.md"))]
    notebooks = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "book").rglob("*.ipynb")])
    found = {p: p.read_text(encoding="utf-8") for p in texts}
    for path in notebooks:
        cells = nbformat.read(path, as_version=4).cells
        found[path] = "\n".join(c.source for c in cells if c.cell_type == "markdown")
    return {str(path.relative_to(ROOT)): text for path, text in found.items()}


def helps(
    parser: argparse.ArgumentParser, name: str = "lrsc"
) -> dict[str, argparse.ArgumentParser]:
    """Every command's name and parser."""
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for own, child in action.choices.items():
                below = helps(child, f"{name} {own}")
                found |= below or {f"{name} {own}": child}
    return found


def printed() -> list[str]:
    """Commands in blocks, between backticks and in helps, each once, without their comments."""
    found = []
    for text in pages().values():
        for block in re.findall(r"```(?:bash|sh)\n(.*?)```", text, re.S):
            lines = block.replace("\\\n", " ").splitlines()
            found += [line.split(" #")[0] for line in lines]
        found += re.findall(r"`(lrsc [^`]+)`", text)
    for text in rendered_texts():
        found += re.findall(r"`(lrsc [^`]+)`", text)
    found += [line for p in helps(cli.parser()).values() for line in p.epilog.splitlines()]
    found = [re.sub(r"\s+", " ", line.strip()).removeprefix(".venv/bin/") for line in found]
    command = re.compile(rf"lrsc ({GROUPS}|--)")
    return sorted({line for line in found if command.match(line) and not PLACE.search(line)})


PRINTED = printed()


def test_there_are_commands():
    assert len(PRINTED) > 40
    assert any("--set max_epochs=20" in line for line in PRINTED)


@pytest.mark.parametrize("command", PRINTED)
def test_every_command_that_is_printed_is_understood(command):
    known = helps(cli.parser())
    name = max((n for n in known if f"{command} ".startswith(f"{n} ")), key=len, default="")
    rest = shlex.split(command.removeprefix(name))
    if name and rest and not rest[0].startswith("-"):
        cli.parser().parse_args(shlex.split(command)[1:])
        return
    # a command, or a group of them, that a sentence names without what it is to work on
    assert name or any(n.startswith(f"{command} ") for n in known)
    options = {option for option in rest if option.startswith("--")}
    assert options <= set(known[name]._option_string_actions if name else [])


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """The first run alone, of one epoch on a hundred samples of stand-ins."""
    made, run = experiments.run_config, sweep.run

    def small(dataset, *args, **options):
        config = made(dataset, *args, **options)
        data = dict(config.data) | {"n_train": 200}
        train = dataclasses.replace(config.train, max_epochs=1)
        return dataclasses.replace(config, data=data, train=train, model="fcn",
                                   model_options={}, source="embedded")  # fmt: skip

    monkeypatch.setattr("lrsc.experiments.select.run_config", small)
    monkeypatch.setattr(sweep, "run", lambda configs, **o: run(configs[:1], **o))
    estimate = sweep.estimate
    monkeypatch.setattr(sweep, "estimate", lambda configs, **o: estimate(configs[:1], **o))
    monkeypatch.setenv("LRSC_RESULTS", str(tmp_path / "results"))
    return tmp_path


TRAINING = [c for c in PRINTED if re.match(r"lrsc (run|sweep) [^:]*$", c) and "--exec" not in c]
TRAINING = [c for c in TRAINING if not re.fullmatch(r"lrsc sweep --\w+.*|lrsc (run|sweep)", c)]


@pytest.mark.parametrize("command", TRAINING)
def test_every_command_that_trains_runs_as_printed(command, tiny, capsys):
    assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "1 trained" in said.out or "expected" in said.out


def calls(text: str) -> list[str]:
    """Calls of the library in sentences, but for those that leave arguments out."""
    spans = re.findall(r"`((?:\w+ = )?lrsc\.[\w.]+\([^`]*\))`", text)
    return [span for span in spans if "..." not in span]


def named() -> dict:
    """What the names stand for that calls in sentences take."""
    ds = lrsc.datasets.load("colored_mnist", n_train=200, source="embedded")
    net = lrsc.models.build("fcn", ds.input_shape, ds.n_classes, hidden=(16, 16)).eval()
    x, y, bias = ds.test.inputs(ds.test.x[:20]), ds.test.y[:20], ds.test.bias[:20]
    z = lrsc.models.representation(net, x)
    return {
        "lrsc": lrsc, "ds": ds, "data": ds, "dataset": ds, "split": ds.test.take(torch.arange(200)),
        "net": net, "model": net, "x": x, "y": y, "bias": bias, "pred": net(x).argmax(1),
        "train_y": ds.train.y, "train_bias": ds.train.bias, "z": z, "w": net[1].weight,
        "mask": (x > 0).any(1, keepdim=True), "losses": z[:, 0], "conflicting": bias != y,
        "before": torch.tensor(0.9), "after": torch.tensor(0.5), "chance": 0.1, "kappa": 0.5,
        "name": "synthetic", "cfg": lrsc.TrainConfig(max_steps=2), "kappas": (0.2, 0.5),
        "pruned": lrsc.pruning.prune(net, 0.5), "config": lrsc.TrainConfig(max_steps=2),
        "small": lambda: lrsc.models.build("fcn", ds.input_shape, 10), "to_tensorboard": print,
        "load": lambda: ds,
    }  # fmt: skip


@pytest.fixture
def short(monkeypatch, tiny):
    """Trainings of one epoch, first runs of sweeps alone, and no cluster that submits jobs."""
    run = sweep.run  # that of `tiny`

    def small(**fields):
        return lrsc.config.TrainConfig(**fields | {"max_epochs": 1})

    def here(what, executor="serial", scheduler=None, profile="quick"):
        assert executor == "serial" or hasattr(scheduler, "scheduler_address")
        return run(experiments.configs(what, profile) if isinstance(what, str) else what)

    monkeypatch.setattr(lrsc, "TrainConfig", small, raising=False)
    monkeypatch.setattr(sweep, "run", here)
    monkeypatch.setattr("dask_jobqueue.SLURMCluster.adapt", lambda cluster, **limits: None)
    monkeypatch.chdir(tiny)


CODE = {page: found for page, text in pages().items() if (found := blocks(text, "python"))}


@pytest.mark.parametrize("page", CODE)
def test_every_block_of_python_runs_as_printed(page, request, tmp_path, capsys, monkeypatch):
    if page.startswith("notebooks/"):
        monkeypatch.chdir(tmp_path)  # of results that ship
    else:
        request.getfixturevalue("short")
    names: dict = {"lrsc": lrsc}  # which a notebook's first cell imports
    writer = SimpleNamespace(SummaryWriter=lambda folder: None)  # it is not installed
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", writer)
    with warnings.catch_warnings():  # of a port that is taken, and sockets that Dask leaves open
        warnings.simplefilter("ignore")
        for block in CODE[page]:
            exec(compile(block, page, "exec"), names)
        if "cluster" in names:
            names.pop("cluster").close()
            gc.collect()
    assert re.search(r"\d", capsys.readouterr().out) or "print(" not in "".join(CODE[page])


CALLS = {page: found for page, text in pages().items() if (found := calls(text))}


@pytest.mark.parametrize("page", CALLS)
def test_every_call_in_a_sentence_runs_as_printed(page):
    names = named()
    for call in CALLS[page]:
        exec(compile(call, page, "exec"), names)


def test_there_is_code():
    assert {"README.md", "book/run_it_yourself.md", "book/datasets.ipynb"} <= CODE.keys()
    assert len(CODE["book/run_it_yourself.md"]) > 8 and len(CALLS["README.md"]) > 2


LOOKING = [c for c in PRINTED if re.match(r"lrsc (status|score|data (list|path)|results (verify|gc)"
                                          r"|measure --again)( --|$)", c)]  # fmt: skip


@pytest.mark.parametrize("command", LOOKING)
def test_every_command_that_looks_runs_as_printed(command, monkeypatch, tmp_path):
    monkeypatch.setenv("LRSC_RESULTS", str(tmp_path))
    assert cli.main(shlex.split(command)[1:]) == 0


@pytest.mark.parametrize("name", helps(cli.parser()))
def test_every_help_has_an_example_and_the_names_it_takes(name):
    parser = helps(cli.parser())[name]
    text = re.sub(r"\s+", " ", parser.format_help())
    assert f"Example: {name}" in text
    taken = {action.dest for action in parser._actions} & set(NAMES)
    for each in taken:
        assert f"{each}: {', '.join(NAMES[each]())}" in text
    assert "dataset" not in text or "colored_mnist" in text or "data sets" in text
