"""Says aloud when there is no oracle to compare with: a skipped comparison must not look like a passed one."""

import importlib.util

import pytest

NOT_HERE = (
    "the comparison with ByzFL was SKIPPED, since byzfl is not installed: pip install -r tests/requirements-oracle.txt"
)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if importlib.util.find_spec("byzfl") is None:
        terminalreporter.write_line(f"tests/oracle: {NOT_HERE}", yellow=True)
