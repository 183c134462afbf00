#!/usr/bin/env bash
# From a fresh clone to the tests: set-up with the dev extra and a browser, then pytest.
#
#     launch/test.sh [OPTION...]       options go to pytest: launch/test.sh -m "not slow" -k camera
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
source launch/apt.sh

has_browser() {
    local name
    for name in chromium chromium-browser google-chrome; do
        if command -v "$name" >/dev/null && "$name" --version </dev/null >/dev/null 2>&1; then
            return 0
        fi
    done
    return 1
}

./launch/setup.sh dev
if [ "$(uname -s)" = Linux ] && ! has_browser; then
    apt_install chromium || printf '==> no Chromium: the tests that open a page are skipped\n' >&2
fi
exec .venv/bin/python -m pytest "$@"
