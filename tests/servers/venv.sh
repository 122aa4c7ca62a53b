#!/bin/sh
# Makes .tools/venv with the Python packages that the tests need and prints its interpreter.
# Safe to call again and from several tests at once.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
venv="$root/.tools/venv"
packages="aiosmtpd==1.4.6 prometheus_client==0.26.0 schemathesis==4.32.5 kubernetes-validate==1.37.0 PyYAML==6.0.3"
mark="$venv/installed"

mkdir -p "$root/.tools"
exec 9>"$root/.tools/venv.lock"
flock 9
if [ ! -f "$mark" ] || [ "$(cat "$mark")" != "$packages" ]; then
    python3 -m venv "$venv" >&2
    # One word per package.
    # shellcheck disable=SC2086
    # Not by its script, which names the place where a copied folder once was.
    "$venv/bin/python3" -m pip install --quiet --disable-pip-version-check $packages >&2
    printf '%s' "$packages" >"$mark"
fi
echo "$venv/bin/python3"
