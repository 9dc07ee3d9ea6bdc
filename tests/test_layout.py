"""The layout promised to a newcomer holds: who imports whom, one door each, and nothing hidden.

Every rule is a function from modules to complaints, so that a planted violation can prove it is able to fail.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = CHECKOUT / "kaamos"

# Each may import those to its right and the foundation; the foundation only itself.
LAYERS = ("__main__", "server", "signaling", "room", "rtc", "media", "_fastpath")
FOUNDATION = frozenset({"errors", "events", "config"})

# Each library lives behind one module or folder.
DOORS = {
    "aiortc": ("rtc.dtls", "rtc.sctp"),
    "aioice": ("rtc.ice",),
    "aiohttp": ("signaling",),
    "kaamos._fastpath": ("media.engine",),
}

SANS_IO = frozenset(
    {
        "signaling.frames",
        "signaling.messages",
        "signaling.session",
        "signaling.turn",
        "signaling.auth",
        "room.slots",
        "room.allocation",
        "room.speakers",
        "rtc.sdp",
        "rtc.application",
        "rtc.channel",
        "rtc.sctp_packet",
        "rtc.capabilities",
        "rtc.negotiation",
    }
)
IO_MODULES = frozenset(
    {"asyncio", "socket", "time", "random", "threading", "select", "selectors", "subprocess"}
)

MAX_LINES = {".py": 600, ".pyx": 600, ".pyi": 600, ".js": 600, ".css": 600, ".pxi": 500}

# Import names whose distribution is called otherwise.
DISTRIBUTIONS = {"OpenSSL": "pyopenssl", "yaml": "pyyaml"}


@dataclass(frozen=True)
class Module:
    name: str  # dotted, below kaamos: "rtc.sdp"; a package is named by its folder, the top one is ""
    source: str

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.source)

    @property
    def layer(self) -> str:
        return self.name.partition(".")[0]


Rule = Callable[[Iterable[Module]], Iterator[str]]


def package_modules() -> list[Module]:
    modules = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        modules.append(Module(name, path.read_text()))
    return modules


def imported_names(module: Module) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything a module imports, relative imports resolved."""
    is_package = (PACKAGE / module.name.replace(".", "/")).is_dir()
    package = ["kaamos", *filter(None, module.name.split("."))]
    if not is_package:
        package.pop()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *filter(None, [node.module])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def is_within(name: str, parents: Iterable[str]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


def wrong_directions(modules: Iterable[Module]) -> Iterator[str]:
    rank = {layer: place for place, layer in enumerate(LAYERS)}
    for module in modules:
        if module.name == "":
            continue  # the package itself only gathers public names
        for line, name in imported_names(module):
            if not name.startswith("kaamos."):
                continue
            target = name.split(".")[1]
            if target in FOUNDATION or target == module.layer:
                continue
            if module.layer in FOUNDATION or rank.get(target, -1) < rank.get(module.layer, len(rank)):
                yield f"{module.name}:{line} imports {name}, which is above it"


def side_doors(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        for line, name in imported_names(module):
            for library, doors in DOORS.items():
                if is_within(name, [library]) and not is_within(module.name, doors):
                    yield f"{module.name}:{line} imports {library}, whose only door is {doors[0]}"


def io_in_sans_io(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        if module.name in SANS_IO:
            for line, name in imported_names(module):
                if name.partition(".")[0] in IO_MODULES:
                    yield f"{module.name}:{line} is sans-IO and imports {name}"


def environment_readers(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        if module.name == "config":
            continue
        for node in ast.walk(module.tree):
            name = getattr(node, "attr", None) or getattr(node, "id", None)
            if isinstance(node, ast.Attribute | ast.Name) and name in ("environ", "environb", "getenv"):
                yield f"{module.name}:{node.lineno} reads the environment; only config may"


def broad_catches(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        if module.name == "server":
            continue
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = (
                {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)}
                if node.type
                else {"everything"}
            )
            if caught & {"everything", "Exception", "BaseException"}:
                yield f"{module.name}:{node.lineno} catches {', '.join(sorted(caught))}; only server may"


def empty_modules(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        if (PACKAGE / module.name.replace(".", "/")).is_dir():
            continue  # the __init__ that makes a folder a package
        body = [
            node
            for node in module.tree.body
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
            and not isinstance(node, ast.Pass)
        ]
        if not body:
            yield f"{module.name} holds nothing"


def vague_names(modules: Iterable[Module]) -> Iterator[str]:
    for module in modules:
        if re.fullmatch(r"(utils?|helpers?|common|misc)", module.name.rpartition(".")[2]):
            yield f"{module.name} is named after nothing"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Helper|Utils?|Base)$", node.name):
                yield f"{module.name}:{node.lineno} class {node.name} is named after nothing"


def undeclared(modules: Iterable[Module], *, extra: str = "") -> Iterator[str]:
    """Complain about imports that installing the package, with or without an extra, does not bring."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    requirements = project["dependencies"] + (project["optional-dependencies"][extra] if extra else [])
    declared = {re.split(r"[^A-Za-z0-9_-]", text)[0].lower() for text in requirements}
    ours = {"kaamos", "tests", "benchmarks"} | sys.stdlib_module_names
    for module in modules:
        for line, name in imported_names(module):
            top = name.partition(".")[0]
            if top not in ours and DISTRIBUTIONS.get(top, top).lower() not in declared:
                yield f"{module.name}:{line} imports {top}, which pyproject.toml does not declare"


def undeclared_dependencies(modules: Iterable[Module]) -> Iterator[str]:
    return undeclared(modules)


RULES: tuple[Rule, ...] = (
    wrong_directions,
    side_doors,
    io_in_sans_io,
    environment_readers,
    broad_catches,
    empty_modules,
    vague_names,
    undeclared_dependencies,
)

PLANTED = [
    (wrong_directions, "media.rtcp", "from kaamos.room.room import Room"),
    (wrong_directions, "rtc.sdp", "from ..signaling import app"),
    (wrong_directions, "errors", "import kaamos.media.engine"),
    (wrong_directions, "signaling.app", "if TYPE_CHECKING:\n    from kaamos.server import Server"),
    (wrong_directions, "room.room", "import kaamos.invented"),
    (side_doors, "rtc.transport", "from kaamos import _fastpath"),
    (side_doors, "media.stats", "from .. import _fastpath"),
    (side_doors, "rtc.ice", "import aiortc"),
    (side_doors, "rtc.dtls", "def late():\n    from aioice import stun"),
    (side_doors, "server", "from aiohttp import web"),
    (io_in_sans_io, "rtc.sdp", "import asyncio"),
    (io_in_sans_io, "signaling.session", "from time import monotonic"),
    (environment_readers, "media.engine", "import os\nHOME = os.environ['HOME']"),
    (environment_readers, "server", "from os import getenv\nHOME = getenv('HOME')"),
    (broad_catches, "room.room", "try:\n    pass\nexcept Exception:\n    pass"),
    (broad_catches, "room.room", "try:\n    pass\nexcept (ValueError, BaseException):\n    pass"),
    (broad_catches, "room.room", "try:\n    pass\nexcept:\n    pass"),
    (empty_modules, "room.slots", '"""Slots will come."""\npass'),
    (vague_names, "rtc.utils", "X = 1"),
    (vague_names, "room.room", "class RoomManager:\n    x = 1"),
    (undeclared_dependencies, "room.room", "import requests"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    assert list(rule(package_modules())) == []


@pytest.mark.parametrize(("rule", "name", "source"), PLANTED)
def test_a_planted_violation_is_found(rule: Rule, name: str, source: str) -> None:
    assert len(list(rule([Module(name, source)]))) == 1


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


def test_no_source_file_is_longer_than_its_ceiling() -> None:
    sources = [
        *PACKAGE.rglob("*"),
        *(CHECKOUT / "tests").rglob("*.py"),
        *(CHECKOUT / "benchmarks").rglob("*.py"),
    ]
    too_long = [
        f"{path.relative_to(CHECKOUT)}: {lines} lines"
        for path in sources
        if path.suffix in MAX_LINES and (lines := path.read_text().count("\n")) > MAX_LINES[path.suffix]
    ]
    assert too_long == []


def test_the_test_extra_brings_what_the_tests_import() -> None:
    paths = [*(CHECKOUT / "tests").rglob("*.py"), *(CHECKOUT / "benchmarks").rglob("*.py")]
    others = CHECKOUT / "tests/support/peers"  # drivers of other stacks, run by the Python that has those
    modules = [
        Module(path.relative_to(CHECKOUT).as_posix(), path.read_text())
        for path in paths
        if path.parent != others
    ]
    assert list(undeclared(modules, extra="test")) == []


def test_the_packages_are_listed_and_the_chapters_are_none_of_them() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    packages = {".".join(path.parent.relative_to(CHECKOUT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert set(project["tool"]["setuptools"]["packages"]) == packages
    assert "kaamos.fastpath" not in packages
