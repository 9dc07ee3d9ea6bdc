"""The stub that type checkers read agrees with the module that was built."""

import os
import subprocess
import sys
from pathlib import Path

import kaamos

# What Cython itself leaves in every module.
CYTHON_NAMES = r"kaamos\._fastpath\.__(test|reduce_cython|setstate_cython)__"


def test_the_stub_says_what_the_module_has(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(CYTHON_NAMES + "\n")
    command = [sys.executable, "-m", "mypy.stubtest", "kaamos._fastpath", "--ignore-unused-allowlist"]
    result = subprocess.run(
        [*command, "--allowlist", str(allowed)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(kaamos.__file__).parent.parent),
            "MYPY_CACHE_DIR": str(tmp_path),
        },
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
