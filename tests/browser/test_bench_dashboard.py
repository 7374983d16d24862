"""`cli.py bench dashboard` on a small run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.integration.site import cli


@pytest.mark.timeout(600)
def test_the_page_is_measured_beside_an_empty_one(tmp_path: Path, browser: Browser) -> None:
    assert browser.is_connected()
    small = ("--workers", 5, "--rounds", 2, "--repeats", 1, "--updates", 1, "--beside", 0)
    ran = cli(tmp_path, "bench", "dashboard", *small, "--json", wait_s=500)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert {"bench", "machine", "settings", "samples", "ours", "reference", "ratio", "meaning"} <= set(document)
    assert {name: len(values) for name, values in document["samples"].items()} == {
        "painted": 1,
        "shown": 1,
        "empty": 1,
        "update": 1,
        "new_round": 5,
    }
    assert document["processor"] is None
    assert document["ratio"] == document["ours"] / document["reference"]
