"""Trials of a search, kept in ``trials.jsonl``: a line a trial, written to the disk before the next one counts.

The first line says which model, data and settings the trials are of; another search is refused. A last line that was
written by half is dropped.
"""

import contextlib
import json
import os
from pathlib import Path

from lutloom.errors import BuildError

NAME = "trials.jsonl"
VERSION = 3
DIGESTS = "model", "calibration data"
"""Settings that say nothing to a reader."""

OURS = {NAME, NAME + ".part", "search.json", "pareto.png"}

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None


class Trials:
    """Trials that are known, by task.

    Parameters
    ----------
    folder : path
        Is made where it is not there.
    settings : dict of str to str
        Whatever changes a trial's result.

    Raises
    ------
    BuildError
        The folder holds something else, or trials of other settings, or another search is writing there.
    """

    def __init__(self, folder, settings):
        self._folder, self._settings = Path(folder), dict(settings)
        self._known = {}
        self._make_folder()
        self._file = (self._folder / NAME).open("a+b")
        try:
            self._lock()
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __len__(self):
        return len(self._known)

    def __contains__(self, task):
        return _key(task) in self._known

    def __getitem__(self, task):
        return self._known[_key(task)]

    def tasks(self):
        """Every task that is known."""
        return [json.loads(key) for key in self._known]

    def add(self, task, result):
        """Keep a trial's result; one that is known already is not counted again."""
        if task in self:
            return
        self._write({"task": task, **result})
        self._known[_key(task)] = result

    def close(self):
        """Let another search in."""
        self._file.close()

    def _make_folder(self):
        folder = self._folder
        if not str(folder) or folder.resolve() == Path.cwd():
            raise BuildError(f"{str(folder)!r} cannot be the folder of a search; give one of its own with -o")
        if folder.exists() and not folder.is_dir():
            raise BuildError(f"{folder} is a file; give a folder for the search with -o")
        if folder.is_dir() and (others := sorted({entry.name for entry in folder.iterdir()} - OURS)):
            raise BuildError(f"{folder} holds {others[0]!r}, so it is not the folder of a search; give another with -o")
        if not folder.resolve().parent.is_dir():
            raise BuildError(f"{folder} cannot be made: there is no folder {folder.resolve().parent}")
        folder.mkdir(exist_ok=True)

    def _lock(self):
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(f"another search is at work in {self._folder}; wait for it, or give another folder with "
                             "-o") from None

    def _read(self):
        self._file.seek(0)
        raw = self._file.read()
        whole = raw[:raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):
            self._file.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._write({"lutloom_search": VERSION, "settings": self._settings})
            return
        try:
            head = json.loads(lines[0])
            version, settings = head["lutloom_search"], head["settings"]
        except (ValueError, KeyError, TypeError):
            raise BuildError(f"{self._folder / NAME} does not begin as trials of a search do; give another folder with "
                             "-o") from None
        self._compare(version, settings)
        for number, line in enumerate(lines[1:], 2):
            try:
                result = json.loads(line)
                self._known.setdefault(_key(result.pop("task")), result)
            except (ValueError, KeyError, TypeError, AttributeError):
                raise BuildError(f"{self._folder / NAME} is damaged in line {number}; take that line out, or "
                                 "give another folder with -o") from None

    def _compare(self, version, settings):
        """BuildError unless the trials are of this search."""
        if version != VERSION:
            raise BuildError(f"{self._folder} has trials of format version {version!r}, but this Lutloom reads "
                             f"{VERSION}; give another folder with -o")
        for name in sorted({*settings, *self._settings}):
            before, now = settings.get(name), self._settings.get(name)
            if before != now:
                before, now = ("not given" if each in (None, "None") else each for each in (before, now))
                how = "is another" if name in DIGESTS else f"was {before}, not {now}"
                raise BuildError(f"{self._folder} has trials of another search: {name} {how}; give another folder with "
                                 "-o")

    def _write(self, record):
        self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(record).encode() + b"\n")
        self._file.flush()
        with contextlib.suppress(OSError):  # not every file system can
            os.fsync(self._file.fileno())


def _key(task):
    return json.dumps(task)
