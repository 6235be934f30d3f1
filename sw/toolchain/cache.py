"""What tools made (placed designs, compiled simulations), kept by what it was made of."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from lutloom.errors import ToolError


def cache_folder(section):
    """Folder of a section of the cache: $LUTLOOM_CACHE/<section>, or ~/.cache/lutloom/<section>."""
    base = os.environ.get("LUTLOOM_CACHE") or Path.home() / ".cache" / "lutloom"
    return Path(base).expanduser() / section


def content_key(*parts):
    """A hash of texts, bytes and files, in order; 32 hexadecimal digits. A file counts by its name and contents."""
    digest = hashlib.sha256()
    for part in parts:
        for item in (part.name, part.read_bytes()) if isinstance(part, Path) else (part,):
            data = item if isinstance(item, bytes) else str(item).encode()
            digest.update(b"%d " % len(data) + data)
    return digest.hexdigest()[:32]


def lookup(section, key):
    """Folder of an entry, or None where there is none."""
    target = cache_folder(section) / key
    if not target.is_dir():
        return None
    with contextlib.suppress(OSError):
        os.utime(target)  # so that whoever clears the cache sees what is in use
    return target


def cached(section, key, make):
    """Folder of an entry, made first where it is not there.

    ``make(folder)`` fills an empty folder, which takes its name only when whole: two processes that make the same
    entry do not disturb each other, and an interrupted one leaves nothing behind.

    Parameters
    ----------
    section, key : str
    make : callable

    Returns
    -------
    (Path, bool)
        The folder, and whether it was there before.

    Raises
    ------
    ToolError
        When the cache cannot be written.
    """
    found = lookup(section, key)
    if found:
        return found, True
    target = cache_folder(section) / key
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".making-", dir=target.parent))
    except OSError as error:
        raise ToolError(
            f"the cache folder {target.parent} cannot be written ({error.strerror}); set LUTLOOM_CACHE to another one"
        ) from error
    try:
        make(folder)
        folder.chmod(0o755)
        try:
            folder.rename(target)
        except OSError:
            if not target.is_dir():  # not: another process was faster
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return target, False
