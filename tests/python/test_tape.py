"""GradientTape and Variable, with the meaning TensorFlow gives them."""

import pickle

import pytest

import adjoint as ad


def test_simple():
    w = ad.Variable(5.0)
    with ad.GradientTape() as tape:
        loss = w**2 + 1
    assert tape.gradient(loss, w).item() == 10.0


def test_drop_in_names():
    import adjoint as tf

    x = tf.Variable([1.0, 2.0], dtype=tf.float32, name="x")
    with tf.GradientTape() as tape:
        y = x * x
    g = tape.gradient(y, x)  # a non-scalar target is summed
    assert g.dtype is tf.float32 and g.tolist() == [2.0, 4.0]


def test_assignment_inside_sums_over_all_values():
    w = ad.Variable(2.0)
    with ad.GradientTape() as tape:
        y = w * w
        w.assign(3.0)
        z = y + w * w
    assert tape.gradient(z, w).item() == 10.0


def test_watch_makes_a_leaf_until_exit():
    x = ad.tensor(3.0)
    with ad.GradientTape() as tape:
        tape.watch(x)
        assert x.requires_grad
        y = x * x
    assert not x.requires_grad
    assert tape.gradient(y, x).item() == 6.0


def test_second_use_raises_unless_persistent():
    w = ad.Variable(1.0)
    with ad.GradientTape() as tape:
        y = w * w
    tape.gradient(y, w)
    with pytest.raises(RuntimeError, match="persistent"):
        tape.gradient(y, w)
    with ad.GradientTape(persistent=True) as tape:
        y = w * w
        z = 3 * w
    assert tape.gradient(y, w).item() == 2.0
    assert tape.gradient(z, w).item() == 3.0


def test_only_what_was_recorded_inside_counts():
    w = ad.Variable(2.0)
    y = w * w
    with ad.GradientTape(persistent=True) as tape:
        z = y * 3 + w
    assert tape.gradient(z, w).item() == 1.0


def test_stop_recording():
    w = ad.Variable(2.0)
    with ad.GradientTape() as tape:
        y = w * w
        with tape.stop_recording():
            hidden = w * 100.0
        z = y + hidden
    assert tape.gradient(z, w).item() == 4.0


def test_reset():
    w = ad.Variable(2.0)
    with ad.GradientTape() as tape:
        y = w * w
        tape.reset()
        z = y + 5 * w
    assert tape.gradient(z, w).item() == 5.0


def test_unconnected():
    w, v = ad.Variable(2.0), ad.Variable([1.0, 1.0])
    with ad.GradientTape(persistent=True) as tape:
        y = w * w
    assert tape.gradient(y, v).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError):
        tape.gradient(y, v, unconnected_gradients="error")
    with pytest.raises(ValueError, match="'zero', 'error'"):
        tape.gradient(y, v, unconnected_gradients="none")


def test_unwatched_variables():
    w, v = ad.Variable(2.0), ad.Variable(3.0)
    with ad.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(w)
        y = w * v
    assert [g.item() for g in tape.gradient(y, [w, v])] == [3.0, 0.0]


def test_nested_sources_and_output_gradients():
    a, b = ad.Variable([1.0, 2.0]), ad.Variable(3.0)
    with ad.GradientTape() as tape:
        y = a * b
    g = tape.gradient(y, {"a": a, "b": [b]}, output_gradients=ad.tensor([1.0, 10.0]))
    assert g["a"].tolist() == [3.0, 30.0]
    assert g["b"][0].item() == 21.0


def test_second_order():
    w = ad.Variable(3.0)
    with ad.GradientTape() as outer:
        with ad.GradientTape() as inner:
            y = w**3
        first = inner.gradient(y, w)
    assert first.item() == 27.0
    assert outer.gradient(first, w).item() == 18.0


def test_a_variable_is_squared_as_a_tensor_is():
    values = ad.linspace(0.1, 3.0, 500)
    w = ad.Variable(values)
    with ad.GradientTape() as tape:
        y = ad.sum((w**2) ** 2)
    assert bool(ad.all(tape.gradient(y, w) == ad.grad(lambda x: ad.sum((x**2) ** 2))(values)))


def test_watched_variables():
    w, v, u = ad.Variable(1.0), ad.Variable(2.0), ad.Variable(3.0)
    with ad.GradientTape() as tape:
        _ = v * 2 + w
    assert tape.watched_variables() == (v, w) or [id(x) for x in tape.watched_variables()] == [
        id(v),
        id(w),
    ]
    assert id(u) not in [id(x) for x in tape.watched_variables()]


def test_variable():
    w = ad.Variable([1.0, 2.0], name="w")
    assert w.trainable and w.name == "w" and isinstance(w, ad.Tensor)
    assert type(w + w) is ad.Tensor
    assert w.assign([3.0, 4.0]) is w and w.tolist() == [3.0, 4.0]
    assert w.assign_add(1.0).tolist() == [4.0, 5.0]
    assert w.assign_sub([1.0, 2.0]).tolist() == [3.0, 3.0]
    frozen = ad.Variable(1.0, trainable=False)
    assert not frozen.trainable and not frozen.requires_grad
    assert ad.Variable(lambda: 2.0).numpy() == 2.0
    count = ad.Variable(0)
    assert count.assign_add(1).item() == 1


def test_variable_refuses_in_place_operators():
    w = ad.Variable(1.0)
    with pytest.raises(TypeError, match="assign_add"):
        w += 1.0
    with pytest.raises(ValueError, match="shape"):
        w.assign([1.0, 2.0])
    with pytest.raises(TypeError, match="assign"):
        w[...] = 1.0
    assert w.item() == 1.0


def test_variable_pickles():
    w = pickle.loads(pickle.dumps(ad.Variable([1.0, 2.0], trainable=False, name="w")))
    assert type(w) is ad.Variable and w.tolist() == [1.0, 2.0]
    assert w.name == "w" and not w.trainable


def test_misuse():
    w = ad.Variable(1.0)
    tape = ad.GradientTape()
    with pytest.raises(RuntimeError, match="not recording"):
        tape.watch(w)
    with tape, pytest.raises(RuntimeError, match="already"):
        tape.__enter__()
    with pytest.raises(TypeError, match="Tensor"):
        tape.gradient(w * w, 3.0)


# ---- nesting ------------------------------------------------------------------------------------


def test_third_order():
    w = ad.Variable(2.0)
    with ad.GradientTape() as third:
        with ad.GradientTape() as second:
            with ad.GradientTape() as first:
                y = w**4
            slope = first.gradient(y, w)
        curvature = second.gradient(slope, w)
    assert slope.item() == 32.0 and curvature.item() == 48.0
    assert third.gradient(curvature, w).item() == 48.0


def test_a_gradient_inside_a_persistent_tape_is_recorded():
    x = ad.tensor(3.0)
    with ad.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x * x
        slope = tape.gradient(y, x)
    assert slope.item() == 27.0
    assert tape.gradient(slope, x).item() == 18.0
    assert tape.gradient(y, x).item() == 27.0


def test_a_handle_stays_a_leaf_while_any_tape_watches_it():
    x = ad.tensor(3.0)
    with ad.GradientTape() as outer:
        with ad.GradientTape() as inner:
            inner.watch(x)
            outer.watch(x)
            y = x * x
        assert x.requires_grad
        z = inner.gradient(y, x) * x
    assert not x.requires_grad
    assert outer.gradient(z, x).item() == 12.0  # of 2 x * x


def test_hessian_of_a_jacobian_of_a_gradient():
    x = ad.Variable([1.0, 2.0])
    with ad.GradientTape() as outer:
        with ad.GradientTape() as inner:
            y = x[0] ** 2 * x[1]
        slope = inner.gradient(y, x)
    assert slope.tolist() == [4.0, 1.0]
    assert outer.jacobian(slope, x).tolist() == [[4.0, 2.0], [2.0, 0.0]]


def test_gradient_of_a_jacobian():
    x = ad.Variable([1.0, 2.0])
    with ad.GradientTape() as outer:
        with ad.GradientTape() as inner:
            y = x**3
        diagonal = inner.jacobian(y, x)
    assert diagonal.tolist() == [[3.0, 0.0], [0.0, 12.0]]
    assert outer.gradient(diagonal, x).tolist() == [6.0, 12.0]


def test_intermediate_values_are_sources_and_targets():
    w = ad.Variable(2.0)
    with ad.GradientTape(persistent=True) as tape:
        y = w * w
        z = y * y
    assert tape.gradient(z, y).item() == 8.0
    assert tape.gradient(w, w).item() == 1.0
    assert tape.gradient([y, {"z": z}], w).item() == 36.0  # 4 + 32
    assert tape.jacobian(z, [y, w])[1].item() == 32.0


def test_tapes_side_by_side():
    w = ad.Variable(2.0)
    with ad.GradientTape() as first, ad.GradientTape() as second:
        y = w**3
    assert first.gradient(y, w).item() == second.gradient(y, w).item() == 12.0


def test_a_second_block_goes_on_if_no_gradient_was_taken():
    w = ad.Variable(2.0)
    tape = ad.GradientTape()
    with tape:
        y = w * w
    with tape:
        z = y * w
    assert tape.gradient(z, w).item() == 12.0
    with tape:
        z = y * w  # y is a constant to the new record
    assert tape.gradient(z, w).item() == 4.0


# ---- Jacobians ----------------------------------------------------------------------------------


def test_jacobian():
    a, b = ad.Variable([1.0, 2.0]), ad.Variable([[3.0, 4.0], [5.0, 6.0]])
    with ad.GradientTape() as tape:
        y = b @ a
    of_a, of_b = tape.jacobian(y, [a, b])
    assert of_a.tolist() == [[3.0, 4.0], [5.0, 6.0]]
    assert of_b.shape == (2, 2, 2)
    assert of_b.tolist() == [[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [1.0, 2.0]]]


def test_jacobian_of_a_scalar_and_of_nothing():
    x = ad.Variable([1.0, 2.0])
    empty = ad.Variable(ad.zeros((0, 2)))
    with ad.GradientTape(persistent=True) as tape:
        y = ad.sum(x * x)
        z = empty * x
    assert tape.jacobian(y, x).tolist() == [2.0, 4.0]
    assert tape.jacobian(z, x).shape == (0, 2, 2)
    assert tape.jacobian(y, empty).shape == (0, 2)
    assert tape.jacobian(y, {}) == {}


def test_jacobian_keeps_dtypes_and_structure():
    x = ad.Variable([1.0, 2.0], dtype=ad.float32)
    with ad.GradientTape() as tape:
        y = ad.exp(x * 0.0)
    result = tape.jacobian(y, {"x": (x,)})
    assert result["x"][0].dtype is ad.float32
    assert result["x"][0].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_jacobian_over_all_values_of_a_variable():
    w = ad.Variable([2.0])
    with ad.GradientTape() as tape:
        y = w * w
        w.assign([3.0])
        z = y + w * w
    assert tape.jacobian(z, w).tolist() == [[10.0]]


def test_unconnected_jacobians():
    w, v = ad.Variable([2.0, 3.0]), ad.Variable(1.0)
    with ad.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(w)
        y = w * v
    assert [j.tolist() for j in tape.jacobian(y, [w, v])] == [[[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]]
    with pytest.raises(ValueError, match="not watched"):
        tape.jacobian(y, v, unconnected_gradients="error")
    u = ad.tensor([1.0, 2.0], requires_grad=True)
    assert tape.batch_jacobian(y, u).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError):
        tape.batch_jacobian(y, u, unconnected_gradients="error")


def test_batch_jacobian():
    x = ad.Variable([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    with ad.GradientTape(persistent=True) as tape:
        y = ad.stack([x[:, 0] * x[:, 1], x[:, 0] ** 2, x[:, 1]], axis=1)
    expected = [[[b, a], [2 * a, 0.0], [0.0, 1.0]] for a, b in x.tolist()]
    assert tape.batch_jacobian(y, x).tolist() == expected
    full = tape.jacobian(y, x)
    assert full.shape == (3, 3, 3, 2)
    assert [full[i, :, i].tolist() for i in range(3)] == expected
    assert tape.batch_jacobian(y[:, 0], x[:, :1]).shape == (3, 1)


def test_batch_jacobian_of_shapes():
    x = ad.Variable(ad.ones((4, 2, 3)))
    with ad.GradientTape() as tape:
        y = ad.sum(x, axis=1) * ad.tensor([[1.0, 2.0, 3.0]] * 4)
    result = tape.batch_jacobian(y, x)
    assert result.shape == (4, 3, 2, 3)
    assert result[2].tolist() == [
        [[float(k + 1) * (k == j) for j in range(3)]] * 2 for k in range(3)
    ]
    empty = ad.Variable(ad.ones((0, 2)))
    with ad.GradientTape() as tape:
        y = empty * 2
    assert tape.batch_jacobian(y, empty).shape == (0, 2, 2)


def test_misuse_of_jacobians():
    x = ad.Variable([[1.0, 2.0]])
    with ad.GradientTape(persistent=True) as tape:
        y = x * 2
        z = ad.sum(x)
    with pytest.raises(ValueError, match=r"same length along axis 0: shapes \(\) and \(1, 2\)"):
        tape.batch_jacobian(z, x)
    with pytest.raises(ValueError, match=r"shapes \(2, 1\) and \(1, 2\)"):
        tape.batch_jacobian(ad.reshape(y, (2, 1)), x)
    with pytest.raises(TypeError, match="one Tensor, not a list"):
        tape.jacobian([y, z], x)
    with pytest.raises(TypeError, match="one Tensor, not a tuple"):
        tape.batch_jacobian(y, (x,))
    with pytest.raises(TypeError, match="int64 has no derivative"):
        tape.jacobian(ad.tensor([1]), x)
    with pytest.raises(ValueError, match="'zero', 'error'"):
        tape.jacobian(y, x, unconnected_gradients="none")
    with ad.GradientTape() as once:
        y = x * 2
    with pytest.raises(TypeError):
        once.jacobian([y], x)  # does not use the tape up
    once.jacobian(y, x)
    for method in (once.gradient, once.jacobian, once.batch_jacobian):
        with pytest.raises(RuntimeError, match="persistent"):
            method(y, x)
