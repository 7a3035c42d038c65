"""NumPy, the buffer protocol, DLPack and files: what is shared, what is copied, what is refused."""

import gc
import struct
import weakref

import numpy as np
import pytest

import adjoint as ad

DTYPES = [
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
]


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip(dtype):
    a = np.arange(6).reshape(2, 3).astype(dtype)
    x = ad.asarray(a)
    assert x.dtype == dtype and x.shape == (2, 3)
    for back in (np.asarray(x), x.numpy(), np.array(x), np.from_dlpack(x)):
        assert back.dtype == a.dtype
        np.testing.assert_array_equal(back, a)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-2],
        lambda a: a.T,
        lambda a: a[1:1],
        lambda a: a[0, 0],
        lambda a: np.broadcast_to(a[0], (5, 4)),
        lambda a: a[None, :, None],
        lambda a: np.asfortranarray(a),
    ],
    ids=["reversed", "strided", "transposed", "empty", "scalar", "broadcast", "newaxis", "fortran"],
)
def test_strided_arrays(view):
    a = view(np.arange(12.0).reshape(3, 4))
    np.testing.assert_array_equal(ad.asarray(a).numpy(), a)
    np.testing.assert_array_equal((ad.asarray(a) + 1).numpy(), a + 1)


def test_unaligned_array():
    raw = np.zeros(17, dtype=np.uint8)
    a = raw[1:].view(np.float64)
    a[:] = [1.5, 2.5]
    assert ad.asarray(a).tolist() == [1.5, 2.5]
    with pytest.raises(ValueError, match="aligned"):
        ad.asarray(a, copy=False)


def test_import_copies_writable_memory():
    a = np.array([1.0, 2.0])
    x = ad.asarray(a)
    a[0] = 9.0
    assert x.tolist() == [1.0, 2.0]


def test_import_shares_when_asked():
    a = np.arange(100.0)
    x = ad.asarray(a, copy=False)
    a[0] = 9.0
    assert x[0].item() == 9.0
    assert x.numpy().__array_interface__["data"][0] == a.__array_interface__["data"][0]


def test_import_shares_read_only_memory():
    a = np.arange(100.0)
    a.flags.writeable = False
    x = ad.asarray(a)
    assert x.numpy().__array_interface__["data"][0] == a.__array_interface__["data"][0]
    y = x + 1
    assert a[0] == 0.0 and y[0].item() == 1.0


def test_shared_memory_is_kept_and_released():
    class Owner(np.ndarray):
        pass

    a = np.arange(100.0).view(Owner)
    ref = weakref.ref(a)
    x = ad.asarray(a, copy=False)
    view = x[10:]
    del a, x
    gc.collect()
    assert ref() is not None and view[0].item() == 10.0
    del view
    gc.collect()
    assert ref() is None


def test_export_is_zero_copy_and_read_only():
    x = ad.arange(100, dtype=ad.float64)
    a, b = np.asarray(x), np.asarray(x)
    assert not a.flags.writeable
    assert a.__array_interface__["data"] == b.__array_interface__["data"]
    np.testing.assert_array_equal(np.asarray(x[::-2]), np.arange(100.0)[::-2])
    assert np.array(x, dtype=np.float32).dtype == np.float32
    assert np.array(x, copy=True).flags.writeable


def test_exported_memory_never_changes():
    x = ad.ones((100,))
    a = np.asarray(x)
    x += 1.0
    x[0] = 7.0
    np.testing.assert_array_equal(a, np.ones(100))
    assert x[0].item() == 7.0 and x[1].item() == 2.0


def test_export_outlives_the_tensor():
    a = np.asarray(ad.ones((1000,)) * 3.0)
    gc.collect()
    _ = [ad.ones((1000,)) for _ in range(10)]
    np.testing.assert_array_equal(a, np.full(1000, 3.0))


def test_mixed_expressions_agree():
    a, t = np.array([1.0, 2.0, 3.0]), ad.tensor([4.0, 5.0, 6.0], requires_grad=True)
    left, right = a * t, t * a
    assert type(left) is type(right) is ad.Tensor
    assert left.tolist() == right.tolist() == [4.0, 10.0, 18.0]
    left.sum().backward()
    assert t.grad.tolist() == [1.0, 2.0, 3.0]
    assert type(np.float64(2) - t) is ad.Tensor
    assert (a[0] < t).tolist() == [True, True, True]


def test_lists_of_tensors_and_numpy_scalars():
    w = ad.tensor(2.0, requires_grad=True)
    x = ad.asarray([w, w * w, 3.0])
    assert x.tolist() == [2.0, 4.0, 3.0]
    x.sum().backward()
    assert w.grad.item() == 5.0
    assert ad.asarray([np.float64(1), np.float64(2)]).dtype is ad.float64
    assert ad.asarray([np.int32(1), np.int32(2)]).tolist() == [1, 2]
    assert ad.asarray([np.ones(2), np.zeros(2)]).tolist() == [[1.0, 1.0], [0.0, 0.0]]


def test_buffer_protocol():
    x = ad.tensor([[1, 2, 3], [4, 5, 6]], dtype=ad.int32)
    view = memoryview(x)
    assert view.readonly and view.format == "i" and view.shape == (2, 3)
    assert view.strides == (12, 4) and view.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert bytes(x) == struct.pack("6i", 1, 2, 3, 4, 5, 6)
    assert memoryview(x.T).tobytes() == struct.pack("6i", 1, 4, 2, 5, 3, 6)
    import array

    assert ad.asarray(array.array("d", [1.0, 2.0])).tolist() == [1.0, 2.0]


def test_dlpack():
    x = ad.arange(6, dtype=ad.float32)
    a = np.from_dlpack(x)
    assert a.__array_interface__["data"][0] == np.asarray(x).__array_interface__["data"][0]
    assert x.__dlpack_device__() == (1, 0)
    y = ad.from_dlpack(np.arange(3))
    assert y.tolist() == [0, 1, 2] and y.dtype is ad.int64
    shared = np.arange(3.0)
    z = ad.from_dlpack(shared, copy=False)
    shared[0] = 5.0
    assert z.tolist() == [5.0, 1.0, 2.0]
    capsule = x.__dlpack__(max_version=(1, 0))
    assert "dltensor_versioned" in repr(capsule)
    del capsule  # not consumed: its destructor lets go of the memory
    assert x.__dlpack__(copy=True) is not None
    with pytest.raises(BufferError, match="CPU"):
        x.__dlpack__(max_version=(1, 0), dl_device=(2, 0))


def test_dlpack_leaves_nothing_behind():
    gc.collect()
    before = ad.memory_stats()["live_nodes"]
    for _ in range(10):
        x = ad.ones((1000,))
        a = np.from_dlpack(x)
        y = ad.from_dlpack(a)
        capsule = x.__dlpack__(max_version=(1, 0))
    del x, a, y, capsule
    gc.collect()
    assert ad.memory_stats()["live_nodes"] == before
