"""Progress shows on a terminal only; tables are aligned."""

import io

from lutloom.terminal import Progress, table


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_progress_is_silent_elsewhere():
    stream = io.StringIO()
    progress = Progress(stream)
    progress("synthesis")
    progress("simulate", 1, 10)
    progress.close()
    assert stream.getvalue() == ""


def test_progress_overwrites_its_line():
    stream = Terminal()
    progress = Progress(stream, interval=0)
    progress("synthesis")
    progress("simulate", 500, 1000)
    progress.close()
    parts = stream.getvalue().split("\r\x1b[K")
    assert parts[1].endswith("] synthesis")
    assert parts[2].endswith("] simulate 500 of 1,000 (50%)")
    assert parts[3] == "" and "\n" not in stream.getvalue()


def test_progress_does_not_flood():
    stream = Terminal()
    progress = Progress(stream, interval=1000)
    for done in range(1, 101):
        progress("simulate", done, 100)
    assert stream.getvalue().count("\r") == 2  # the first and the last


def test_table():
    text = table([["lut4", 4321, 0.5], ["ebr", None, 12345.6]], ["resource", "used", "share"])
    assert text.splitlines() == [
        "resource   used   share",
        "--------  -----  ------",
        "lut4      4,321     0.5",
        "ebr           -  12,346",
    ]


def test_tables_of_nothing_and_of_text():
    assert table([]) == ""
    assert table([["a", True], ["bcd", False]]) == "a    yes\nbcd   no"
