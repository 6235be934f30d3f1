"""Build folders: they appear under their name only when whole, and nothing else is ever overwritten."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

from lutloom.errors import BuildError, ModelError
from lutloom.network_file import load
from lutloom.plan import FORMAT_VERSION

MARK = "plan.json"


def is_build(folder):
    """Whether a folder was made by Lutloom."""
    try:
        return "format_version" in json.loads((Path(folder) / MARK).read_text())
    except (OSError, ValueError, TypeError):
        return False


def check_free(output):
    """BuildError if a build may not be put there."""
    if not str(output):
        raise BuildError("the build folder needs a name; give one with -o")
    path = Path(output).resolve()
    if not path.name:
        raise BuildError(f"{output} is the root of all folders, which a build cannot replace; give another one with -o")
    if path == Path.cwd():
        raise BuildError(f"{output} is the current folder, which a build cannot replace; give another one with -o")
    failed = _failed(path)
    if failed.exists() and not (failed.is_dir() and {entry.name for entry in failed.iterdir()} <= {"logs"}):
        raise BuildError(f"{failed} is in the way of a failed build's logs; move it, or give another folder with -o")
    if path.exists() and not path.is_dir():
        raise BuildError(f"{output} is a file; give a folder that is not there yet with -o")
    if path.is_dir() and any(path.iterdir()) and not is_build(path):
        raise BuildError(f"{output} is not empty and not a build folder of Lutloom; give another one with -o")
    parent = path.parent
    if not parent.is_dir():
        raise BuildError(f"{output} cannot be made: there is no folder {parent}")


def check_build(folder):
    """The folder as a Path; BuildError if it is not a build of this version."""
    path = Path(folder)
    if not path.is_dir():
        raise BuildError(f"{folder} is not a folder; give one that lutloom build or lutloom verilog made")
    try:
        version = json.loads((path / MARK).read_text())["format_version"]
    except (OSError, ValueError, KeyError, TypeError):
        raise BuildError(f"{folder} is not a build folder: it has no {MARK} that can be read") from None
    if version != FORMAT_VERSION:
        raise BuildError(
            f"{folder} has format version {version!r}, but this Lutloom reads {FORMAT_VERSION}; build again"
        )
    return path


def load_network(folder):
    """The integer network of a build folder; BuildError if there is none, a damaged one, or one of another version."""
    folder = Path(folder)
    path = folder / "network.npz"
    if not path.exists():
        raise BuildError(f"folder {str(folder)!r} holds no network.npz; give a folder that 'lutloom build' made, or a "
                         "model file")
    if (folder / MARK).exists():
        check_build(folder)
    try:
        return load(path, "build the folder again")
    except ModelError as error:
        raise BuildError(str(error)) from None


@contextlib.contextmanager
def building(output):
    """A folder to work in that becomes ``output`` when all went well.

    If the work fails or is interrupted, ``output`` stays as it was and ``output.failed`` keeps the logs.

    Parameters
    ----------
    output : str or Path

    Yields
    ------
    Path
    """
    check_free(output)
    output = Path(output).resolve()
    parent = output.parent
    try:
        work = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=parent))
    except OSError as error:
        raise BuildError(f"{output} cannot be made ({error.strerror}); give another folder with -o") from None
    failed = _failed(output)
    try:
        (work / "logs").mkdir()
        yield work
    except BaseException:
        if any((work / "logs").iterdir()):
            shutil.rmtree(failed, ignore_errors=True)
            failed.mkdir()
            shutil.move(work / "logs", failed / "logs")
        shutil.rmtree(work, ignore_errors=True)
        raise
    work.chmod(0o755)
    if output.is_dir():
        old = Path(tempfile.mkdtemp(prefix=f".{output.name}-old-", dir=parent))
        output.replace(old / "build")
        try:
            work.replace(output)
        except BaseException:
            if not output.exists():
                (old / "build").replace(output)
            raise
        shutil.rmtree(old, ignore_errors=True)
    else:
        work.replace(output)
    shutil.rmtree(failed, ignore_errors=True)


def _failed(output):
    """Where the logs of a failed build go."""
    return output.with_name(output.name + ".failed")
