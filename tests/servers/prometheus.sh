#!/bin/sh
# Unpacks Prometheus 3 and its Alertmanager into .tools/prometheus3, and prints the folder with the programs.
# They are packages of Debian's next release. They are unpacked and not installed, with package lists of their own:
# nothing outside .tools changes, and the Prometheus 2 of this release stays the installed one. apt checks the
# signatures. Safe to call again and from several tests at once.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
home="$root/.tools/prometheus3"
mark="$home/installed"
suite=forky
packages="prometheus promtool prometheus-alertmanager"

# The mirror that this machine uses: the first address of an entry for its own release, in either form of entry.
mirror() {
    release=$(. /etc/os-release && echo "$VERSION_CODENAME")
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | awk -v release="$release" '
        function tell() { if (fits && uri != "") { print uri; exit }; fits = 0; uri = "" }
        /^[ \t]*$/ { tell() }
        $1 == "URIs:" { uri = $2 }
        $1 == "Suites:" { for (i = 2; i <= NF; i++) if ($i == release) fits = 1 }
        END { tell() }'
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null | awk -v release="$release" '
        $1 == "deb" { sub(/\[[^]]*\]/, ""); if ($3 == release) { print $2; exit } }'
}

mkdir -p "$root/.tools"
exec 9>"$root/.tools/prometheus3.lock"
flock 9
if [ ! -f "$mark" ] || [ "$(cat "$mark")" != "$suite: $packages" ]; then
    rm -rf "$home"
    mkdir -p "$home/apt/lists/partial" "$home/apt/cache/archives/partial" "$home/apt/parts" "$home/packages"
    : >"$home/apt/status"
    from=$(mirror | head -n 1)
    [ -n "$from" ] || { echo "no Debian mirror found in /etc/apt" >&2; exit 1; }
    echo "deb $from $suite main" >"$home/apt/sources.list"
    cat >"$home/apt/apt.conf" <<CONFIG
Dir::State "$home/apt";
Dir::State::status "$home/apt/status";
Dir::Cache "$home/apt/cache";
Dir::Etc::sourcelist "$home/apt/sources.list";
Dir::Etc::sourceparts "$home/apt/parts";
Acquire::Languages "none";
APT::Sandbox::User "";
CONFIG
    export APT_CONFIG="$home/apt/apt.conf"
    apt-get update -qq >&2
    # One word per package.
    # shellcheck disable=SC2086
    (cd "$home/packages" && apt-get download -qq $packages >&2)
    for package in "$home"/packages/*.deb; do
        dpkg-deb -x "$package" "$home/unpacked"
    done
    rm -rf "$home/packages" "$home/apt"
    "$home/unpacked/usr/bin/prometheus" --version 2>&1 | grep -q '^prometheus, version 3\.' ||
        { echo "$suite has no Prometheus 3" >&2; exit 1; }
    printf '%s' "$suite: $packages" >"$mark"
fi
echo "$home/unpacked/usr/bin"
