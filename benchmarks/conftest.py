"""Collect the ratios of a run and print them as one table at its end."""

from collections.abc import Callable

import pytest

_rows: list[tuple[int, dict[str, float]]] = []


@pytest.fixture
def record_ratios() -> Callable[[int, dict[str, float]], None]:
    def record(subscribers: int, found: dict[str, float]) -> None:
        _rows.append((subscribers, found))

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _rows:
        return
    terminalreporter.section("plain asyncio over Kaamos, CPU a forwarded packet (same run, interleaved)")
    names = list(_rows[0][1])
    terminalreporter.line("| subscribers | " + " | ".join(names) + " |")
    terminalreporter.line("|---|" + "---|" * len(names))
    for subscribers, found in _rows:
        cells = " | ".join(f"{found[name]:.1f}" for name in names)
        terminalreporter.line(f"| {subscribers} | {cells} |")
