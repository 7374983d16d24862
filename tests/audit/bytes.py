"""Changes single bytes of a finished run, at random, and counts which of them `runs verify` finds, and how.

`python -m tests.audit.bytes --changes 1000` changes as many.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from fednet.audit.findings import Finding
from fednet.audit.run_files import FoundModel
from fednet.commands.verify import read_model
from fednet.coordinator.inspection import inspect
from fednet.storage.seal import SEAL, files_now
from tests.audit.finished import Site, make_run


@dataclass
class Tally:
    """What became of the changes."""

    unseen: list[str] = field(default_factory=list)  # "file at offset: byte -> byte"
    found: Counter[str] = field(default_factory=Counter)  # by the kind of file: changes
    named: Counter[str] = field(default_factory=Counter)  # ... that were named by round and field too
    kinds: Counter[str] = field(default_factory=Counter)  # findings, by what they say


def change_bytes(site: Site, *, changes: int, seed: int) -> Tally:
    """Change one random byte after another, each put back after the check; of every file that is covered."""
    site = Site(Path(shutil.copytree(site.folder, site.folder.with_name("changed"))))  # no file is a link of another
    choice, tally = random.Random(seed), Tally()
    names = [*files_now(site.run), SEAL]
    models = {path: read_model(path) for path in site.run.rglob("*.pth")}  # of those that are as they were
    for _ in range(changes):
        name = choice.choice(names)
        path = site.run / name
        offset, other = choice.randrange(path.stat().st_size), choice.randrange(1, 256)
        with changed(path, offset, other):
            findings = inspect(
                site.run,
                read_model=partial(_read, models, path),
                check_signature=site.check,
            ).findings
        if any(each.file == name or each.round is not None for each in findings):
            _count(tally, name, findings)
        else:
            tally.unseen.append(f"{name} at {offset}, xor {other}")
    return tally


def _read(models: Mapping[Path, FoundModel], altered: Path, path: Path) -> FoundModel:
    return read_model(path) if path == altered else models[path]


@contextmanager
def changed(path: Path, offset: int, difference: int) -> Iterator[None]:
    """Change one byte for as long as the block lasts."""
    content = bytearray(path.read_bytes())
    content[offset] ^= difference
    path.write_bytes(content)
    try:
        yield
    finally:
        content[offset] ^= difference
        path.write_bytes(content)


def _count(tally: Tally, name: str, findings: tuple[Finding, ...]) -> None:
    kind = re.sub(r"\d+", "N", name)
    tally.found[kind] += 1
    tally.named[kind] += any(each.field is not None or each.round is not None for each in findings)
    tally.kinds.update({_kind_of(each) for each in findings})


def _kind_of(finding: Finding) -> str:
    """Return a finding's text without what differs from run to run."""
    return re.sub(r"\d+", "N", f"{finding.file or 'record'}: {finding.field or finding.found}")


def main() -> int:
    """Change bytes of a run that is made for it; return 1 if one was not seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = make_run(Path(folder) / "site")
        began = time.perf_counter()
        tally = change_bytes(site, changes=asked.changes, seed=asked.seed)
        seconds = time.perf_counter() - began
    for kind, count in sorted(tally.found.items()):
        print(f"{kind}: {count} found, {tally.named[kind]} of them named beside the file's own change")
    for kind, count in tally.kinds.most_common():
        print(f"  {count} x {kind}")
    for unseen in tally.unseen:
        print(f"NOT SEEN: {unseen}")
    print(f"{asked.changes} changes, {len(tally.unseen)} not seen, {seconds:.1f} s")
    return 1 if tally.unseen else 0


if __name__ == "__main__":
    sys.exit(main())
