"""lrsc tune and audit: for one's own network."""

from pathlib import Path

from lrsc import errors
from lrsc.cli import options
from lrsc.cli.options import NAMED, flag, option


def add(commands) -> None:
    """The commands and their options."""
    data = option(
        "--data", "data set: a name, package.module:function, or a folder of images", required=True
    )
    of_model = "its name, or package.module:function, build(input_shape, n_classes, **options)"
    of_data = "an option of the data set, such as rho=0.1; column=NAME: of a folder's metadata.csv"
    shared = (
        option("--data-option", of_data, **NAMED),
        option("--model-option", "an option of the model, such as init=torch", **NAMED),
        option("--groups", "CSV file (default the folder's metadata.csv)", type=options.path),
        option("--size", "pixels a side of a folder's images (default as they are)", type=int),
        options.DATA_ROOT, options.DEVICE, options.THREADS,
    )  # fmt: skip
    options.add_command(
        commands, "tune", _tune, "find the largest useful learning rate of a model",
        data, option("--model", of_model, required=True), *shared,
        option("--budget", "updates in all, or a time such as '10 min' (default 20 epochs)"),
        option("--lrs", "lowest and highest LR, such as 0.001,1", type=options.numbers),
        option("--seeds", "of weights and order (0,1)", type=options.numbers, default=[0, 1]),
        option("--usual", "an LR to compare with (default 0.001)", type=float, default=1e-3),
        option("--set", "a field of TrainConfig, such as optimizer=adamw", **NAMED),
        option("--store", "netCDF file to keep short runs in and resume from", type=options.path),
        option("--plot", "image file for the figure", type=options.path),
        kept="Short runs are kept only in --store",
        example="lrsc tune --data parity --model fcn --budget 4000",
    )  # fmt: skip
    options.add_command(
        commands, "audit", _audit, "measure checkpoints side by side and write an HTML page",
        option("checkpoint", "file with a state_dict", nargs="+"), data,
        option("--model", of_model, required=True), *shared,
        option("--layer", "dotted name of the classifier, if it is not found"),
        option("--html", "the page (default audit.html)", type=options.path, default="audit.html"),
        flag("--quick", "use few samples; takes seconds"),
        kept="Nothing is stored",
        example="lrsc audit low.pt high.pt --data my_images --model resnet18 --html report.html",
    )  # fmt: skip


def _data(args):
    """The data set that is named, and a factory of the model for it."""
    from lrsc import datasets, models

    options.use_threads(args.threads)
    place = Path(args.data).expanduser()
    known = args.data in datasets.names() or ":" in args.data
    if known and (args.groups or args.size):
        raise ValueError("--groups and --size go with a folder of images")
    if not known and (place.is_dir() or args.groups):
        data = datasets.from_folder(
            place, size=args.size, metadata=args.groups, **dict(args.data_option)
        )
    elif not known and ("/" in args.data or not args.data.isidentifier()):
        raise ValueError(f"--data {args.data}: no such folder, and no name of a data set")
    else:
        data = datasets.load(args.data, root=args.data_root, **dict(args.data_option))
    given = models.options_for(args.model, data.name) | dict(args.model_option)
    return data, lambda: models.build(args.model, data.input_shape, data.n_classes, **given)


def _tune(args) -> None:
    from lrsc import TrainConfig
    from lrsc.reach import largest_lr

    data, factory = _data(args)
    budget = args.budget
    found = largest_lr(
        factory, data, TrainConfig(**dict(args.set)), lrs=args.lrs, seeds=args.seeds,
        budget=int(budget) if budget and budget.isdigit() else budget, usual=args.usual,
        store=args.store, device=args.device,
    )  # fmt: skip
    print(found)
    if args.plot:
        found.plot().savefig(args.plot)


def _audit(args) -> None:
    from lrsc.models import weights
    from lrsc.reach import audit

    for path in args.checkpoint:
        if not Path(path).expanduser().is_file():
            raise errors.DataMissing(f"checkpoint {path!r} is not a file")
    data, factory = _data(args)
    done = []
    for path in args.checkpoint:
        net = factory()
        try:
            weights.fill(net, Path(path).expanduser())
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path} does not hold weights of {args.model!r}: {error}") from error
        name = Path(path).stem
        done.append(
            audit(net, data, name=name, quick=args.quick, device=args.device, layer=args.layer)
        )
        print(f"{done[-1]}\n")
    first, *others = done
    print(f"page: {first.to_html(args.html, *others)}")
