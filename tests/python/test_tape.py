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
    with pytest.raises(ValueError, match="'zero' or 'error'"):
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
