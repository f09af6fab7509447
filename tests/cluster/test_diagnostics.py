"""What Dask shows of a derivative while it runs."""

from __future__ import annotations

import io

import awkward as ak
import dask
import dask_awkward as dak
import distributed
import numpy as np
import pytest
from dask.diagnostics import ProgressBar

import dak_diff as dd

pytestmark = pytest.mark.cluster


def inputs():
    x = dak.from_awkward(ak.Array([[1.0, 2.0], [3.0], [], [4.0, 5.0]]), npartitions=4)
    return x, dd.parameter(0.1, name="p")


def gradient(residuals="keep"):
    x, p = inputs()
    return dd.value_and_grad(np.log(dak.sum(np.exp(x * p))), wrt=p, residuals=residuals)


def gradient_in_one_pass():
    x, p = inputs()
    return dd.value_and_grad(dak.sum(np.exp(x * p)), wrt=p)


def columns():
    x, p = inputs()
    return (dd.vjp(np.exp(x * p), x),)


def tangent():
    x, p = inputs()
    return (dd.jvp(np.exp(x * p), p),)


def slope_of_a_sum():
    x, p = inputs()
    return dd.value_and_jvp(dak.sum(np.exp(x * p)), p)


#: What is computed, and prefixes of keys that the scheduler sees. The last layer of a chain that Dask fuses
#: gives its name: what ends in a result is called after that.
NAMES = {
    "keep": (
        gradient,
        {
            "fwd-multiply-exp",
            "vjp-multiply-exp",
            "value-sum",
            "value-log",
            "vjp-log",
            "sum-cotangents-p",
            "vjp-gradient-p",
        },
    ),
    "recompute": (lambda: gradient("recompute"), {"vjp-multiply-exp", "sum-cotangents-p"}),
    "one pass": (gradient_in_one_pass, {"fwd-multiply-exp", "value-sum", "sum-cotangents-p"}),
    "columns": (columns, {"vjp-gradient-from-awkward"}),
    "tangent": (tangent, {"jvp-tangent-exp"}),
    "tangent of a sum": (slope_of_a_sum, {"jvp-sum", "jvp-tangent-sum"}),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_tasks(name, client, count_tasks):
    ask, expected = NAMES[name]
    finished = count_tasks(client)
    dask.compute(*ask(), scheduler=client)
    assert expected <= set(finished)


def test_progress_bar():
    shown = io.StringIO()
    with ProgressBar(out=shown, dt=0.01):
        dask.compute(*gradient())
    assert "100% Completed" in shown.getvalue()


def test_progress_of_a_cluster(client, capsys):
    futures = client.compute(list(gradient()))
    with client.as_current():
        distributed.progress(futures, notebook=False)
    assert "100% Completed" in capsys.readouterr().out
    assert client.gather(futures) == list(dask.compute(*gradient()))


def test_performance_report(client, tmp_path):
    pytest.importorskip("bokeh", reason="Dask draws its performance report with bokeh")
    report = tmp_path / "report.html"
    with client.as_current(), distributed.performance_report(report):
        dask.compute(*gradient())
    assert "fwd-multiply-exp" in report.read_text()
