"""The page's JavaScript keeps the types that its JSDoc comments promise."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

WEB = Path(__file__).resolve().parents[2] / "kaamos" / "web"
STRICT = ["--noEmit", "--allowJs", "--checkJs", "--strict", "--noUnusedLocals", "--noUnusedParameters"]
PLATFORM = [
    "--target",
    "es2022",
    "--module",
    "es2022",
    "--moduleResolution",
    "bundler",
    "--lib",
    "es2023,dom,dom.iterable",
]


def type_check(source: Path) -> subprocess.CompletedProcess[str]:
    """Run the TypeScript compiler as a checker; without one skip, or fail if ``KAAMOS_REQUIRE_TSC=1``."""
    compiler = shutil.which("tsc")
    if compiler is None:
        if os.environ.get("KAAMOS_REQUIRE_TSC") == "1":
            pytest.fail("KAAMOS_REQUIRE_TSC=1, but there is no tsc on PATH")
        pytest.skip("no TypeScript compiler (tsc) on PATH: npm install --global typescript")
    command = [compiler, *STRICT, *PLATFORM, str(source)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_the_page_keeps_its_types() -> None:
    result = type_check(WEB / "app.js")
    assert (result.returncode, result.stdout) == (0, "")


def test_a_wrong_type_would_be_found(tmp_path: Path) -> None:
    source = tmp_path / "wrong.js"
    source.write_text("/** @param {number} x */\nexport function f(x) {\n  return x.length;\n}\n")
    assert "TS2339" in type_check(source).stdout
