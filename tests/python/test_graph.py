"""Graphs of what was recorded: their nodes, values and adjoints, text, steps and pictures."""

from __future__ import annotations

import gc
import re
import threading
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adjoint as ad
from adjoint._graph import GraphNode, RecordedGraph, value_text

SVG = "{http://www.w3.org/2000/svg}"


def small() -> tuple[ad.Tensor, ...]:
    """f = (a b + 10)² + a at (2, -3): f = 18, df/da = 2·4·b + 1 = -23, df/db = 2·4·a = 16.

    The handle c comes too, since a name is that of a handle.
    """
    a = ad.tensor(2.0, requires_grad=True, name="a")
    b = ad.tensor(-3.0, requires_grad=True, name="b")
    c = a * b
    c.name = "c"
    f = (c + 10) ** 2 + a
    f.name = "f"
    return f, a, b, c


def by_name(graph: RecordedGraph) -> dict[str | None, GraphNode]:
    return {node.name or node.op: node for node in graph.nodes if not node.is_literal}


# ---- Nodes --------------------------------------------------------------------------------------


def test_values_and_adjoints_are_those_of_the_formula() -> None:
    f, *_held = small()
    graph = f.graph()
    nodes = by_name(graph)
    values = {name: node.value.item() for name, node in nodes.items() if node.value is not None}
    assert values == {"a": 2.0, "b": -3.0, "c": -6.0, "add": 4.0, "square": 16.0, "f": 18.0}
    adjoints = {n: node.adjoint.item() for n, node in nodes.items() if node.adjoint is not None}
    assert adjoints == {"a": -23.0, "b": 16.0, "c": 8.0, "add": 8.0, "square": 1.0, "f": 1.0}
    assert len(graph) == len(graph.nodes) == 6
    assert graph.output is graph.nodes[-1] is nodes["f"]
    assert [*nodes["f"].inputs] == [nodes["square"].number, nodes["a"].number]
    for node in graph.nodes:
        assert all(not isinstance(i, int) or i < node.number for i in node.inputs)


def test_arrays_have_shapes_values_and_adjoints() -> None:
    x, y = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.1, 2.9, 3.6, 5.2])
    w = ad.tensor([3.0, -0.5], requires_grad=True, name="w")
    xs, ys = ad.tensor(x, name="x"), ad.tensor(y, name="y")
    loss = ad.mean((w[0] + w[1] * xs - ys) ** 2)
    nodes = by_name(loss.graph())
    r = 3.0 - 0.5 * x - y
    assert nodes["subtract"].shape == (4,)
    np.testing.assert_allclose(nodes["subtract"].value.numpy(), r, rtol=1e-15)
    np.testing.assert_allclose(nodes["subtract"].adjoint.numpy(), r / 2, rtol=1e-15)
    np.testing.assert_allclose(
        nodes["w"].adjoint.numpy(), [np.mean(2 * r), np.mean(2 * r * x)], rtol=1e-14
    )
    np.testing.assert_array_equal(nodes["y"].value.numpy(), y)
    assert nodes["x"].adjoint is None


def test_what_was_let_go_is_computed_again() -> None:
    """No rule reads a sum, so its memory is gone."""
    x = ad.tensor(np.arange(100.0), requires_grad=True, name="x")
    total = ad.sum((x + 1.0) + (x - 2.0))
    ad.eval(total)
    values = [node.value.numpy() for node in total.graph().nodes if node.op and node.shape]
    expected = [np.arange(100.0) + 1, np.arange(100.0) - 2, 2 * np.arange(100.0) - 1]
    assert len(values) == 3
    for expected_value in expected:
        assert any(np.array_equal(v, expected_value) for v in values)


@pytest.mark.parametrize("dtype", [ad.float32, ad.float64], ids=str)
def test_numbers_that_no_rule_reads_are_told(dtype: ad.DType) -> None:
    w = ad.tensor(3.0, dtype=dtype, requires_grad=True)
    for result, op, literal in (
        (w + 0.1, "add", "add(·, 0.1)"),
        (7 - w, "subtract", "subtract(7, ·)"),
        (w - ad.tensor(2.5, dtype=dtype), "subtract", "subtract(·, 2.5)"),
        (w + ad.tensor([1.5, 2.5], dtype=dtype)[1], "add", "add(·, 2.5)"),
    ):
        graph = result.graph()
        assert graph.output.op == op
        assert graph.title(graph.output) == literal
    several = ad.where(ad.tensor(True), w, 4.0).graph()
    assert "?" in several.title(several.output) or "4" in several.title(several.output)


def test_several_results_and_parameters_of_operations() -> None:
    matrix = ad.tensor([[2.0, 0.0], [0.0, 5.0]], requires_grad=True, name="A")
    values, vectors = ad.linalg.eigh(matrix)
    graph = (ad.sum(values * ad.tensor([1.0, 10.0])) + ad.sum(vectors, axis=(0, 1)) * 0.0).graph()
    parts = [node for node in graph.nodes if node.op == "eigh"]
    assert sorted(node.attrs.split()[-1] for node in parts) == ["result=0", "result=1"]
    np.testing.assert_allclose(by_name(graph)["A"].adjoint.numpy(), [[1, 0], [0, 10]], atol=1e-14)
    assert any(node.op == "sum" and "axes=[0, 1]" in node.attrs for node in graph.nodes)


def test_a_cotangent_may_be_given() -> None:
    x = ad.tensor([1.0, 2.0], requires_grad=True, name="x")
    y = x**2
    assert by_name(y.graph())["x"].adjoint.tolist() == [2.0, 4.0]
    assert by_name(y.graph(grad=[1.0, 10.0]))["x"].adjoint.tolist() == [2.0, 40.0]
    assert all(n.adjoint is None for n in y.graph(adjoints=False).nodes)
    assert all(n.value is None for n in y.graph(values=False).nodes)


def test_data_alone_is_a_graph() -> None:
    graph = ad.ones(3).graph()
    assert str(graph) == "data  float64 (3,)  = [1, 1, 1]"
    assert len(graph) == 1 and graph.steps() == []
    assert graph.svg().startswith("<svg")


def test_taking_a_graph_changes_nothing() -> None:
    f, a, b, _c = small()
    gc.collect()
    before = ad.memory_stats()["live_nodes"]
    f.graph().html()
    assert ad.memory_stats()["live_nodes"] == before
    assert a.grad is None
    f.backward()
    assert (a.grad.item(), b.grad.item()) == (-23.0, 16.0)
    assert by_name(f.graph())["a"].adjoint.item() == -23.0
    assert not by_name(f.graph())["c"].value.requires_grad


# ---- Names --------------------------------------------------------------------------------------


def test_names_come_from_handles_and_from_a_mapping() -> None:
    w = ad.tensor(3.0, requires_grad=True)
    square = w * w
    assert by_name(square.graph()).keys() == {None, "multiply"}
    w.name = "w"
    assert by_name(square.graph()).keys() == {"w", "multiply"}
    assert by_name(square.graph(names={"u": w, "s": square, "n": 3})).keys() == {"u", "s"}
    assert by_name(square.graph(names=locals())).keys() == {"w", "square"}
    w.name = None
    assert by_name(square.graph()).keys() == {None, "multiply"}


def test_a_name_stays_with_its_leaf() -> None:
    """After a step the handle has another value."""
    w = ad.tensor(3.0, requires_grad=True, name="w")
    loss = w**2
    with ad.no_grad():
        w -= 1.0
    node = by_name(loss.graph())["w"]
    assert node.value is not None and node.value.item() == 3.0


def test_names_of_dropped_handles_are_forgotten() -> None:
    x = ad.tensor(1.0, requires_grad=True, name="x")
    for i in range(1000):
        y = x * 2.0
        y.name = f"y{i}"
    result = y + 1.0
    del y
    assert by_name(result.graph()).keys() == {"x", "multiply", "add"}


# ---- Inside of transforms -----------------------------------------------------------------------


TRANSFORMS: dict[str, Any] = {
    "anomaly": lambda f, x: ad.detect_anomaly()(f)(x),
    "checkpoint": lambda f, x: ad.checkpoint(f)(x).backward(),
    "compile": lambda f, x: ad.compile(f)(x),
    "cond": lambda f, x: ad.cond(x > 0, f, f, x),
    "grad": lambda f, x: ad.grad(f)(x),
    "grad of grad": lambda f, x: ad.grad(ad.grad(f))(x),
    "hessian": lambda f, x: ad.hessian(f)(x),
    "jvp": lambda f, x: ad.jvp(f, (x,), (x,)),
    "no_grad": lambda f, x: ad.no_grad()(f)(x),
    "scan": lambda f, x: ad.scan(lambda c, _: (f(c), c), x, None, length=2),
    "scan in compile": lambda f, x: ad.compile(lambda z: TRANSFORMS["scan"](f, z)[0])(x),
    "vmap": lambda f, x: ad.vmap(f)(ad.stack([x, x])),
    "vmap of grad": lambda f, x: ad.vmap(ad.grad(f))(ad.stack([x, x])),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_it_can_be_asked_for_inside_of_transforms(name: str) -> None:
    graphs: list[RecordedGraph] = []

    def f(x: ad.Tensor) -> ad.Tensor:
        y = ad.sin(x) * x + 1.0
        graphs.append(y.graph())
        return y

    TRANSFORMS[name](f, ad.tensor(2.0, requires_grad=True))
    assert graphs
    for graph in graphs:
        assert str(graph) and graph.html()
        for node in graph.nodes:
            if node.op == "sin" and node.value is not None and node.value.ndim == 0:
                assert any(
                    np.isclose(node.value.item(), np.sin(operand.value.item()))
                    for operand in graph.operands(node)
                    if isinstance(operand, GraphNode) and operand.value is not None
                )


def test_custom_rules_are_not_run_again() -> None:
    calls = []

    @ad.custom_vjp
    def cube(x: ad.Tensor) -> ad.Tensor:
        calls.append("forward")
        return x * x * x

    cube.defvjp(lambda x: (cube.__wrapped__(x), x), lambda x, ct: (3 * x * x * ct,))
    x = ad.tensor(2.0, requires_grad=True, name="x")
    y = cube(x) + 1.0
    count = len(calls)
    assert by_name(y.graph())["x"].adjoint.item() == 12.0
    assert len(calls) == count


# ---- Large graphs -------------------------------------------------------------------------------


def test_a_deep_graph_is_folded_in_a_small_thread() -> None:
    problems: list[BaseException] = []

    def run() -> None:
        try:
            w = ad.tensor(1.0, requires_grad=True, name="w")
            s = w
            for _ in range(50_000):
                s = s * 0.5 + 1.0
            graph = s.graph(max_nodes=7)
            assert len(graph) >= 100_001 and len(graph.nodes) == 7
            assert sum(graph.hidden.values()) == len(graph) - 7
            assert graph.hidden["add"] + graph.hidden["multiply"] > 99_990
            assert "more nodes" in str(graph) and "more nodes" in graph.svg()
            assert graph.output.value.item() == 2.0  # the fixed point of s/2 + 1
            assert graph.nodes[-2].adjoint.item() == 1.0
            assert len(str(s.graph(max_nodes=500)).splitlines()) < 60
        except BaseException as error:
            problems.append(error)

    old = threading.stack_size(512 * 1024)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert not problems, problems


def test_a_wide_graph_shows_what_is_next_to_the_result() -> None:
    w = ad.tensor(np.arange(300.0), requires_grad=True, name="w")
    total = sum((w[i] * float(i) for i in range(300)), ad.tensor(0.0))
    graph = total.graph(max_nodes=10)
    assert len(graph.nodes) == 10
    assert graph.output.value.item() == float(np.sum(np.arange(300.0) ** 2))
    assert graph.svg().count("<rect") == sum(not n.is_literal for n in graph.nodes) + 1


# ---- Text ---------------------------------------------------------------------------------------


def test_the_tree() -> None:
    f, *_held = small()
    assert str(f.graph()).splitlines() == [
        "f = add                float64 ()  = 18  adjoint 1",
        "├─ square              float64 ()  = 16  adjoint 1",
        "│  └─ add(·, 10)       float64 ()  = 4   adjoint 8",
        "│     └─ c = multiply  float64 ()  = -6  adjoint 8",
        "│        ├─ a          float64 ()  = 2   adjoint -23",
        "│        └─ b          float64 ()  = -3  adjoint 16",
        "└─ a                   (above)",
    ]
    assert repr(f.graph()) == str(f.graph())


def test_shared_results_are_printed_once() -> None:
    x = ad.tensor(2.0, requires_grad=True, name="x")
    e = ad.exp(x)
    lines = str((e * ad.sin(e)).graph()).splitlines()
    assert sum("exp" in line for line in lines) == 2
    assert sum("(above)" in line for line in lines) == 1
    (mark,) = {match for line in lines for match in re.findall(r"exp (#\d+)", line)}
    assert mark


def test_steps_go_forwards_then_backwards() -> None:
    f, *_held = small()
    steps = f.graph().steps()
    assert [step.phase for step in steps] == ["forward"] * 4 + ["backward"] * 6
    assert steps[0].text == "c = multiply(a, b) = -6"
    assert steps[3].text == "f = add(square, a) = 18"
    assert steps[4].text == "the adjoint of f is 1; it goes on to square(add) and a"
    last = {step.text for step in steps[-2:]}
    assert last == {"the adjoint of a is -23", "the adjoint of b is 16"}
    # Complete when its turn comes: after all that read it.
    turns = {step.node.number: i for i, step in enumerate(steps[4:])}
    for step in steps[4:]:
        for operand in step.node.inputs:
            if isinstance(operand, int) and operand in turns:
                assert turns[operand] > turns[step.node.number]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.0, "3"),
        (0.1 + 0.2, "0.3"),
        (1234567.0, "1.235e+06"),
        (7, "7"),
        (True, "True"),
        ([1.0, 2.5], "[1, 2.5]"),
        ([[1, 2], [3, 4]], "[[1, 2], [3, 4]]"),
        ([-1.0, 0.0, 5.0, 2.0, 3.0], "-1 … 5"),
        ([True, False, True, True, False], "3 of 5 true"),
        (np.zeros((0, 3)), "[]"),
        (float("nan"), "nan"),
    ],
)
def test_values_in_a_few_characters(value: Any, text: str) -> None:
    assert value_text(ad.tensor(value)) == text


# ---- Pictures -----------------------------------------------------------------------------------


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    rects = ET.fromstring(svg).iter(f"{SVG}rect")
    return [tuple(float(r.get(k, "0")) for k in ("x", "y", "width", "height")) for r in rects]  # type: ignore[misc]


def test_the_picture_holds_what_is_known() -> None:
    f, *_held = small()
    root = ET.fromstring(f.graph().svg())
    words = [t.text for t in root.iter(f"{SVG}text")]
    for word in ("a", "b", "c = multiply", "add(·, 10)", "f = add", "18", "∂ -23", "∂ 16"):
        assert word in words
    assert words.count("float64 ()") == 6


def test_boxes_do_not_overlap_and_flow_to_the_right() -> None:
    model = ad.nn.Sequential(ad.nn.Linear(4, 3), ad.nn.Tanh(), ad.nn.Linear(3, 2))
    x = ad.ones((5, 4), dtype=ad.float32)
    graph = ad.nn.cross_entropy(model(x), ad.tensor([0, 1, 0, 1, 1])).graph()
    found = boxes(graph.svg())
    assert len(found) == sum(not node.is_literal for node in graph.nodes)
    for i, (x1, y1, w1, h1) in enumerate(found):
        assert x1 >= 0 and y1 >= 0
        for x2, y2, w2, h2 in found[:i]:
            assert x1 >= x2 + w2 or x2 >= x1 + w1 or y1 >= y2 + h2 or y2 >= y1 + h1
    shown = [node for node in graph.nodes if not node.is_literal]
    left = {node.number: box[0] for node, box in zip(shown, found, strict=True)}
    right = {node.number: box[0] + box[2] for node, box in zip(shown, found, strict=True)}
    for node in shown:
        for operand in node.inputs:
            if isinstance(operand, int) and operand in right:
                assert right[operand] < left[node.number]


def test_a_step_hides_what_comes_later() -> None:
    f, *_held = small()
    graph = f.graph()

    def visible(step: int) -> set[str]:
        texts = ET.fromstring(graph.svg(step)).iter(f"{SVG}text")
        return {t.text or "" for t in texts if t.get("visibility") != "hidden"}

    assert "-6" not in visible(0) and "2" in visible(0)
    assert "-6" in visible(1) and "18" not in visible(1)
    assert "18" in visible(4) and "∂ 1" not in visible(4)
    assert "∂ 1" in visible(5) and "∂ -23" not in visible(5)
    assert {"∂ -23", "∂ 16"} <= visible(10)
    for step in (-1, 11):
        with pytest.raises(ValueError, match=r"\[graph\] step must be from 0 to 10"):
            graph.svg(step)


def test_names_cannot_break_out_of_the_picture() -> None:
    w = ad.tensor(1.0, requires_grad=True, name='</script><script>alert("1")</script>&')
    graph = (w * 2.0).graph()
    ET.fromstring(graph.svg())
    assert graph.html().count("<script>") == 1
    assert graph.html().count("</script>") == 1


def test_saving(tmp_path: Path) -> None:
    f, *_held = small()
    graph = f.graph()
    graph.save(tmp_path / "g.svg")
    graph.save(str(tmp_path / "g.html"))
    ET.parse(tmp_path / "g.svg")
    page = (tmp_path / "g.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>") and "<svg" in page and "forward 1 of 4" in page
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # nothing from outside
    assert graph._repr_svg_() == graph.svg()
    with pytest.raises(ValueError, match=r"saved as \.svg or \.html, not '\.png'"):
        graph.save(tmp_path / "g.png")
    assert not (tmp_path / "g.png").exists()


# ---- Errors -------------------------------------------------------------------------------------


def test_bad_arguments_are_named() -> None:
    x = ad.tensor([1.0, 2.0], requires_grad=True)
    y = x * 2.0
    for limit in (0, -1):
        with pytest.raises(ValueError, match=r"\[graph\] max_nodes must be at least 1"):
            y.graph(max_nodes=limit)
    for limit in (2.5, True, "all"):
        with pytest.raises(TypeError, match=r"\[graph\] max_nodes must be an int, not a "):
            y.graph(max_nodes=limit)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"\[graph\] names must map names to tensors"):
        y.graph(names=[x])
    with pytest.raises(ValueError, match=r"\[graph\] grad must be like the tensor: shapes \(3,\)"):
        y.graph(grad=[1.0, 2.0, 3.0])
    with pytest.raises(TypeError):
        y.graph(5)
