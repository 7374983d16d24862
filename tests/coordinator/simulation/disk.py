"""A disk: a file survives a power loss as far as it was synced, and its name once its folder was."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass
class File:
    """What a file holds: as programs see it, and as it would be after a power loss."""

    content: str = ""
    durable: str = ""


class Disk:
    """Files by path, as programs see them and as they would be after a power loss."""

    def __init__(self) -> None:
        self.names: dict[str, File] = {}
        self._durable: dict[str, File] = {}

    def create(self, path: str) -> File:
        """Return an empty file of this name; neither its content nor its name is durable."""
        self.names[path] = File()
        return self.names[path]

    def sync(self, file: File) -> None:
        """Make a file's content durable."""
        file.durable = file.content

    def sync_folder(self, folder: str) -> None:
        """Make the names in a folder durable."""
        for path in sorted(self.names.keys() | self._durable.keys()):
            if path.startswith(folder):
                self._settle(path)

    def unlink(self, path: str) -> None:
        """Remove a name, if it is there; it may come back after a power loss."""
        self.names.pop(path, None)

    def rename(self, path: str, target: str) -> None:
        """Give a file another name."""
        self.names[target] = self.names.pop(path)

    def lose_power(self, dice: random.Random) -> None:
        """Keep of what is not durable what chance has written already, each file and each name for itself."""
        for path in sorted(self.names.keys() | self._durable.keys()):
            if self.names.get(path) is not self._durable.get(path) and dice.random() < 0.5:
                self._settle(path)
        self.names = dict(self._durable)
        for _, file in sorted(self.names.items()):
            if file.content != file.durable:
                file.durable = dice.choice((file.content, file.durable, file.content[: len(file.content) // 2]))
            file.content = file.durable

    def _settle(self, path: str) -> None:
        if path in self.names:
            self._durable[path] = self.names[path]
        else:
            self._durable.pop(path, None)
