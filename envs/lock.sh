#!/usr/bin/env bash
# Remake requirements.lock from pyproject.toml; called by `make lock`. Arguments go to pip-compile
# (`--upgrade` for the newest versions; without it, pins that still fit are kept).
#
# Addresses of package indexes are left out, and so is the local part of a version (2.13.0+cpu),
# so that any build of that release that pip finds satisfies the lock.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
.venv/bin/python -m venv "$tools"
"$tools/bin/python" -m pip install --disable-pip-version-check --quiet pip-tools
cp requirements.lock "$tools/new.lock"
"$tools/bin/pip-compile" --quiet --extra dev --strip-extras --allow-unsafe \
    --no-annotate --no-header --no-emit-options \
    --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
    --output-file "$tools/new.lock" "$@" pyproject.toml
grep -E '^[A-Za-z0-9._-]+==' "$tools/new.lock" | grep -v '^pip==' | sed -E 's/\+[a-z0-9.]+$//' |
    LC_ALL=C sort >"$tools/clean.lock"
diff requirements.lock "$tools/clean.lock" && echo "lock: unchanged" && exit 0
cp "$tools/clean.lock" requirements.lock
echo "lock: requirements.lock changed; bring envs/*.yaml in line, then make setup test"
