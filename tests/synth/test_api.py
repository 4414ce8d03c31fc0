"""What `import synth` gives, and what it leaves alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import synth


def run(code: str) -> str:
    """Standard output of code in a fresh process."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_every_name_is_listed_and_there() -> None:
    assert sorted(dir(synth)) == sorted(synth.__all__)
    for name in synth.__all__:
        assert getattr(synth, name) is not None


def test_type_checkers_see_the_names_that_are_there() -> None:
    stub = ast.parse(Path(synth.__file__).with_suffix(".pyi").read_text())
    (listed,) = (node.value for node in stub.body if isinstance(node, ast.Assign))
    assert ast.literal_eval(listed) == synth.__all__
    assert Path(synth.__file__).with_name("py.typed").is_file()


def test_import_loads_no_large_library() -> None:
    large = {"numpy", "cv2", "torch", "scipy", "pydantic", "click", "matplotlib"}
    loaded = run("import sys, synth; print(*(name.partition('.')[0] for name in sys.modules))")
    assert not large & set(loaded.split())


@pytest.mark.parametrize("library", ["torch", "pydantic", "click", "yaml", "matplotlib"])
def test_using_every_name_loads_no_library_of_the_other_packages(library: str) -> None:
    code = "import sys, synth; [getattr(synth, name) for name in synth.__all__]"
    assert run(f"{code}; print({library!r} in sys.modules)") == "False\n"


def test_import_changes_nothing_of_opencv() -> None:
    state = "print(cv2.getNumThreads(), cv2.utils.logging.getLogLevel())"
    before, after = run(f"import cv2; {state}; import synth; {state}").splitlines()
    assert before == after


def test_import_is_quick() -> None:
    code = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    ours, libraries = (
        min(float(run(code.format(names))) for _ in range(3)) for names in ("synth", "numpy, cv2")
    )
    assert ours <= 1.2 * libraries
