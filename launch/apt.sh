# Sourced by the launch scripts: Debian packages, installed where that is allowed and named where it is not.

apt_line() { printf 'sudo apt-get update && sudo apt-get install -y --no-install-recommends %s' "$*"; }

apt_has() { [[ "$(apt-cache policy "$1" 2>/dev/null)" == *"Candidate: "[0-9]* ]]; }

apt_root() { # run a command as root, without ever asking for a password
    if [ "$(id -u)" -eq 0 ]; then
        "$@" </dev/null
    else
        sudo -n "$@" </dev/null
    fi
}

apt_allowed() {
    command -v apt-get >/dev/null && { [ "$(id -u)" -eq 0 ] || sudo -n true </dev/null 2>/dev/null; }
}

apt_refreshed=no

apt_refresh() { # the package lists, once a script and only where allowed; without a network the old ones serve
    if [ "$apt_refreshed" = no ] && apt_allowed; then
        apt_refreshed=yes
        apt_root apt-get update -qq >&2 || printf '==> apt-get update failed; going on with the old lists\n' >&2
    fi
}

# Install packages; where that is not allowed print the exact line and return 1.
apt_install() {
    if ! apt_allowed; then
        printf 'robovae set-up: these packages are missing and may not be installed from here; run\n\n    %s\n\nand start again.\n' \
            "$(apt_line "$@")" >&2
        return 1
    fi
    printf '==> apt-get install %s\n' "$*" >&2
    apt_refresh
    apt_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@" >&2
}

# EGL and OSMesa for MuJoCo, libGL and glib for OpenCV; two names differ between releases.
gl_packages() {
    if apt_has libglib2.0-0t64; then
        printf 'libglib2.0-0t64 '
    else
        printf 'libglib2.0-0 '
    fi
    if apt_has libosmesa6 || ! apt_has libgl1; then
        printf 'libosmesa6 '
    fi
    printf 'libgl1 libegl1 libgl1-mesa-dri\n'
}
