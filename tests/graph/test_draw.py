"""Pictures of graphs: everything is in them, and what is shown is what is there."""

from __future__ import annotations

import html
import re
import runpy
import shutil
from pathlib import Path

import dask_awkward as dak
import numpy as np
import pytest
from graphs import graphs, lazily
from helpers import array_of, collection

import dak_diff as dd
from dak_diff.graph.draw import picture_of
from dak_diff.graph.picture import EDGES, STYLES


def example(residuals="keep"):
    x, p = collection(array_of("jagged"), [5, 0, 7]), dd.parameter(0.5, name="scale")
    y = x * p
    return np.log(dak.sum(np.sin(y[y > 0.5])) / dak.count(y)), {"x": x, "p": p}


def labels(picture, role):
    return sorted(box.label.split("\n")[0] for box in picture.boxes.values() if box.role == role)


def edges(picture, travels):
    shown = {key: box.label.split("\n")[0] for key, box in picture.boxes.items()}
    return {(shown[a], shown[b]) for a, b, what in picture.edges if what == travels}


@pytest.mark.parametrize("residuals", ["keep", "recompute"])
@graphs
def test_every_graph_is_drawn_whole(graph, residuals):
    expr, wrt, _ = lazily(graph, "3")
    for derivative in (dd.jvp(expr, wrt), *dd.vjp(expr, wrt, residuals=residuals)):
        layers, operations = (picture_of(derivative.dask, detail) for detail in ("layers", "operations"))
        for picture in (layers, operations):
            drawn = {re.split("[/~+]", key)[0] for key in picture.boxes}
            assert drawn == derivative.dask.layers.keys()
        clustered = [key for _, keys in operations.clusters for key in keys]
        assert len(set(clustered)) == len(clustered)
        for picture in (layers, operations):
            ends = {key for start, end, _ in picture.edges for key in (start, end)}
            assert ends == picture.boxes.keys()


def test_layers():
    expr, wrt = example()
    picture = picture_of(dd.grad(expr, wrt)["x"].dask)
    assert labels(picture, "source") == ["source"]
    assert labels(picture, "forward") == ["fwd-multiply-greater-sin"]
    assert labels(picture, "result") == ["vjp-gradient-source"]
    assert ("fwd-multiply-greater-sin", "vjp-multiply-greater-sin") in edges(picture, "residual")
    assert ("vjp-multiply-greater-sin", "vjp-gradient-source") in edges(picture, "cotangent")
    assert ("value-sum-finalize", "value-truediv") in edges(picture, "value")
    assert not picture.clusters


def test_operations():
    expr, wrt = example()
    picture = picture_of(dd.grad(expr, wrt)["p"].dask, "operations")
    assert [title for title, _ in picture.clusters] == [
        "fwd-multiply-greater-sin, 3 partitions",
        "vjp-multiply-greater-sin, 3 partitions",
    ]
    # What the sum over partitions reads is taken out first.
    kept = "cotangents-multiply-greater-sin"
    path = {("sin", "getitem"), ("getitem", "multiply"), ("multiply", kept), (kept, "sum-cotangents-scale")}
    assert path <= edges(picture, "cotangent")
    assert {("multiply", "multiply"), ("sin", "sin")} <= edges(picture, "residual")
    assert "greater" in labels(picture, "value")
    assert "greater" not in labels(picture, "adjoint")


def test_what_both_passes_in_one_task_hand_on_are_cotangents():
    x, p = collection(array_of("jagged"), [5, 0, 7]), dd.parameter(2.0, name="scale")
    picture = picture_of(dd.grad(dak.sum(x * p), p).dask)
    assert ("fwd-multiply", "sum-cotangents-scale") in edges(picture, "cotangent")


def test_both_passes_in_one_task_are_one_cluster():
    x = collection(array_of("jagged"), [5, 0, 7])
    both = dd.value_and_grad(dak.sum(np.sin(x)), x)
    picture = picture_of(both[1].dask, "operations")
    ((title, keys),) = picture.clusters
    assert title == "fwd-sin, 3 partitions"
    assert [picture.boxes[key].role for key in keys if picture.boxes[key].label == "sin"] == [
        "forward",
        "adjoint",
    ]


def test_forward_mode():
    """A tangent is drawn operation by operation, without being asked."""
    expr, wrt = example()
    picture = picture_of(dd.jvp(expr, wrt).dask)
    path = [
        ("seed-scale", "multiply"),
        ("multiply", "getitem"),
        ("getitem", "sin"),
        ("jvp-truediv", "jvp-log"),
    ]
    assert set(path) <= edges(picture, "tangent")
    assert {("multiply", "greater"), ("greater", "getitem")} <= edges(picture, "value")
    assert labels(picture, "result") == ["jvp-tangent-log"]


def test_seeds_inside_a_segment():
    """What a derivative is taken by may lie in the middle of a segment: its tangent is put in there."""
    x = collection(array_of("jagged"), [5, 0, 7])
    y = x * 2
    picture = picture_of(dd.jvp(np.sin(y) * x, {"x": x, "y": y}).dask)
    assert ("seed", "multiply") in edges(picture, "tangent")
    assert labels(picture, "seed").count("seed") == 1


def test_roles_differ_without_colour():
    assert len({shape for _, shape, _ in STYLES.values()}) == len(STYLES)
    assert len({arrow for _, arrow in EDGES.values()}) == len(EDGES)
    assert len({look.split(",", 1)[-1] for look, _ in EDGES.values()}) == len(EDGES)


def test_text():
    expr, wrt = example()
    picture = picture_of(dd.grad(expr, wrt)["x"].dask, "operations")
    mermaid = picture.mermaid().splitlines()
    assert mermaid[0] == "flowchart BT"
    assert sum(" -.-> " in line for line in mermaid) == len([e for e in picture.edges if e[2] == "residual"])
    assert picture.dot().count(" -> ") == len(picture.edges)


@pytest.mark.parametrize("detail", ["layers", "operations"])
def test_files(tmp_path, detail):
    pytest.importorskip("graphviz")
    if not shutil.which("dot"):
        pytest.skip("graphviz's programs are not installed")
    expr, wrt = example()
    value, gradient = dd.value_and_grad(expr, wrt)
    dd.visualize(value, gradient, filename=str(tmp_path / "both"), detail=detail)
    gradient["x"].visualize(str(tmp_path / "one"), format="svg", detail=detail)
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    assert "vjp&#45;log" in (tmp_path / "one.svg").read_text()


def test_detail_is_checked():
    expr, wrt = example()
    with pytest.raises(ValueError, match="layers, operations"):
        dd.visualize(dd.jvp(expr, wrt), detail="tasks")


def test_pictures_of_the_documentation_are_what_the_script_draws():
    """If this fails: python docs/make_pictures.py."""
    script = Path(__file__).parents[2] / "docs" / "make_pictures.py"
    made = runpy.run_path(str(script))
    for name, picture in made["pictures"]().items():
        drawn = (made["IMAGES"] / f"{name}.svg").read_text()
        shown = [html.unescape(text) for text in re.findall(r"<text[^>]*>(.*?)</text>", drawn)]
        boxes = [line for box in picture.boxes.values() for line in box.label.split("\n")]
        assert sorted(shown) == sorted([*boxes, *(title for title, _ in picture.clusters)])
        assert drawn.count('class="edge"') == len(picture.edges)
