#!/usr/bin/env bash
# Installs what the tests need and this Debian machine lacks. Safe to run again: what is there stays as it is.
#
#   tests/tools.sh             what tests/run needs
#   tests/tools.sh cargo-deny  that, and cargo-deny in .tools/bin (only .ci/run needs it)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CARGO_DENY_VERSION=0.20.2

main() {
    command -v cargo >/dev/null || fail "cargo is missing: install Rust with rustup"
    debian_packages
    python_venv
    oauth_servers
    observability
    axe
    case "${1:-}" in
        '') ;;
        cargo-deny) cargo_deny ;;
        *) fail "unknown tool: $1" ;;
    esac
}

# Each line: a command that must exist and the package that brings it.
debian_packages() {
    local missing=() command package
    while read -r command package; do
        command -v "$command" >/dev/null || missing+=("$package")
    done <<'PACKAGES'
prometheus prometheus
promtool prometheus
amtool prometheus-alertmanager
prometheus-alertmanager prometheus-alertmanager
systemd-analyze systemd
curl curl
openssl openssl
redis-server redis-server
python3 python3
cc build-essential
strace strace
mariadb-install-db mariadb-server
chromium chromium
PACKAGES
    # Debian keeps the server's programs out of the path.
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || missing+=(postgresql)
    # Without this module `python3 -m venv` exists and fails half-way.
    python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    if ((${#missing[@]} == 0)); then
        echo "Debian packages: all there"
        return
    fi
    command -v apt-get >/dev/null || fail "missing and no apt-get to install it: ${missing[*]}"
    echo "Debian packages: installing ${missing[*]}"
    as_root apt-get update -qq
    without_services env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Debian's Prometheus packages start their servers when they are installed. We want the programs only: exit code 101
# of policy-rc.d is Debian's word for "do not start anything".
without_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        as_root "$@"
        return
    fi
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
    as_root chmod +x "$policy"
    local code=0
    as_root "$@" || code=$?
    as_root rm -f "$policy"
    return "$code"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || fail "needs root or sudo for: $*"
        sudo "$@"
    fi
}

# The packages and their versions stand in that script, because the Rust tests call it too.
python_venv() {
    local python
    python=$(tests/servers/venv.sh) || fail "the Python packages could not be installed"
    echo "Python packages: $python"
}

# Node and both servers, for tests/oauth_servers.
oauth_servers() {
    tests/servers/oauth/install.sh >/dev/null || fail "the OAuth servers could not be installed"
    echo "OAuth servers: there"
}

# Prometheus 3 with its Alertmanager beside the installed Prometheus 2, and Grafana's schema.
observability() {
    local tools
    tools=$(tests/servers/prometheus.sh) || fail "Prometheus 3 could not be unpacked"
    tests/servers/grafana/install.sh >/dev/null || fail "Grafana's schema could not be installed"
    echo "$("$tools/prometheus" --version 2>&1 | head -n 1 | cut -d ' ' -f 1-3), Alertmanager, Grafana's schema: there"
}

# What tests/pages asks about every page.
axe() {
    tests/servers/axe/install.sh >/dev/null || fail "axe-core could not be installed"
    echo "axe-core: there"
}

cargo_deny() {
    if [ "$(.tools/bin/cargo-deny --version 2>/dev/null)" = "cargo-deny $CARGO_DENY_VERSION" ]; then
        echo "cargo-deny: there"
        return
    fi
    echo "cargo-deny: building $CARGO_DENY_VERSION"
    # Its own release profile links everything as one unit, which takes three times as long as it ever saves here.
    CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install --quiet --locked --root .tools "cargo-deny@$CARGO_DENY_VERSION"
}

fail() {
    echo "tests/tools.sh: $*" >&2
    exit 1
}

main "$@"
