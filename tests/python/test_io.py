"""Files: against the safetensors package, on links, modes and devices, and with broken headers."""

import copy
import doctest
import errno
import importlib
import json
import os
import pathlib
import random
import stat
import struct
import threading

import numpy as np
import pytest

import adjoint as ad

safetensors = pytest.importorskip("safetensors.numpy")
SafetensorError = pytest.importorskip("safetensors").SafetensorError

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float32", "float64"),
]
SAMPLE = {"w": ad.asarray([[1.0, 2.0], [3.0, 4.0]]), "n": ad.asarray([1, 2, 3])}


def assert_same(path, tensors):
    loaded = ad.io.load(path)
    assert list(loaded) == list(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        np.testing.assert_array_equal(loaded[name].numpy(), tensor.numpy())


def test_documented_examples():
    result = doctest.testmod(importlib.import_module("adjoint.io"))
    assert result.attempted > 0 and result.failed == 0


# ---- Both ways with the safetensors package ------------------------------------------------------


def arrays():
    rng = np.random.default_rng(3)
    found = {}
    for dtype in DTYPES:
        for shape in [(), (0,), (3,), (2, 3), (2, 0, 4), (1, 1, 5)]:
            values = rng.integers(0, 2 if dtype == "bool" else 100, shape)
            found[f"{dtype} {shape}"] = np.asarray(values).astype(dtype)
    found["special"] = np.array([np.nan, -0.0, np.inf, -np.inf, 5e-324])
    found["naïve 模 \n\"'\\"] = np.arange(3.0)
    return found


def test_what_is_saved_is_read_by_the_safetensors_package(tmp_path):
    path = tmp_path / "ours"
    tensors = {name: ad.asarray(array) for name, array in arrays().items()}
    ad.io.save(path, tensors, {"note": "a", "naïve": "ü"})
    theirs = safetensors.load_file(path)
    assert set(theirs) == set(tensors)
    for name, array in arrays().items():
        assert theirs[name].dtype == array.dtype and theirs[name].shape == array.shape
        assert theirs[name].tobytes() == array.tobytes()
    with importlib.import_module("safetensors").safe_open(path, "numpy") as file:
        assert file.metadata() == {"note": "a", "naïve": "ü"} == ad.io.load_metadata(path)


def test_what_the_safetensors_package_saves_is_read(tmp_path):
    path = tmp_path / "theirs"
    safetensors.save_file(arrays(), path, {"note": "a"})
    ours = ad.io.load(path)
    assert set(ours) == set(arrays())
    for name, array in arrays().items():
        assert ours[name].dtype == array.dtype and ours[name].shape == array.shape
        assert ours[name].numpy().tobytes() == array.tobytes()
    assert ad.io.load_metadata(path) == {"note": "a"}


def test_views_and_large_results_are_saved_by_value(tmp_path):
    x = ad.asarray(np.arange(12.0).reshape(3, 4))
    big = ad.asarray(np.arange(2.0**17))
    tensors = {
        "transposed": x.T,
        "reversed": x[::-1],
        "strided": x[:, ::2],
        "broadcast": ad.broadcast_to(x[0], (5, 4)),
        "deferred": ad.exp(-big) + 1.0,
        "history": 2.0 * ad.tensor([1.0], requires_grad=True),
    }
    ad.io.save(tmp_path / "x", tensors)
    assert_same(tmp_path / "x", {name: t.detach() for name, t in tensors.items()})
    assert ad.io.load_metadata(tmp_path / "x") == {}
    ad.io.save(tmp_path / "none", {})
    assert ad.io.load(tmp_path / "none") == {}


# ---- Where a file goes ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, os.fsencode, pathlib.Path, lambda p: Path(str(p)), "odd"])
def test_paths(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = os.fsdecode(b"odd-\xff") if kind == "odd" else kind(tmp_path / "x")
    ad.io.save(path, SAMPLE)
    assert_same(path, SAMPLE)
    assert len(list(tmp_path.iterdir())) == 1
    ad.io.save(b"relative", SAMPLE)
    assert_same("relative", SAMPLE)


class Path:
    def __init__(self, answer):
        self.answer = answer

    def __fspath__(self):
        return self.answer


CALLS = {
    "save": lambda path: ad.io.save(path, SAMPLE),
    "load": ad.io.load,
    "load_metadata": ad.io.load_metadata,
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "path", [0, 1, True, None, 1.5, ["x"], Path(3), Path(None), Path(Path("x"))]
)
def test_what_is_no_path_is_refused(call, path, capfd):
    with pytest.raises(TypeError, match=rf"\[io\.{call}\] the path must be"):
        CALLS[call](path)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("call", CALLS)
def test_paths_that_lead_nowhere(call, tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for path in ["", tmp_path, tmp_path / "no" / "x", f"{tmp_path}/no/../x", tmp_path / "loop"]:
        with pytest.raises(OSError) as error:
            CALLS[call](path)
        assert "adjoint-" not in str(error.value)
    with pytest.raises(OSError):
        CALLS[call](f"{tmp_path}/new/")
    with pytest.raises(ValueError, match="null"):
        CALLS[call](f"{tmp_path}/a\0b")
    assert [p.name for p in tmp_path.iterdir()] == ["loop"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o755])
def test_an_existing_file_keeps_its_mode(tmp_path, mode):
    path = tmp_path / "x"
    path.touch()
    path.chmod(mode)
    ad.io.save(path, SAMPLE)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert_same(path, SAMPLE)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path, mask):
    before = os.umask(mask)
    try:
        ad.io.save(tmp_path / "x", SAMPLE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~mask


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_file_that_may_not_be_written_is_left_alone(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        ad.io.save(path, SAMPLE)
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_existing_file_keeps_its_owner(tmp_path):
    path = tmp_path / "x"
    path.touch()
    os.chown(path, 1234, 2345)
    path.chmod(0o4640)
    ad.io.save(path, SAMPLE)
    info = path.stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (1234, 2345, 0o4640)


def test_links_are_followed(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    real, link, chain, dangling = (tmp_path / n for n in ("folder/real", "link", "chain", "to"))
    ad.io.save(real, {"old": ad.ones(1)})
    real.chmod(0o600)
    link.symlink_to("folder/real")
    chain.symlink_to(link)
    dangling.symlink_to("folder/new")
    (tmp_path / "short").symlink_to("folder")
    for path in (link, chain, dangling, tmp_path / "short" / "real"):
        ad.io.save(path, SAMPLE)
        assert path.is_symlink() or path.parent.is_symlink()
        assert_same(path, SAMPLE)
    assert_same(real, SAMPLE)
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert sorted(p.name for p in folder.iterdir()) == ["new", "real"]


def test_devices_and_pipes_are_written_directly(tmp_path):
    ad.io.save("/dev/null", SAMPLE)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    link = tmp_path / "link"
    link.symlink_to("/dev/full")
    for full in ("/dev/full", link):
        with pytest.raises(OSError) as error:
            ad.io.save(full, SAMPLE)
        assert error.value.errno == errno.ENOSPC
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode) and link.is_symlink()

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    big = {"x": ad.asarray(np.arange(100_000))}
    writer = threading.Thread(target=ad.io.save, args=(fifo, big))
    writer.start()
    assert_same(fifo, big)
    writer.join()
    assert stat.S_ISFIFO(os.stat(fifo).st_mode)
    for broken in ("/dev/zero", "/dev/null"):
        with pytest.raises(ValueError, match=r"io\.load"):
            ad.io.load(broken)


@pytest.mark.parametrize("broken", ["fsync", "fchmod", "replace"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, OSError])
@pytest.mark.parametrize("exists", [True, False])
def test_a_file_is_old_or_new_and_nothing_is_left_behind(
    tmp_path, monkeypatch, broken, kind, exists
):
    path, other = tmp_path / "x", tmp_path / f"x.{os.getpid()}.tmp"
    other.write_bytes(b"another's")
    if exists:
        ad.io.save(path, SAMPLE)
    elif broken == "fchmod":
        pytest.skip("there is no mode to keep")
    before = sorted(p.name for p in tmp_path.iterdir())

    def fail(*arguments):
        raise kind("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(kind, match="in the middle"):
            ad.io.save(path, {"other": ad.zeros(1000)})
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert other.read_bytes() == b"another's"
    if exists:
        assert_same(path, SAMPLE)


def test_a_name_taken_by_another_is_not_touched(tmp_path, monkeypatch):
    tokens = iter(["taken", "taken", "free"])
    monkeypatch.setattr("adjoint.io.secrets.token_hex", lambda _: next(tokens))
    taken = tmp_path / ".adjoint-taken.tmp"
    taken.write_bytes(b"another's")
    ad.io.save(tmp_path / "x", SAMPLE)
    assert taken.read_bytes() == b"another's"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".adjoint-taken.tmp", "x"]


def test_threads_may_save_to_one_path(tmp_path):
    values = [{"x": ad.full((5000,), float(i))} for i in range(8)]
    threads = [threading.Thread(target=ad.io.save, args=(tmp_path / "x", v)) for v in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    x = ad.io.load(tmp_path / "x")["x"].numpy()
    assert x.shape == (5000,) and (x == x[0]).all()
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_long_name_is_no_longer_while_it_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    ad.io.save(path, SAMPLE)
    assert_same(path, SAMPLE)


@pytest.mark.parametrize(
    ("tensors", "metadata", "kind"),
    [
        ([ad.ones(1)], None, TypeError),
        (ad.ones(1), None, TypeError),
        (5, None, TypeError),
        ({3: ad.ones(1)}, None, TypeError),
        ({"a": "text"}, None, TypeError),
        ({"a": None}, None, TypeError),
        ({"a": np.ones(1, dtype=np.float16)}, None, TypeError),
        ({"__metadata__": ad.ones(1)}, None, ValueError),
        ({"\ud800": ad.ones(1)}, None, ValueError),
        ({"a": ad.ones(1)}, 5, TypeError),
        ({"a": ad.ones(1)}, {"n": 1}, TypeError),
        ({"a": ad.ones(1)}, {1: "n"}, TypeError),
        ({"a": ad.ones(1)}, {"n": "\udfff"}, ValueError),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(
    tmp_path, tensors, metadata, kind
):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(kind, match=r"\[(io\.save|asarray)\]"):
        ad.io.save(path, tensors, metadata)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


# ---- Broken files --------------------------------------------------------------------------------


def file_of(header, data=b""):
    return struct.pack("<Q", len(header)) + header + data


def entry(dtype='"F32"', shape="[1]", offsets="[0,4]", name='"a"'):
    return f'{{{name}:{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'.encode()


FOUR, NINES = bytes(4), "9" * 5000
BROKEN = {
    "nothing": b"",
    "short": b"\2\0\0",
    "no header": struct.pack("<Q", 8),
    "huge length": b"\xff" * 8 + b"{}",
    "length over the limit": struct.pack("<Q", 100_000_001) + b"{}",
    "cut header": file_of(entry(), FOUR)[:30],
    "cut data": file_of(entry(), bytes(3)),
    "more data": file_of(entry(), bytes(5)),
    "no data": file_of(entry()),
    "data without tensors": file_of(b"{}", FOUR),
    "empty header": file_of(b""),
    "spaces": file_of(b"   "),
    "spaces first": file_of(b"  " + entry(), FOUR),
    "array": file_of(b"[]"),
    "number": file_of(b"3"),
    "null": file_of(b"null"),
    "text": file_of(b'"a"'),
    "no json": file_of(b"{]"),
    "unfinished": file_of(entry()[:-1], FOUR),
    "trailing": file_of(entry() + b"\0\0", FOUR),
    "two objects": file_of(b"{}{}"),
    "not utf-8": file_of(b'{"\xff":1}'),
    "utf-16": file_of('{"a":1}'.encode("utf-16")),
    "byte order mark": file_of(b"\xef\xbb\xbf{}"),
    "lone surrogate": file_of(entry(name='"\\ud800"'), FOUR),
    "deep arrays": file_of(b"[" * 100_000),
    "deep objects": file_of(b'{"a":' * 100_000),
    "deep inside": file_of(entry(shape="[" * 5000 + "]" * 5000), FOUR),
    "nan": file_of(entry(shape="[NaN]"), FOUR),
    "nan as an entry": file_of(b'{"a":NaN}'),
    "nan in the metadata": file_of(b'{"__metadata__":{"x":NaN}}'),
    "infinity": file_of(entry(offsets="[0,Infinity]"), FOUR),
    "metadata not text": file_of(b'{"__metadata__":{"x":1}}'),
    "metadata no object": file_of(b'{"__metadata__":[]}'),
    "metadata null": file_of(b'{"__metadata__":null}'),
    "metadata twice": file_of(b'{"__metadata__":{},"__metadata__":{}}'),
    "metadata key twice": file_of(b'{"__metadata__":{"x":"","x":""}}'),
    "entry no object": file_of(b'{"a":1}'),
    "entry null": file_of(b'{"a":null}'),
    "name twice": file_of(entry()[:-1] + b"," + entry()[1:], FOUR),
    "field twice": file_of(entry(dtype='"F32","dtype":"F32"'), FOUR),
    "field missing": file_of(b'{"a":{"dtype":"F32","shape":[1]}}', FOUR),
    "field unknown": file_of(entry(shape='[1],"more":0'), FOUR),
    "dtype unknown": file_of(entry(dtype='"X32"'), FOUR),
    "dtype lower case": file_of(entry(dtype='"f32"'), FOUR),
    "dtype not supported": file_of(entry(dtype='"F16"', shape="[2]"), FOUR),
    "dtype no text": file_of(entry(dtype="3"), FOUR),
    "dtype unhashable": file_of(entry(dtype="[]"), FOUR),
    "shape of another size": file_of(entry(shape="[2]"), FOUR),
    "shape negative": file_of(entry(shape="[-1]"), FOUR),
    "shape twice negative": file_of(entry(shape="[-1,-1]"), FOUR),
    "shape bool": file_of(entry(shape="[true]"), FOUR),
    "shape float": file_of(entry(shape="[1.0]"), FOUR),
    "shape exponent": file_of(entry(shape="[1e0]"), FOUR),
    "shape text": file_of(entry(shape='["1"]'), FOUR),
    "shape null": file_of(entry(shape="null"), FOUR),
    "shape object": file_of(entry(shape="{}"), FOUR),
    "shape of many": file_of(entry(shape=json.dumps([1] * 65)), FOUR),
    "shape overflows": file_of(entry(shape=f"[{2**32},{2**32}]", offsets="[0,0]")),
    "shape overflows to 4": file_of(entry(shape=f"[{2**62 + 1}]"), FOUR),
    "shape overflows with 0": file_of(entry(shape=f"[{2**61},8,0]", offsets="[0,0]")),
    "shape over 64 bits": file_of(entry(shape=f"[{2**64}]", offsets="[0,0]")),
    "shape of many digits": file_of(entry(shape=f"[{NINES}]"), FOUR),
    "offsets negative": file_of(entry(offsets="[-4,0]"), FOUR),
    "offsets reversed": file_of(entry(offsets="[4,0]"), FOUR),
    "offsets beyond": file_of(entry(offsets="[4,8]"), FOUR),
    "offsets huge": file_of(entry(offsets=f"[{2**63},{2**63 + 4}]"), FOUR),
    "offsets three": file_of(entry(offsets="[0,4,4]"), FOUR),
    "offsets none": file_of(entry(offsets="[]"), FOUR),
    "offsets float": file_of(entry(offsets="[0.0,4.0]"), FOUR),
    "gap before": file_of(entry(offsets="[4,8]"), bytes(8)),
    "gap of nothing": file_of(
        entry()[:-1] + b"," + entry(shape="[0]", offsets="[2,2]", name='"b"')[1:], FOUR
    ),
    "overlap": file_of(entry()[:-1] + b"," + entry(name='"b"')[1:], FOUR),
    "bool of 2": file_of(entry(dtype='"BOOL"', shape="[4]"), b"\0\1\2\1"),
}


@pytest.mark.parametrize("content", BROKEN)
def test_broken_files_are_refused(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(BROKEN[content])
    with pytest.raises(ValueError, match=r"^\[io\.load\] "):
        ad.io.load(path)


def test_a_whole_file_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(file_of(entry() + b"   ", struct.pack("<f", 2.5)))
    assert ad.io.load(path)["a"].tolist() == [2.5]


VALUES = [
    0, 1, 2, 4, 8, -1, 3.5, 2**31, 2**32, 2**61, 2**63, 2**64, True, None, "", "F32", "I8", "BOOL",
    "F16", "BF16", "a", "\ud800", [], [0], [1], [2], [1, 1], [0, 4], [4, 8], [0, 8], [2**40, 0], {},
    {"a": 1}, float("nan"), float("inf"), [[]], [None], [-1], ["1"],
]  # fmt: skip


def mutated(rng):
    """Return a good file with values of the header, or bytes, replaced, removed or added."""
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    header["b"] = {"dtype": "I8", "shape": [2, 2], "data_offsets": [8, 12]}
    header["c"] = {"dtype": "BOOL", "shape": [], "data_offsets": [12, 13]}
    header["__metadata__"] = {"note": "x"}
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        where = rng.choice([header, *[v for v in header.values() if isinstance(v, dict)]])
        key = rng.choice([*where, "more"])
        if rng.random() < 0.2 and key in where:
            del where[key]
        elif isinstance(where.get(key), list) and where[key] and rng.random() < 0.5:
            where[key][rng.randrange(len(where[key]))] = copy.deepcopy(rng.choice(VALUES))
        else:
            where[key] = copy.deepcopy(rng.choice(VALUES))
    text = json.dumps(header, separators=rng.choice([(",", ":"), (", ", " : ")])).encode()
    content = bytearray(file_of(text, bytes(12) + b"\1"))
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 5])):
        at = rng.randrange(len(content))
        change = rng.choice(["byte", "bit", "cut", "insert", "double"])
        if change == "byte":
            content[at] = rng.randrange(256)
        elif change == "bit":
            content[at] ^= 1 << rng.randrange(8)
        elif change == "cut":
            del content[at : at + rng.choice([1, 2, 10, 10**6])]
        elif change == "insert":
            content[at:at] = rng.choice([b"0", b"[", b'"', b",", b"\xff", b"\0", b"-", b"9" * 30])
        else:
            content[at:at] = content[at : at + 20]
        content = content or bytearray(1)
    return bytes(content)


def outcome(load, path, errors):
    try:
        return {name: np.asarray(value) for name, value in load(path).items()}
    except errors as error:
        return error


# What the safetensors package takes and this one refuses: see the format's description, which wants
# "{" first and names once, and the dtypes there are no tensors of.
STRICTER = ("not supported", "occurs twice", "is not an object", "exactly dtype", "neither 0 nor 1")


def test_mutated_files_are_refused_or_read_like_the_safetensors_package_does(tmp_path):
    rng = random.Random(11)
    path = tmp_path / "x"
    read = 0
    for _ in range(4000):
        path.write_bytes(mutated(rng))
        ours = outcome(ad.io.load, path, ValueError)
        theirs = outcome(
            safetensors.load_file, path, (SafetensorError, ValueError, KeyError, AttributeError)
        )
        if isinstance(ours, ValueError):
            assert str(ours).startswith("[io.load] "), ours
            known = any(reason in str(ours) for reason in (*STRICTER, "map str to str"))
            assert known or isinstance(theirs, Exception), (path.read_bytes(), ours, theirs)
        else:
            read += 1
            assert set(ours) == set(theirs)
            for name, value in ours.items():
                assert value.dtype == theirs[name].dtype and value.shape == theirs[name].shape
                assert value.tobytes() == theirs[name].tobytes()
    assert read > 400
