#!/usr/bin/env bash
# Make .venv, install robovae into it at the tested versions, and see that MuJoCo can draw a frame.
# Done once: .venv remembers for which pyproject.toml and constraints.
#
#     launch/setup.sh [EXTRA]       EXTRA: an extra of pyproject.toml, such as dev
#
# PYTHON=/path/to/python3 chooses the interpreter. pip's own settings hold, so a CPU build of torch is taken with
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
source launch/apt.sh

extra="${1:-}"
venv_python="$PWD/.venv/bin/python"

say() { printf '==> %s\n' "$*" >&2; }

fail() {
    printf 'robovae set-up: %s\n' "$*" >&2
    exit 1
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 or newer, found $(python3 --version 2>/dev/null || echo none);" \
        "install it (Debian, Ubuntu: $(apt_line python3 python3-venv)) or name one: PYTHON=/path/to/python3 $0"
}

make_venv() {
    if [ -x "$venv_python" ] && is_new_enough "$venv_python" && "$venv_python" -m pip --version >/dev/null 2>&1; then
        return
    fi
    local python
    python="$(find_python)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        apt_install "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    fi
    say "making .venv with $("$python" --version) ($python)"
    "$python" -m venv --clear .venv
}

stamp_key() { cat pyproject.toml launch/constraints.txt launch/setup.sh | cksum; }

has_stamp() { [ "$(cat -- ".venv/.robovae-setup-$1" 2>/dev/null)" = "$(stamp_key)" ]; }

is_done() { has_stamp "$extra" || { [ -z "$extra" ] && has_stamp dev; }; } # with dev is also without

install_package() {
    say "installing robovae${extra:+[$extra]} (once; torch is the large part)"
    "$venv_python" -m pip install --quiet --no-input --disable-pip-version-check \
        --constraint launch/constraints.txt --editable ".${extra:+[$extra]}" </dev/null
}

can_render() { "$venv_python" -m robovae doctor --gl >&2; }

check_rendering() {
    if can_render; then
        return
    fi
    [ "$(uname -s)" = Linux ] || fail "MuJoCo cannot draw a frame here; the lines above say why"
    apt_refresh
    # shellcheck disable=SC2046 # one word a package
    apt_install $(gl_packages)
    can_render || fail "MuJoCo still cannot draw a frame; the lines above say why"
}

make_venv
if ! is_done; then
    install_package
    check_rendering
    stamp_key >".venv/.robovae-setup-$extra"
fi
