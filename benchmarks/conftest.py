"""Collect the ratios of a run and print them as one table at its end."""

from collections.abc import Callable

import pytest

_rows: list[tuple[int, dict[str, float]]] = []
_notes: list[str] = []


@pytest.fixture
def record_ratios() -> Callable[[int, dict[str, float]], None]:
    def record(subscribers: int, found: dict[str, float]) -> None:
        _rows.append((subscribers, found))

    return record


@pytest.fixture
def record_note() -> Callable[[str], None]:
    """Keep a line to be printed at the end."""
    return _notes.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _notes:
        terminalreporter.section("ratios (same run, interleaved)")
    for note in _notes:
        terminalreporter.line(note)
    if not _rows:
        return
    terminalreporter.section("plain asyncio over Kaamos, CPU a forwarded packet (same run, interleaved)")
    names = list(_rows[0][1])
    terminalreporter.line("| subscribers | " + " | ".join(names) + " |")
    terminalreporter.line("|---|" + "---|" * len(names))
    for subscribers, found in _rows:
        cells = " | ".join(f"{found[name]:.1f}" for name in names)
        terminalreporter.line(f"| {subscribers} | {cells} |")
