"""Every state that a power loss can leave of a folder, from a record of what the storage code did to it.

In the manner of ALICE (Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014). The model, which allows
more than any one file system does:

- A file has content, a folder has names. What changed since the last sync of that file, or of that folder, may have
  reached the disk or not: each change by itself, in any order. A file's sync makes no name durable, its own neither.
- A write may also be torn: a head or a tail of it is there, the rest is as it was, or zeros where the file had grown
  already, or not there at all. Allocating and truncating are there or not.
- To create, link, unlink or rename is one change of one folder: a rename gives the old name and the new in one step,
  so that the file is never under both, nor under neither. Between two names of one file it does nothing (rename(2)).
- Removing a folder unlinks each name in it, and then its own.
- A folder that was made behind `fednet.storage.disk`'s back was made when it is first used, and its name never synced.
- A SQLite commit is atomic, and durable once it has returned; what became of the database lies in its folder.

A power loss is tried before and after every operation. The changes that are not durable there are combined in all ways
where these are at most `MOST_STATES`; where they are more, that many of them: all but each, each alone, each torn and
all others whole or missing, and a sample of the rest with a fixed seed. States that are equal count once.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path, PurePath
from typing import Generic, TypeVar

from fednet.errors import FednetError
from fednet.storage import disk
from fednet.storage.disk import Kind, Operation

MOST_STATES = 2**9  # of one point: so that a whole round with its few dozen points stays within seconds
_SEED = 2014
_ROOT = 0

Names = dict[str, int]
"""A folder's content: name -> inode."""

T = TypeVar("T")


@dataclass
class _Inode(Generic[T]):
    """What is durable of a file or folder, and how each change since may end: first missing, then whole, then torn."""

    durable: T
    unsynced: list[tuple[Callable[[T], T], ...]] = field(default_factory=list)

    def after(self, endings: Sequence[int]) -> T:
        """Return what is found after a power loss; `endings`: one for each unsynced change."""
        chosen = [ways[ending] for ways, ending in zip(self.unsynced, endings, strict=True)]
        return reduce(lambda content, change: change(content), chosen, self.durable)

    def now(self) -> T:
        """Return what the running process sees."""
        return self.after([1] * len(self.unsynced))

    def sync(self) -> None:
        """Make all changes durable."""
        self.durable = self.now()
        self.unsynced.clear()


def _unchanged(content: T) -> T:
    return content


def _grown(nbytes: int, content: bytes) -> bytes:
    return content.ljust(nbytes, b"\0")


def _cut(nbytes: int, content: bytes) -> bytes:
    return content[:nbytes].ljust(nbytes, b"\0")


def _written(offset: int, data: bytes, size: int, content: bytes) -> bytes:
    """Return the content with `data` in its place; the file then reaches to `size` at least."""
    content = content.ljust(max(offset + len(data), size), b"\0")
    return content[:offset] + data + content[offset + len(data) :]


def _edit(operation: Operation) -> tuple[Callable[[bytes], bytes], ...]:
    """Return how a change of a file's content may end."""
    if operation.kind is Kind.ALLOCATE:
        return _unchanged, partial(_grown, operation.offset)
    if operation.kind is Kind.TRUNCATE:
        return _unchanged, partial(_cut, operation.offset)
    return _unchanged, *_ways_to_write(operation.offset, bytes(operation.data))


def _ways_to_write(offset: int, data: bytes) -> Iterator[Callable[[bytes], bytes]]:
    """Yield: whole; the size alone; heads, with the size and without; tails."""
    end = offset + len(data)
    yield partial(_written, offset, data, end)
    yield partial(_grown, end)
    for cut in _cuts(len(data)):
        yield partial(_written, offset, data[:cut], end)
        yield partial(_written, offset, data[:cut], 0)
        yield partial(_written, offset + cut, data[cut:], end)


def _cuts(nbytes: int) -> list[int]:
    """Return where so many bytes are torn: the first and the last one alone, and about every sixteenth."""
    return sorted({*range(1, nbytes, max(1, nbytes // 16)), nbytes - 1} - {0})


def _named(name: str, inode: int | None, names: Names, *, instead_of: str | None = None) -> Names:
    kept = {each: to for each, to in names.items() if each not in (name, instead_of)}
    return kept if inode is None else kept | {name: inode}


@dataclass(frozen=True)
class CrashState:
    """What a power loss left."""

    folders: tuple[PurePath, ...]  # a folder comes before what is in it
    files: tuple[tuple[PurePath, int, bytes], ...]  # path, inode, content
    database: tuple[PurePath, bytes] | None  # as last committed
    reached: frozenset[str]  # what the code under test had done by then, in its own words: `Recording.mark`
    moment: str = field(compare=False)  # of the power loss, for people

    def lay_out(self, folder: Path) -> None:
        """Make this state in an empty folder."""
        for path in self.folders:
            (folder / path).mkdir()
        first_names: dict[int, Path] = {}
        for path, inode, content in self.files:
            if inode in first_names:
                os.link(first_names[inode], folder / path)
            else:
                first_names[inode] = folder / path
                first_names[inode].write_bytes(content)
        if self.database is not None and (folder / self.database[0]).parent.is_dir():
            (folder / self.database[0]).write_bytes(self.database[1])


class _Disk:
    """The inodes beneath one folder. Paths are relative to it."""

    def __init__(self) -> None:
        self._files: dict[int, _Inode[bytes]] = {}
        self._folders: dict[int, _Inode[Names]] = {_ROOT: _Inode({})}
        self._open: dict[PurePath, int] = {}
        self._numbers = itertools.count(_ROOT + 1)

    def apply(self, operation: Operation) -> None:
        """Do what an operation does, durable or not."""
        path, folder = operation.path, self._folder(operation.path.parent)
        match operation.kind:
            case Kind.CREATE:
                self._open[path] = folder.now().get(path.name) or self._new_file(path)
            case Kind.WRITE | Kind.ALLOCATE | Kind.TRUNCATE:
                self._files[self._open[path]].unsynced.append(_edit(operation))
            case Kind.SYNC:
                self._files[self._open[path]].sync()
            case Kind.MAKE_FOLDER | Kind.SYNC_FOLDER:
                made = self._folder(path)
                if operation.kind is Kind.SYNC_FOLDER:
                    made.sync()
            case Kind.RENAME | Kind.LINK:
                assert operation.target is not None, "a rename or link has a target"
                self._give_name(operation.kind, path, operation.target)
            case Kind.UNLINK | Kind.REMOVE_FOLDER:
                self._remove(path)

    def sync_all(self) -> None:
        """Make everything durable."""
        for file in self._files.values():
            file.sync()
        for folder in self._folders.values():
            folder.sync()

    def endings(self) -> list[int]:
        """Return in how many ways each change that is not durable may end."""
        return [len(ways) for inode in self._inodes() for ways in inode.unsynced]

    def after(self, endings: Sequence[int]) -> tuple[list[PurePath], list[tuple[PurePath, int, bytes]]]:
        """Return the (folders, files) of a power loss in which each change ended in the way given."""
        rest = iter(endings)
        chosen = [list(itertools.islice(rest, len(inode.unsynced))) for inode in self._inodes()]
        contents = {key: file.after(chosen.pop(0)) for key, file in self._files.items()}
        names = {key: folder.after(chosen.pop(0)) for key, folder in self._folders.items()}
        folders: list[PurePath] = []
        files: list[tuple[PurePath, int, bytes]] = []
        beneath = [(PurePath(name), inode) for name, inode in names[_ROOT].items()]
        while beneath:
            path, inode = beneath.pop()
            if inode in names:
                folders.append(path)
                beneath += [(path / name, each) for name, each in names[inode].items()]
            else:
                files.append((path, inode, contents[inode]))
        return folders, sorted(files)

    def _inodes(self) -> Iterator[_Inode[bytes] | _Inode[Names]]:
        yield from self._files.values()
        yield from self._folders.values()

    def _folder(self, path: PurePath) -> _Inode[Names]:
        """Return a folder, made now where it was not there."""
        inode = _ROOT
        for name in path.parts:
            above = self._folders[inode]
            if name not in above.now():
                made = next(self._numbers)
                self._folders[made] = _Inode({})
                above.unsynced.append((_unchanged, partial(_named, name, made)))
            inode = above.now()[name]
        return self._folders[inode]

    def _new_file(self, path: PurePath) -> int:
        inode = next(self._numbers)
        self._files[inode] = _Inode(b"")
        self._folder(path.parent).unsynced.append((_unchanged, partial(_named, path.name, inode)))
        return inode

    def _give_name(self, kind: Kind, path: PurePath, target: PurePath) -> None:
        inode, folder = self._folder(path.parent).now()[path.name], self._folder(target.parent)
        gone = None
        if kind is Kind.RENAME:
            assert path.parent == target.parent, "modelled within one folder only"
            gone = path.name
            if folder.now().get(target.name) == inode:
                return
        folder.unsynced.append((_unchanged, partial(_named, target.name, inode, instead_of=gone)))

    def _remove(self, path: PurePath) -> None:
        above = self._folder(path.parent)
        inode = above.now().get(path.name)
        if inode in self._folders:
            for name in list(self._folders[inode].now()):
                self._remove(path / name)
        if inode is not None:
            above.unsynced.append((_unchanged, partial(_named, path.name, None)))


class Recording:
    """What was done beneath `folder`, in its order; a watcher of `fednet.storage.disk`."""

    def __init__(self, folder: Path) -> None:
        self._root = folder
        self._before = _disk_of(folder)
        self._events: list[Operation | tuple[PurePath, bytes] | str] = []

    def __call__(self, operation: Operation) -> None:
        """Note an operation, and a copy of what it writes."""
        if not operation.path.is_relative_to(self._root):
            return
        path = operation.path.relative_to(self._root)
        if operation.kind is Kind.COMMITTED:
            self._events.append((path, _snapshot(operation.path)))
        elif operation.kind is not Kind.COMMIT:
            target = operation.target and operation.target.relative_to(self._root)
            self._events.append(replace(operation, path=path, target=target, data=bytes(operation.data)))

    def mark(self, reached: str) -> None:
        """Note that the code under test has come so far: `CrashState.reached` has it from here on."""
        self._events.append(reached)

    def states(self) -> Iterator[CrashState]:
        """Yield every state once."""
        current = copy.deepcopy(self._before)
        chance, seen = random.Random(_SEED), set[CrashState]()
        reached, database = frozenset[str](), None
        for number, event in enumerate(["", *self._events]):
            if isinstance(event, Operation):
                current.apply(event)
            elif isinstance(event, tuple):
                database = event
            else:
                reached |= {event}
            for endings in _ways(current.endings(), chance):
                folders, files = current.after(endings)
                state = CrashState(tuple(folders), tuple(files), database, reached, f"{number}: {_told(event)}")
                if state not in seen:
                    seen.add(state)
                    yield state


def _disk_of(folder: Path) -> _Disk:
    """Return what lies in a folder, all of it durable."""
    found = _Disk()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_dir():
            found.apply(Operation(Kind.MAKE_FOLDER, inside))
        else:
            found.apply(Operation(Kind.CREATE, inside))
            found.apply(Operation(Kind.WRITE, inside, data=path.read_bytes()))
    found.sync_all()
    return found


def _snapshot(database: Path) -> bytes:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return connection.serialize()


def _told(event: Operation | tuple[PurePath, bytes] | str) -> str:
    if isinstance(event, Operation):
        return f"{event.kind.value} {event.path}" + (f" -> {event.target}" if event.target else "")
    return f"{event[0]} committed" if isinstance(event, tuple) else f"mark {event!r}"


def _ways(endings: Sequence[int], chance: random.Random) -> Iterator[tuple[int, ...]]:
    """Yield combinations of endings, `MOST_STATES` at most."""
    if math.prod(endings) <= MOST_STATES:
        return itertools.product(*map(range, endings))
    return itertools.islice(itertools.chain(_ways_but_for_one(endings), _sample(endings, chance)), MOST_STATES)


def _ways_but_for_one(endings: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for ending, base in itertools.product(range(max(endings)), (1, 0)):
        for place, count in enumerate(endings):
            if ending < count:
                yield tuple(ending if each == place else base for each in range(len(endings)))


def _sample(endings: Sequence[int], chance: random.Random) -> Iterator[tuple[int, ...]]:
    while True:
        yield tuple(chance.randrange(count) for count in endings)


@contextlib.contextmanager
def recorded(folder: Path) -> Iterator[Recording]:
    """Record what the block does to files beneath `folder`; what is there already is durable."""
    recording = Recording(folder)
    with disk.watched(recording):
        yield recording


Check = Callable[[Path, CrashState], Iterator[str]]
"""Recovers a folder with the real code, and yields what is then not as it must be."""


@dataclass(frozen=True)
class Explored:
    """What came of trying states."""

    states: int
    violations: tuple[str, ...]


def explore(recording: Recording, scratch: Path, check: Check, *, until: str | None = None) -> Explored:
    """Lay out every state beneath `scratch`, one at a time, and check it.

    Goes no further than the first state in which the violation `until` is found.
    """
    violations: list[str] = []
    count = 0
    for state in recording.states():
        count += 1
        found = _broken(check, scratch, state)
        violations += [f"{violation} [power lost at {state.moment}]" for violation in found]
        if until in found:
            break
    return Explored(count, tuple(violations))


def _broken(check: Check, scratch: Path, state: CrashState) -> list[str]:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        state.lay_out(Path(folder))
        try:
            return list(check(Path(folder), state))
        except FednetError as exc:
            return [f"recovery failed: {exc}"]
