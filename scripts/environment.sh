# To be sourced by the scripts beside it: makes .venv in the project's folder and installs lutloom there.
#
#   . "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
#   lutloom_environment digits     # an optional dependency group of pyproject.toml
#
# $PYTHON names another interpreter, $CXX another compiler.

fail() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

# Prints the first interpreter that is new enough.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

lutloom_environment() {
    local group=$1 python stamp
    python=$(find_python) || fail "needs Python 3.11 or newer (as python3, or named by PYTHON=...); install it and run this again"
    command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
        fail "needs a C++ compiler (c++, g++ or clang++) for the compiled simulation; on Debian and Ubuntu: apt install g++ make"
    command -v make >/dev/null || fail "needs make for the compiled simulation; on Debian and Ubuntu: apt install make"

    # Made once; again when the dependencies, the folder or the interpreter are others.
    stamp="$group $PWD $("$python" -V) $(cksum <pyproject.toml)"
    if [ ! -x .venv/bin/python ] || [ "$(cat ".venv/lutloom-$group" 2>/dev/null)" != "$stamp" ]; then
        echo "installing into $PWD/.venv ..."
        if [ ! -x .venv/bin/python ] || [ "$(.venv/bin/python -V 2>/dev/null)" != "$("$python" -V)" ]; then
            "$python" -m venv --clear .venv ||
                fail "python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv"
        fi
        .venv/bin/python -m pip install -qq --no-compile --disable-pip-version-check -e ".[$group]" ||
            fail "pip could not install lutloom and what it needs; its messages stand above (is PyPI within reach?)"
        echo "$stamp" >".venv/lutloom-$group"
    fi
    PATH="$PWD/.venv/bin:$PATH"
    export PATH
}
