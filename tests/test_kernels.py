"""Kernels against their plain twins, and how they are compiled."""

import ast
import inspect
import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from habitat import kernels
from habitat.kernels import _jit, kmeans
from habitat.kernels.scores import separation
from tests.oracles import TWINS, tumor

FOLDER = Path(kernels.__file__).parent
TESTS = Path(__file__).parent
K = 4
KINDS = {
    "tumor": lambda n, rng: tumor(n),
    "duplicates": lambda n, rng: rng.integers(0, 3, (n, 2)),  # exact ties too
    "constant": lambda n, rng: np.column_stack([tumor(n), np.full(n, 7.0)]),
    "one channel": lambda n, rng: rng.lognormal(size=(n, 1)),
    "many channels": lambda n, rng: rng.normal(size=(n, 8)),
    "far off": lambda n, rng: tumor(n) + 1e4,
}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=[np.float64, np.float32])
def dtype(request):
    return request.param


@pytest.fixture(params=[1, K, 7, 1000], name="X")
def columns(request, kind, dtype):
    rows = KINDS[kind](request.param, np.random.default_rng(request.param))
    return np.ascontiguousarray(rows.T, dtype=dtype)


@pytest.fixture(params=[False, True], ids=["alike", "weighted"])
def weight(request, X):
    return weigh(X) if request.param else np.empty(0, X.dtype)


def weigh(X):
    return np.random.default_rng(5).lognormal(size=X.shape[1]).astype(X.dtype)


def arranged(X, weight=None, function=kmeans.arrange):
    """Packed columns, their weights, middle, half, total; X is (d, n)."""
    d, n = X.shape
    blocks = -(-n // kmeans.BLOCK)
    weight = np.empty(0, X.dtype) if weight is None else weight
    out = [np.full_like(X, np.nan), np.full_like(weight, np.nan)]
    out += [np.full((rows, blocks), np.nan) for rows in (d, d, d + 1)]
    function(np.ascontiguousarray(X.T), weight, *out)
    return out


def some_columns(X, k=K):
    return X[:, np.arange(k) % X.shape[1]].T.astype(float)


def assert_close(got, want, X):
    rtol = 1e-12 if X.dtype == np.float64 else 1e-5
    scale = float(np.abs(X).max())
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * scale * X.shape[1])


def both(function, *args):
    """Run a kernel and its twin on copies; return results and arguments of each."""
    results = []
    for f in (function, TWINS[function]):
        copies = [np.copy(a) if isinstance(a, np.ndarray) else a for a in args]
        results.append((f(*copies), copies))
    return results


def test_every_kernel_has_a_twin():
    twins = set()
    for path in TESTS.glob("naive*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        twins |= {f.name for f in tree.body if isinstance(f, ast.FunctionDef)}
    for path in FOLDER.glob("*.py"):
        for f in ast.parse(path.read_text("utf-8")).body:
            if not isinstance(f, ast.FunctionDef) or f.name.startswith("_"):
                continue
            if any(getattr(d, "id", "") == "jit" for d in f.decorator_list):
                assert f.name in twins, f"{path.name}: {f.name} has no twin"


@pytest.mark.parametrize("function", TWINS, ids=lambda f: f.__name__)
def test_twins_are_called_alike(function):
    plain = getattr(function, "py_func", function)
    ours = list(inspect.signature(plain).parameters)
    assert ours == list(inspect.signature(TWINS[function]).parameters)
    assert plain.__name__ == TWINS[function].__name__


def test_arrange_keeps_every_column_and_bounds_the_blocks(X, weight):
    packed, share, middle, half, total = arranged(X, weight)
    want = arranged(X, weight, TWINS[kmeans.arrange])
    np.testing.assert_array_equal(packed, want[0])
    np.testing.assert_array_equal(share, want[1])
    for b in range(middle.shape[1]):
        block = packed[:, b * kmeans.BLOCK : (b + 1) * kmeans.BLOCK].T
        slack = 1e-15 * np.abs(block).max()
        assert (np.abs(block - middle[:, b]) <= half[:, b] + slack).all()
        assert weight.size or total[-1, b] == len(block)
    for got, twin in zip((middle, half, total), want[2:], strict=True):
        assert_close(got, twin, X)


def test_arrange_takes_any_finite_range():
    with np.errstate(all="ignore"):
        for values in ([-1.7e308, 1.7e308, 0.0], [0.0, 5e-324, 0.0]):
            packed = arranged(np.array([values]))[0]
            assert sorted(packed[0]) == sorted(values)


def test_assign(X):
    n = X.shape[1]
    args = X, some_columns(X), np.zeros(n, np.uint8), np.zeros(n, X.dtype)
    (_, ours), (_, twin) = both(kmeans.assign, *args)
    np.testing.assert_array_equal(ours[2], twin[2])
    scale = float(np.abs(X).max()) ** 2
    eps = 1e-13 if X.dtype == np.float64 else 1e-5
    np.testing.assert_allclose(ours[3], twin[3], rtol=eps, atol=eps * scale * 1e-3)


def test_lloyd_step(X, weight):
    packed, *blocks = arranged(X, weight)
    d = X.shape[0]
    sums = np.full((K, d + 1), np.nan)
    (_, ours), (_, twin) = both(
        kmeans.lloyd_step, packed, *blocks, some_columns(X), sums
    )
    if not weight.size:
        np.testing.assert_array_equal(ours[-1][:, d], twin[-1][:, d])
    assert_close(ours[-1], twin[-1], X)


def test_lloyd_step_of_ties_takes_the_first_center():
    grid = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0))).reshape(2, -1)
    packed, *blocks = arranged(grid)
    centers = np.array([[30.0, 20.0], [10.0, 20.0], [20.0, 30.0], [20.0, 10.0]])
    (_, ours), (_, twin) = both(
        kmeans.lloyd_step, packed, *blocks, centers, np.zeros((4, 3))
    )
    np.testing.assert_array_equal(ours[-1], twin[-1])


def test_lloyd_step_loses_no_column_of_huge_values():
    with np.errstate(all="ignore"):
        packed, *blocks = arranged(np.array([[1e200, -1e200, 3e200, 1.0] * 40]))
        sums = np.zeros((2, 2))
        kmeans.lloyd_step(packed, *blocks, np.array([[0.0], [1e200]]), sums)
    assert sums[:, 1].sum() == 160


@pytest.mark.parametrize("weighted", [False, True])
def test_lloyd_step_sums_depend_on_labels_alone(weighted):
    X = np.ascontiguousarray(tumor(1000).T)
    packed, *blocks = arranged(X, weigh(X) if weighted else None)
    sums, again = np.zeros((3, 3)), np.zeros((3, 3))
    centers = some_columns(X, 3)
    kmeans.lloyd_step(packed, *blocks, centers, sums)
    kmeans.lloyd_step(packed, *blocks, centers * (1 + 1e-9), again)  # same labels
    assert sums.tobytes() == again.tobytes()


def test_kmeans_plusplus(X, weight):
    uniform = np.random.default_rng(0).random((K, 3))
    centers = np.zeros((K, X.shape[0]))
    (ours, args), (twin, twin_args) = both(
        kmeans.kmeans_plusplus, X, weight, uniform, centers
    )
    assert ours == twin
    np.testing.assert_array_equal(args[-1], twin_args[-1])
    assert len(np.unique(args[-1][:ours], axis=0)) == ours


@pytest.mark.parametrize("n", [1, 7, 200])
@pytest.mark.parametrize("k", [1, 3, 9])
def test_separation(n, k):
    rng = np.random.default_rng(n)
    X = np.ascontiguousarray(tumor(n + 2)[:n].T)
    labels = rng.integers(0, k, n).astype(np.uint8)
    out = np.zeros(k, np.int64), np.zeros((k, 2)), np.zeros(k), np.zeros(k)
    (ours, args), (twin, twin_args) = both(separation, X, labels, *out)
    assert ours == pytest.approx(twin, rel=1e-10, abs=1e-10)
    for got, want in zip(args[2:], twin_args[2:], strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14)


# --- compiling ------------------------------------------------------------------------


def run_copy(folder, code, **environment):
    """Run code in a process that imports a copy of the kernels named `copied`."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "COV"))}
    env |= {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")}
    env |= {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.fixture
def copied(tmp_path):
    (tmp_path / "copied").mkdir()
    shutil.copy(FOLDER / "_jit.py", tmp_path / "copied" / "_jit.py")
    (tmp_path / "copied" / "__init__.py").write_text("")
    return tmp_path


CODE = "from copied._jit import _probe, cache_folder; print(cache_folder(), _probe())"


def test_machine_code_is_kept_beside_the_kernels(copied):
    folder, result = run_copy(copied, CODE)
    assert (Path(folder), result) == (copied / "copied" / "__pycache__", "0")
    assert list(Path(folder).glob("*.nbi"))


def test_kernels_compile_where_no_folder_is_writable(copied):
    # root may write anywhere, so files stand where the folders would be made
    (copied / "copied" / "__pycache__").write_text("")
    (copied / "cache").write_text("")
    assert run_copy(copied, CODE) == ["None", "0"]


def test_kernels_run_without_compiling(copied):
    assert run_copy(copied, CODE, NUMBA_DISABLE_JIT="1") == ["None", "0"]


def test_the_cache_folder_is_that_of_the_kernels(monkeypatch):
    folder = _jit.cache_folder()
    assert folder is None or Path(folder).is_dir()
    monkeypatch.setattr(_jit, "_probe", len)  # as without compiling
    assert _jit.cache_folder() is None


def test_jit_does_without_a_cache(monkeypatch):
    def njit(**flags):
        if flags.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: (function, flags)

    monkeypatch.setattr(_jit, "njit", njit)
    function, flags = _jit.jit(len)
    assert function is len
    assert flags["nogil"]
    assert flags["fastmath"] == {"reassoc", "contract", "nsz"}


def test_threads_follow_the_environment(monkeypatch):
    monkeypatch.setenv("HABITAT_NUM_THREADS", " 3 ")
    assert _jit.threads() == 3
    monkeypatch.delenv("HABITAT_NUM_THREADS")
    assert 1 <= _jit.threads() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert _jit.threads() == os.cpu_count()


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_threads_refuse_nonsense(monkeypatch, value):
    monkeypatch.setenv("HABITAT_NUM_THREADS", value)
    with pytest.raises(ValueError, match="HABITAT_NUM_THREADS: must be a whole number"):
        _jit.threads()


def test_a_worker_process_uses_one_thread(monkeypatch):
    monkeypatch.delenv("HABITAT_NUM_THREADS", raising=False)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        assert pool.submit(_jit.threads).result() == 1
