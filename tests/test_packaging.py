"""The folders hw/ sw/ sim/ boards/ are one import package, and an installed lutloom puts no generic name on a path."""

import ast
import os
import pkgutil
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import lutloom

ROOT = Path(__file__).resolve().parent.parent
GENERIC = ["hw", "sw", "sim", "boards", "tests", "scripts", "docs", "examples"]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_dirs():
    return project()["tool"]["setuptools"]["package-dir"]


def run_python(code, folder):
    """Standard output of a fresh interpreter in another folder, without this process's paths."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True,
                            timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def modules():
    return sorted(info.name for info in pkgutil.walk_packages(lutloom.__path__, "lutloom."))


def test_no_generic_name_is_importable(tmp_path):
    found = run_python(f"import importlib.util as u; print([n for n in {GENERIC} if u.find_spec(n)])", tmp_path)
    assert found.strip() == "[]"


def test_every_package_is_listed():
    listed = project()["tool"]["setuptools"]["packages"]
    by_folder = {folder: name for name, folder in package_dirs().items()}
    found = []
    for top in ("sw", "hw", "sim", "boards"):
        for init in (ROOT / top).rglob("__init__.py"):
            folder = init.parent.relative_to(ROOT).as_posix()
            assert folder in by_folder, f"{folder} is a package, but not in tool.setuptools.package-dir"
            found.append(by_folder[folder])
    assert sorted(listed) == sorted(found) == sorted(package_dirs())


def test_nothing_in_sw_shadows_a_mapped_folder():
    for name, folder in package_dirs().items():
        inside = ROOT / "sw" / name.removeprefix("lutloom.").replace(".", "/")
        if name == "lutloom" or folder.startswith("sw/"):
            continue
        assert not inside.exists() and not inside.with_suffix(".py").exists(), f"{inside} shadows {folder}/"


def test_folders_are_never_imported_by_their_own_name(tmp_path):
    code = ("import importlib, pkgutil, sys, lutloom\n"
            "names = [i.name for i in pkgutil.walk_packages(lutloom.__path__, 'lutloom.')]\n"
            "for folder in ('hw', 'sim', 'boards'):\n"
            "    package = importlib.import_module('lutloom.' + folder)\n"
            "    names += [i.name for i in pkgutil.iter_modules(package.__path__, package.__name__ + '.')]\n"
            "for name in names:\n"
            "    if '.cocotb_' not in name:\n"  # these run inside a simulator
            "        importlib.import_module(name)\n"
            f"print(sorted(set({GENERIC}) & set(sys.modules)), len(names) > 20)")
    assert run_python(code, tmp_path).strip() == "[] True"


def test_import_is_light(tmp_path):
    code = "import sys, lutloom, lutloom.cli; print([n for n in ('numpy', 'onnx', 'amaranth') if n in sys.modules])"
    assert run_python(code, tmp_path).strip() == "[]"


@pytest.mark.parametrize("first", ["import lutloom.build, lutloom.simulate", "from lutloom.build import build",
                                   "import lutloom"])
def test_functions_are_callable_whatever_was_imported_before(tmp_path, first):
    code = (f"{first}\nimport lutloom\nprint(all(callable(getattr(lutloom, n)) for n in lutloom.__all__ "
            "if n != '__version__'))")
    assert run_python(code, tmp_path).strip() == "True"


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="module 'lutloom' has no attribute 'nothing'"):
        lutloom.nothing  # noqa: B018


def test_version_is_the_projects():
    assert project()["project"]["version"] == lutloom.__version__


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the tree, so that the tree stays clean."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("sw", "hw", "sim", "boards"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source)
    result = subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
                             "-w", folder, source], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    (path,) = folder.glob("lutloom-*.whl")
    return path


def test_wheel_holds_one_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(n for n in names if n.endswith("entry_points.txt"))).decode()
    assert {name.split("/")[0] for name in names} == {"lutloom", f"lutloom-{lutloom.__version__}.dist-info"}
    assert "lutloom = lutloom.cli:main" in entry_points
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_holds_every_file_of_the_packages(wheel):
    """Python modules, and the data files that they read (the simulation's C++ sources, the example network)."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = set()
    for package, folder in package_dirs().items():
        for path in (ROOT / folder).iterdir():
            if path.is_file() and not path.name.startswith("."):
                expected.add(f"{package.replace('.', '/')}/{path.name}")
    expected |= {f"lutloom/examples/{path.name}" for path in (ROOT / "sw" / "examples").iterdir() if path.is_file()}
    assert expected <= names, sorted(expected - names)


def test_command_is_installed(tmp_path):
    command = Path(sys.executable).parent / "lutloom"
    result = subprocess.run([command, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "lutloom build digits.onnx" in result.stdout


def test_every_module_has_a_docstring():
    missing = [str(path.relative_to(ROOT)) for folder in ("sw", "hw", "sim", "boards")
               for path in (ROOT / folder).rglob("*.py") if not ast.get_docstring(ast.parse(path.read_text()))]
    assert missing == []
