"""The main job, small: a dijet mass on eight partitions of Parquet, and its derivative by a calibration.

Run by ci/demo. Writes demo-output/: the dataset, spectrum.png and, where graphviz is
installed, graph.png and gradient.png.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import dask
import dask_awkward as dak
import matplotlib as mpl
import numpy as np
from dask.diagnostics import ProgressBar

import dak_diff
from benchmarks.dijets import FIELDS, dijet_mass, write_dataset
from dak_diff import eager

mpl.use("Agg")
from matplotlib import pyplot as plt

OUTPUT = Path("demo-output")
ALPHA = 0.02


def main() -> None:
    sine_over_x()
    folder = write_dataset(OUTPUT / "jets", partitions=8, events=50_000)
    jets = dak.from_parquet(str(folder)).Jet
    jets = dak.with_name(jets, "Momentum4D")
    print(f"\n8 partitions of Parquet in {folder}, 50,000 events each")

    alpha = dak_diff.parameter(ALPHA, name="alpha")
    mass = dijet_mass(jets, alpha)
    mean = dak.sum(mass) / dak.count(mass)

    print("\nd(mean dijet mass) / d(alpha):")
    for method in ("auto", "dual", "complex-step"):
        value, slope = dak_diff.value_and_jvp(mean, wrt=alpha, method=method)
        start = time.perf_counter()
        value, slope = dask.optimize(value, slope)
        with ProgressBar():
            value, slope = dask.compute(value, slope, optimize_graph=False)
        seconds = time.perf_counter() - start
        print(f"{method:<13} mean mass {value:.6f} GeV   derivative {slope:.6f} GeV   {seconds:.2f} s")
    # So small a step that no jet crosses the threshold: selections jump, derivatives do not see it.
    step = 1e-9
    print(f"{'difference':<13} central, step {step:g}{'':<8}derivative {difference(jets, step):.6f} GeV")

    value, gradient = dak_diff.value_and_grad(mean, wrt={field: jets[field] for field in FIELDS})
    # The scale multiplies every pt by 1 + alpha * f(eta): the chain rule gives the same derivative.
    f = 1 + 0.1 * jets.eta**2
    (chained,) = dask.compute(dak.sum(gradient["pt"] * jets.pt * f / (1 + ALPHA * f)))
    print(f"{'reverse':<13} through the gradient by every pt     derivative {chained:.6f} GeV")

    dm = dak_diff.jvp(mass, wrt=alpha)
    draw(*dask.compute(mass, dm))
    if shutil.which("dot"):
        dm.visualize(str(OUTPUT / "graph"), format="png")
        print(f"wrote {OUTPUT / 'graph.png'}: the layers of the derivative")
        dak_diff.visualize(gradient["pt"], filename=str(OUTPUT / "gradient"), detail="operations")
        print(f"wrote {OUTPUT / 'gradient.png'}: the gradient by pt, operation by operation")


def sine_over_x() -> None:
    """The slide's example: sin(x)/x, differentiated by wrapping its argument."""
    x = eager.diffarray(np.linspace(-20, 20, 10_000))
    y = np.sin(x) / x
    exact = (x.primal * np.cos(x.primal) - np.sin(x.primal)) / x.primal**2
    print("sin(x)/x on 10,000 points: largest difference from the exact derivative", end=" ")
    print(f"{np.max(abs(y.tangent - exact)):.1e}")


def difference(jets: dak.Array, step: float) -> float:
    """Central difference of the mean mass."""
    masses = (dijet_mass(jets, ALPHA + sign * step) for sign in (1, -1))
    up, down = dask.compute(*(dak.sum(mass) / dak.count(mass) for mass in masses))
    return (up - down) / (2 * step)


def draw(mass: object, slope: object) -> None:
    mass, slope = np.asarray(mass), np.asarray(slope)
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 7), sharex=True, layout="constrained")
    edges = np.linspace(0, 400, 81)
    top.hist(mass, edges, histtype="stepfilled", color="#9ecae1", edgecolor="#3182bd")
    top.set_ylabel("events / 5 GeV")
    top.set_title("Mass of the two leading jets, and its derivative by the jet energy scale")
    shown = slice(None, None, max(1, len(mass) // 20_000))
    bottom.plot(mass[shown], slope[shown], ",", color="#777777", alpha=0.6)
    which = np.digitize(mass, edges)
    centres = 0.5 * (edges[1:] + edges[:-1])
    means = [slope[which == i].mean() if (which == i).any() else np.nan for i in range(1, len(edges))]
    bottom.plot(centres, means, "o-", ms=3, color="#e6550d", label="mean of the events in the bin")
    bottom.set_xlim(0, 400)
    bottom.set_ylim(0, 1.15 * np.nanmax(means))
    bottom.set_xlabel("dijet mass m [GeV]")
    bottom.set_ylabel(r"d$m$/d$\alpha$ [GeV]")
    bottom.legend()
    figure.savefig(OUTPUT / "spectrum.png", dpi=120)
    print(f"wrote {OUTPUT / 'spectrum.png'}: the spectrum, and dm/dalpha of every event")


if __name__ == "__main__":
    main()
