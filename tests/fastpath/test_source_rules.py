"""What a chapter of the native module may contain; the compiler does not enforce it.

``raise``, ``assert`` and ``with gil`` compile inside a ``noexcept nogil`` function and take the GIL at run
time, and a missing ``noexcept`` is only a performance hint. So the sources are read here. In
``settings.pxi``, ``values.pxi``, ``api.pxi`` and ``probe.pxi`` Python and C meet, so most rules spare
them; ``externs.pxi`` alone declares and holds C text.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
TRUNK = CHECKOUT / "kaamos" / "_fastpath.pyx"
CHAPTERS = sorted((CHECKOUT / "kaamos" / "fastpath").glob("*.pxi"))
PYTHON_SIDE = frozenset({"api.pxi", "probe.pxi", "settings.pxi", "values.pxi"})
C_SIDE = "externs.pxi"

C_TYPE = r"(?:u?int(?:\d+_t|ptr_t)?|size_t|ssize_t|char|short|long|float|double)"
FORBIDDEN = {
    "an exception": r"\b(?:raise|assert|try|except|finally)\b(?!\s*\()",
    "an import": r"\b(?:import|cimport|include)\b",
    "printing": r"\bprint\s*\(",
    "allocation": r"\b(?:malloc|calloc|realloc|free|PyMem_\w+|PyObject_\w+)\s*\(",
    "the GIL": r"\bwith\s+(?:no)?gil\b",
    "a Python object": r"\bcdef\s+(?:object|list|dict|tuple|set|str|bytes|bytearray)\b|[(,]\s*object\b",
    "Python code": r"^\s*(?:def|cpdef|class|cdef\s+class|async|lambda|yield|del)\b",
}
EVERYWHERE = {"a memoryview": rf"\b{C_TYPE}\s*\[\s*:"}
C_TEXT = {"C declarations": r"\bcdef\s+extern\b"}

STRING_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""'
    + r"|'''(?:\\.|[^\\])*?'''"
    + r'|"(?:\\.|[^"\\\n])*"'
    + r"|'(?:\\.|[^'\\\n])*'"
    + r"|#[^\n]*",
    re.DOTALL,
)


def logical_lines(source: str) -> Iterator[tuple[int, str]]:
    """Yield (first line number, text) without comments and string contents, brackets joined into one line."""
    bare = STRING_OR_COMMENT.sub(lambda m: '""' + "\n" * m[0].count("\n") if m[0][0] != "#" else "", source)
    held, start, depth = "", 0, 0
    for number, line in enumerate(bare.split("\n"), 1):
        start = start if held else number
        held += line
        depth += sum(map(line.count, "([{")) - sum(map(line.count, ")]}"))
        if depth <= 0:
            if held.strip():
                yield start, held
            held, depth = "", 0


def is_function(line: str) -> bool:
    if not re.match(r"\s*(?:cdef|cpdef|def)\b", line) or not line.rstrip().endswith(":"):
        return False
    return "(" in line and not re.match(r"\s*cdef\s+(?:extern|class|(?:packed\s+)?struct|union|enum)\b", line)


def complaints(name: str, source: str) -> Iterator[str]:
    """Yield what is wrong with a chapter called ``name``."""
    rules = dict(EVERYWHERE)
    if name != C_SIDE:
        rules |= C_TEXT
        if name not in PYTHON_SIDE:
            rules |= FORBIDDEN
    for number, line in logical_lines(source):
        yield from (
            f"{name}:{number} has {what}" for what, pattern in rules.items() if re.search(pattern, line)
        )
        is_native = name != C_SIDE and name not in PYTHON_SIDE
        if is_native and is_function(line) and not re.search(r"\)\s*noexcept\s+nogil\s*:\s*$", line):
            yield f"{name}:{number} has a function that is not noexcept nogil"


def compile_complaints(source: Path, output: Path) -> str:
    """Return what the Cython compiler says about a module; silence is what we want."""
    command = [sys.executable, "-m", "cython", "-3", "-X", "freethreading_compatible=True", "-o", str(output)]
    result = subprocess.run(
        [*command, str(source)], capture_output=True, text=True, cwd=source.parent, timeout=300
    )
    return result.stdout + result.stderr


GOOD = '''
# raise, malloc( and with gil are only words in a comment
cdef enum:
    SIZE = 4

cdef inline uint64_t seq_extend(uint64_t newest,
                                uint16_t seq) noexcept nogil:
    """Never raise, never print(x)."""
    return newest + <int16_t>(seq - <uint16_t>newest)


cdef (bint, int) packet_write(Packet *p, const uint8_t *data) noexcept nogil:
    cdef int (*handler)(int) noexcept nogil
    if p.free_cells == 0:
        return False, 0
    return True, data[0]
'''

PLANTED = [
    ("wire.pxi", "cdef int f(int x) nogil:\n    return x", "not noexcept nogil"),
    ("wire.pxi", "cdef int f(int x) noexcept:\n    return x", "not noexcept nogil"),
    ("wire.pxi", "cdef int f(\n    int x,\n) except -1 nogil:\n    return x", "not noexcept nogil"),
    ("wire.pxi", "cdef int f() noexcept nogil:\n    raise ValueError", "an exception"),
    ("wire.pxi", "cdef int f() noexcept nogil:\n    assert x > 0", "an exception"),
    ("wire.pxi", "cdef int f() noexcept nogil:\n    with gil:\n        pass", "the GIL"),
    ("wire.pxi", "cdef int f() noexcept nogil:\n    print(1)", "printing"),
    ("wire.pxi", "cdef int f() noexcept nogil:\n    p = malloc(4)", "allocation"),
    ("wire.pxi", "cdef int f() noexcept nogil:\n    free(p)", "allocation"),
    ("wire.pxi", "from libc.string cimport memcpy", "an import"),
    ("wire.pxi", "import os", "an import"),
    ("wire.pxi", "cdef int f() noexcept nogil:\n    cdef bytes b", "a Python object"),
    ("wire.pxi", "cdef int f(object x) noexcept nogil:\n    return 0", "a Python object"),
    ("wire.pxi", "cdef int f(uint8_t[:] x) noexcept nogil:\n    return 0", "a memoryview"),
    ("api.pxi", "def f(const uint8_t[::1] x):\n    return 0", "a memoryview"),
    ("wire.pxi", "cdef class Packet:\n    cdef int x", "Python code"),
    ("wire.pxi", "cdef extern from *:\n    int f(int x) nogil", "C declarations"),
    ("api.pxi", 'cdef extern from "errno.h":\n    int errno', "C declarations"),
]


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.name)
def test_the_chapter_keeps_the_rules(chapter: Path) -> None:
    assert list(complaints(chapter.name, chapter.read_text())) == []


@pytest.mark.parametrize(("name", "source", "expected"), PLANTED)
def test_a_planted_violation_is_found(name: str, source: str, expected: str) -> None:
    found = list(complaints(name, source))
    assert any(expected in complaint for complaint in found), found


def test_a_good_chapter_is_not_complained_about() -> None:
    assert list(complaints("wire.pxi", GOOD)) == []


def test_the_python_side_may_raise_and_allocate() -> None:
    assert (
        list(
            complaints("api.pxi", "def f(x):\n    if not x:\n        raise ValueError\n    return malloc(4)")
        )
        == []
    )


def test_every_chapter_is_included_once() -> None:
    sources = TRUNK.read_text() + TRUNK.with_suffix(".pxd").read_text()
    included = re.findall(r'^include "fastpath/(\w+\.pxi)"', sources, re.MULTILINE)
    assert sorted(included) == [chapter.name for chapter in CHAPTERS]


def test_cython_has_no_hint_and_no_warning_about_the_module(tmp_path: Path) -> None:
    assert compile_complaints(TRUNK, tmp_path / "fastpath.c") == ""


def test_a_planted_performance_hint_is_reported(tmp_path: Path) -> None:
    source = tmp_path / "planted.pyx"
    source.write_text("cdef void f() nogil:\n    pass\n\ndef g():\n    f()\n")
    assert "performance hint" in compile_complaints(source, tmp_path / "planted.c")
