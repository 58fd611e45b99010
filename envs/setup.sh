#!/usr/bin/env bash
# Make .venv from requirements.lock; called by `make setup`. A second run does nothing.
#
# .venv counts as complete only while .venv/.installed-<sha256 of the lock> is there. The stamp is
# written last, so an interrupted or failed run is repaired by the next one.
set -euo pipefail
cd "$(dirname "$0")/.."

lock=requirements.lock
need_disk_mb=6000
need_memory_mb=6000

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}
is_root() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; }

apt_updated=no
# install_system WHY PACKAGE...: with apt-get when root, else say what to type.
install_system() {
    local why=$1
    shift
    is_root || fail "$why" \
        "as administrator: apt-get install $*   (or the same from conda or a module)"
    say "$why Installing $* with apt-get."
    if [ "$apt_updated" = no ]; then
        DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
            say "apt-get update failed; trying as is."
        apt_updated=yes
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get install $* failed." "Install it by hand, then run make setup again."
}

is_python311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

find_python() {
    local name path
    for name in "${PYTHON:-python3.11}" python3.11 python3 /usr/bin/python3; do
        path=$(command -v "$name") || continue
        if is_python311 "$path"; then
            printf '%s\n' "$path"
            return
        fi
    done
    return 1
}

check_machine() {
    local disk memory
    disk=$(df -Pm . | awk 'NR == 2 {print $4}')
    [ "$disk" -ge "$need_disk_mb" ] ||
        fail "only $disk MB free in $(pwd); $need_disk_mb MB are needed." \
            "Free some space, or put the project on a larger disk."
    memory=$(awk '/^MemTotal:/ {print int($2 / 1024)}' /proc/meminfo 2>/dev/null || true)
    if [ "${memory:-$need_memory_mb}" -lt "$need_memory_mb" ]; then
        say "warning: $memory MB of memory; $need_memory_mb MB are advised. Use make ... CORES=1."
    fi
}

# deeptoolsintervals is published as C source only: compiler, Python and zlib headers.
check_compiler() {
    local python=$1 missing=() headers
    grep -q '^deeptoolsintervals==' "$lock" || return 0
    command -v gcc >/dev/null || missing+=(gcc libc6-dev)
    command -v g++ >/dev/null || missing+=(g++)
    headers=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$headers/Python.h" ] || missing+=(python3-dev)
    [ -e /usr/include/zlib.h ] || [ -n "${CONDA_PREFIX:-}" ] || missing+=(zlib1g-dev)
    [ ${#missing[@]} -eq 0 ] ||
        install_system "a package of the lock has to be compiled." "${missing[@]}"
}

venv_works() {
    is_python311 .venv/bin/python && .venv/bin/python -m pip --version >/dev/null 2>&1
}

make_venv() {
    local python=$1
    if [ -e .venv ] && ! venv_works; then
        say "the .venv that is here does not work; making a new one."
        rm -rf .venv
    fi
    [ -e .venv ] || "$python" -m venv .venv || {
        rm -rf .venv
        fail "$python -m venv failed (message above)."
    }
}

[ -f "$lock" ] || fail "$lock is missing." "Run this from a complete copy of the project."
[ "${BASH_VERSINFO[0]}" -ge 4 ] || fail "bash 4 or newer is needed, this is $BASH_VERSION."
case $PWD in
    *[[:space:]]*)
        fail "the path of this folder has a space in it: $PWD" \
            "Snakemake cannot start Python from there. Rename or move the folder." \
            "(Working directories may have spaces: make ... DIR=\"my run\".)"
        ;;
esac
stamp=".venv/.installed-$(sha256sum "$lock" | cut -c 1-64)"

if [ -e "$stamp" ] && is_python311 .venv/bin/python && command -v bedtools >/dev/null; then
    say "nothing to do"
    exit 0
fi

check_machine
command -v bedtools >/dev/null || install_system "bedtools is missing." bedtools
python=$(find_python) || {
    install_system "Python 3.11 is needed (found: $(python3 --version 2>&1 || true))." \
        python3 python3-venv
    python=$(find_python) || fail "Python 3.11 is needed and this system does not offer it." \
        "Install it (python.org, pyenv, conda), then: PYTHON=/path/to/python3.11 make setup"
}
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    install_system "$python cannot make virtual environments." python3-venv
check_compiler "$python"

rm -f .venv/.installed-*
make_venv "$python"
say "installing $(grep -c == "$lock") packages into .venv (minutes the first time)"
.venv/bin/python -m pip install --disable-pip-version-check --quiet -r "$lock" ||
    fail "pip could not install $lock (message above)." \
        "Run make setup again; it continues where it stopped."
.venv/bin/python -m pip check --disable-pip-version-check >/dev/null ||
    fail "packages in .venv do not fit together:" "$(.venv/bin/python -m pip check 2>&1 || true)" \
        "Remove .venv and run make setup again."
touch "$stamp"
say "done"
