"""What a cocotb bench is told and what it answers: a folder of plain files between two processes."""

import json
import os
from functools import cached_property
from pathlib import Path

import numpy as np

ENVIRONMENT = "LUTLOOM_BENCH"  # names the folder


class Job:
    """A bench's folder: job.json, arrays of beats as <name>.npy, and in the end result.json.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self._integers = {}

    @classmethod
    def of_environment(cls):
        """The job that ``runner`` started this process for."""
        return cls(os.environ[ENVIRONMENT])

    def begin(self, options, arrays, masks=None):
        """Writes what the bench needs.

        Parameters
        ----------
        options : dict
        arrays : dict of uint8 arrays (beats, bytes)
        masks : dict of bool arrays (beats,)
            Beats that are compared; all by default.
        """
        (self.folder / "job.json").write_text(json.dumps(options))
        for name, array in arrays.items():
            np.save(self.folder / f"{name}.npy", array, allow_pickle=False)
        for name, mask in (masks or {}).items():
            np.save(self.folder / f"{name}.mask.npy", np.asarray(mask, bool), allow_pickle=False)

    @cached_property
    def options(self):
        """What ``begin`` was given."""
        return json.loads((self.folder / "job.json").read_text())

    def integers(self, name):
        """Beats of an array as a list of integers; None where the mask says so."""
        if name not in self._integers:
            array = np.load(self.folder / f"{name}.npy", allow_pickle=False)
            array = np.ascontiguousarray(array.reshape(-1, array.shape[-1]))
            beats = [int.from_bytes(beat, "little") for beat in array]
            mask = self.folder / f"{name}.mask.npy"
            if mask.exists():
                keep = np.load(mask, allow_pickle=False)
                beats = [beat if kept else None for beat, kept in zip(beats, keep, strict=True)]
            self._integers[name] = beats
        return self._integers[name]

    def tell(self, done):
        """Says how far the bench is."""
        (self.folder / "progress").write_text(str(done))

    @property
    def told(self):
        """What ``tell`` said last; 0 at first."""
        try:
            return int((self.folder / "progress").read_text() or 0)
        except FileNotFoundError:
            return 0

    def finish(self, result):
        """Writes the bench's answer."""
        part = self.folder / "result.part"
        part.write_text(json.dumps(result))
        part.rename(self.folder / "result.json")

    @property
    def result(self):
        """The bench's answer, or None when it did not come to its end."""
        path = self.folder / "result.json"
        return json.loads(path.read_text()) if path.exists() else None
