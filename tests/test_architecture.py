"""What importing costs, and which rooms of the house know each other."""

import ast
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import habitat

PACKAGE = Path(habitat.__file__).parent
HEAVY = {"sklearn", "pandas", "matplotlib", "numba", "SimpleITK", "radiomics"}


def modules_after(code):
    """Top-level modules that a new process has loaded after running `code`."""
    tail = (
        "import sys, json;"
        "print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"{code}\n{tail}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=PACKAGE.parent,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_habitat_loads_nothing_heavy():
    assert not modules_after("import habitat") & (HEAVY | {"numpy", "scipy"})


def test_the_help_of_the_command_line_loads_nothing_heavy():
    code = "from habitat.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass"
    assert not modules_after(code) & HEAVY


def test_segmenting_loads_neither_scikit_learn_nor_matplotlib():
    code = "import habitat as h; p = h.phantom(); h.segment(p.pet, p.ct, p.mask)"
    assert not modules_after(code) & {"sklearn", "matplotlib", "pandas", "radiomics"}


def cpu_seconds(*command):
    """User and system time of a process, the better of three."""
    best = float("inf")
    for _ in range(3):
        before = os.times()
        subprocess.run(command, check=True, capture_output=True, cwd=PACKAGE.parent)
        after = os.times()
        spent = after.children_user + after.children_system
        best = min(best, spent - before.children_user - before.children_system)
    return best


def test_importing_and_help_are_quick():
    # 0.15 s and 0.5 s of CPU time on a quiet machine; twice that under load
    bare = cpu_seconds(sys.executable, "-c", "pass")
    assert cpu_seconds(sys.executable, "-c", "import habitat") - bare < 0.3
    assert cpu_seconds(sys.executable, "-m", "habitat", "--help") < 1.0


def test_no_module_bears_the_name_of_a_public_function():
    modules = {p.stem for p in PACKAGE.rglob("*.py")} | {
        p.parent.name for p in PACKAGE.rglob("__init__.py")
    }
    packages = {n for n in habitat.__all__ if inspect.ismodule(getattr(habitat, n))}
    assert packages == {
        *("classifiers", "clustering", "cohort", "errors", "evaluation", "features"),
        *("maps", "mil", "reliability", "reports", "selection", "training"),
    }
    assert not modules & (set(habitat.__all__) - packages)


# tasks go from a process to the workers it started itself, and never from a file
PIPES = {"_pool.py", "_worker.py"}


def test_nothing_prints_unpickles_or_reads_the_environment_elsewhere():
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            text = ast.unparse(node) if isinstance(node, ast.Call) else ""
            assert not text.startswith(("print(", "joblib.")), path
            assert not text.startswith("pickle.") or path.name in PIPES, path
            assert not text.startswith(("logging.basicConfig", "yaml.load(")), path
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ":
                # the pool hands it on to its workers
                assert path.name in ("_jit.py", "_pool.py"), path
