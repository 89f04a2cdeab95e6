# shellcheck shell=bash
# Sourced by the scripts beside it: how they run one command as root.

# True if as_root would work: root already, sudo without a password, or somebody at a terminal to type one.
can_become_root() {
    if ((EUID == 0)); then return 0; fi
    command -v sudo >/dev/null || return 1
    [[ -t 0 ]] || sudo -n true 2>/dev/null
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo -E "$@"; fi
}
