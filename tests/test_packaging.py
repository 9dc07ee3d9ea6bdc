"""What is shipped can be built: the source archive holds the Cython sources, not the C made of them."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[1]
SHIPPED = (
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names in a source archive made of a copy, so that the checkout stays as it is."""
    copy = tmp_path_factory.mktemp("copy")
    for name in SHIPPED:
        shutil.copy(CHECKOUT / name, copy)
    shutil.copytree(CHECKOUT / "kaamos", copy / "kaamos", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "build",
        "--sdist",
        "--no-isolation",
        "--outdir",
        str(copy / "out"),
        str(copy),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    (made,) = (copy / "out").glob("kaamos-*.tar.gz")
    with tarfile.open(made) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


def test_the_source_archive_holds_every_source_of_the_package(archive: set[str]) -> None:
    sources = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "kaamos").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".c", ".html")
    } | {"kaamos/web/index.html"}
    assert sources - archive == set()


def test_the_source_archive_holds_nothing_that_was_built(archive: set[str]) -> None:
    assert [name for name in archive if name.endswith((".c", ".so", ".o", ".pyc"))] == []


def test_another_platform_is_told_in_one_sentence() -> None:
    lie = "import platform, runpy; platform.machine = lambda: 'riscv64'; "
    run = "runpy.run_path('setup.py', run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", lie + run], capture_output=True, text=True, cwd=CHECKOUT)
    assert result.returncode == 1
    assert result.stderr.startswith("Kaamos builds on Linux on x86_64 and aarch64 only")
    assert result.stderr.count("\n") == 1
