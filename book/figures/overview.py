"""Make overview.png, the README's figure: python book/figures/overview.py.

Evidence of the fully connected networks, read as the book reads it; the largest profile measured.
"""

from pathlib import Path

import lrsc

ROWS = {"synthetic": ("parity", "fcn"), "semi_synthetic": ("colored_mnist", "fcn")}


def main() -> None:
    """Two panels side by side, each in the paper's manner."""
    from matplotlib import image
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), dpi=160)
    folder = Path(__file__).parent
    for place, (name, (dataset, model)) in enumerate(ROWS.items(), 1):
        found = lrsc.experiments.open_experiment(name, dataset=dataset, model=model)
        part = folder / f".{name}.png"
        lrsc.plots.curves(found).savefig(part, dpi=320)
        axes = figure.add_axes(((place - 1) / 2, 0, 0.5, 0.94))
        axes.imshow(image.imread(part))
        axes.axis("off")
        axes.set_title(f"{dataset}, {model} ({found['profile'].values[0]} profile)", fontsize=11)
        part.unlink()
    figure.savefig(folder / "overview.png")


if __name__ == "__main__":
    main()
