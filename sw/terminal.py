"""What the command line puts on a terminal: progress that overwrites itself, and plain tables."""

import sys
import time


class Progress:
    """One line on standard error that says what is being done; nothing where that is not a terminal.

    ``progress("place and route")`` names a step, ``progress("simulate", 200, 1000)`` says how far it is.
    """

    def __init__(self, stream=None, interval=0.1):
        self._stream = sys.stderr if stream is None else stream
        self._shown = bool(getattr(self._stream, "isatty", lambda: False)())
        self._interval = interval
        self._start = time.monotonic()
        self._next = 0.0
        self._step = None

    def __call__(self, step, done=None, total=None):
        if not self._shown:
            return
        now = time.monotonic()
        if step == self._step and now < self._next and done != total:
            return
        self._step, self._next = step, now + self._interval
        count = "" if done is None else f" {done:,}" if not total else f" {done:,} of {total:,} ({done / total:.0%})"
        self._stream.write(f"\r\x1b[K[{now - self._start:5.0f} s] {step}{count}")
        self._stream.flush()

    def close(self):
        """Clears the line."""
        if self._shown and self._step is not None:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._step = None


def table(rows, header=None):
    """Rows of cells as aligned text: numbers to the right, everything else to the left.

    Parameters
    ----------
    rows : sequence of sequences of str, int, float or None
        Of one length. Integers get thousands separators; None is a dash.
    header : sequence of str, optional

    Returns
    -------
    str, lines joined by newlines
    """
    cells = [[_cell(value) for value in row] for row in rows]
    lines = ([list(header)] if header else []) + cells
    if not lines:
        return ""
    right = [bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
             for i in range(len(lines[0]))]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    if header:
        lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(cell.rjust(width) if on_right else cell.ljust(width)
                               for cell, width, on_right in zip(line, widths, right, strict=True)).rstrip()
                     for line in lines)


def _cell(value):
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value)
