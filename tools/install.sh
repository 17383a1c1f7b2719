#!/usr/bin/env bash
# Makes .venv at the top of the project and installs the project into it. Idempotent: when nothing
# has changed it ends at once, and what a killed installation left behind is made anew.
set -euo pipefail
exec </dev/null # nothing in here may wait for a keyboard

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=$root/.venv
log=$venv/install.log
stamp=$venv/.installed       # what was installed, written last
unfinished=$venv/.installing # exists from the first to the last step of an installation
constraints=$root/tools/constraints.txt
extras=mini,lora,onnx,demo,test,dev
python=${MTKD_PYTHON:-}

usage() {
    cat <<'EOF'
usage: tools/install.sh [--python PYTHON] [--extras LIST] [--help]

Makes .venv at the top of the project and installs the project and all it needs into it:
3 to 4 minutes and 7 GB, most of it CUDA's libraries.

  --python PYTHON  use this existing environment with ESPnet in it as it is, and only check it:
                   nothing is installed, no .venv is made (also: MTKD_PYTHON in the environment)
  --extras LIST    comma-separated extras of setup.py (default: mini,lora,onnx,demo,test,dev)
  --help           show this text

Otherwise the first of these that is Python 3.12 or 3.13 makes .venv: $PYTHON, python3.12,
python3.13, python3, python, pyenv's versions, uv. pip's own settings (PIP_INDEX_URL, ...) apply.
EOF
}
say() { echo "install: $*"; }
die() {
    echo "error: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage && exit 0 ;;
        --python | --extras)
            [ $# -ge 2 ] || die "$1 needs a value (tools/install.sh --help)"
            if [ "$1" = --python ]; then python=$2; else extras=$2; fi
            shift 2
            ;;
        *) die "unknown option '$1' (tools/install.sh --help lists the options)" ;;
    esac
done
for extra in ${extras//,/ }; do
    grep -qF "    \"$extra\": [" "$root/setup.py" || die "unknown extra '$extra' (setup.py lists them)"
done

# Prints the interpreter itself: a shim hides it, and a venv (perhaps the one to be made anew) is
# not what another venv should be made from. Candidates are run, not believed: a pyenv shim may
# refuse to run, and Debian's python3 may lack ensurepip.
probe_version='import sys; sys.exit(not ((3, 12) <= sys.version_info[:2] <= (3, 13)))'
probe_base='import ensurepip, sys, venv; print(getattr(sys, "_base_executable", sys.executable))'
suitable() { "$1" -c "$probe_version" >/dev/null 2>&1; }
find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.12 python3.13 python3 python \
        "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.1[23]*/bin/python; do
        if [ -n "$candidate" ] && suitable "$candidate"; then
            "$candidate" -c "$probe_base" 2>/dev/null && return
        fi
    done
    return 1
}

make_venv() {
    local base=
    base=$(find_python) || command -v uv >/dev/null ||
        die "no Python 3.12 or 3.13 that can make virtual environments was found; install one" \
            "(apt-get install python3.12-venv, brew install python@3.12, pyenv install 3.12, or uv" \
            "from https://docs.astral.sh/uv) or name yours: PYTHON=/path/to/python3.12 $0" \
            "${PYTHON:+(PYTHON=$PYTHON is not one)}"
    if [ -e "$venv/" ]; then
        [ -e "$venv/pyvenv.cfg" ] || [ -e "$unfinished" ] || [ -z "$(ls -A "$venv")" ] ||
            die "$venv is in the way and is not a virtual environment: move it away"
        say "making .venv anew: it is half-made, broken or of another Python"
        find "$venv/" -mindepth 1 -delete # not the folder itself: it may be a link to another disk
    fi
    mkdir -p "$venv"
    : >"$unfinished"
    say "making .venv with ${base:-uv}"
    if [ -n "$base" ]; then
        "$base" -m venv "$venv" >"$log" 2>&1 || fail "making .venv"
    else
        uv venv --allow-existing --seed --python 3.12 "$venv" >"$log" 2>&1 || fail "uv"
    fi
}

fail() {
    echo "error: $1 failed; the last lines of $log:" >&2
    tail -n 15 "$log" >&2
    exit 1
}

# Of pip's words only the large files: something to look at while they come.
progress() {
    awk '$1 == "Downloading" || $1 == "Using" {
             name = $(NF - 2); sub(".*/", "", name)
             if ($NF == "GB)" || ($NF == "MB)" && substr($(NF - 1), 2) + 0 >= 100))
                 print "  " name " " $(NF - 1) " " $NF }
         /^Installing collected packages/ { print "  unpacking, the longest step" }
         { fflush() }'
}

state() {
    printf '%s\n%s\n' "$root" "$extras"
    "$venv/bin/python" -c 'import sys; print(sys.version)'
    cksum <"$root/setup.py"
    cksum <"$constraints"
}
is_done() { [ ! -e "$unfinished" ] && [ "$(state 2>&1)" = "$(cat "$stamp" 2>&1)" ]; }
check() { "$1" "$root/tools/check_environment.py" --extras "$extras" --stamp "$2"; }

if [ -n "$python" ]; then
    command -v "$python" >/dev/null || die "--python or MTKD_PYTHON: there is no '$python'"
    suitable "$python" || die "--python or MTKD_PYTHON: $python is not Python 3.12 or 3.13"
    check "$python" "$root/.python-checked" || exit 1
    say "using $python as it is"
    exit 0
fi

if is_done; then
    say ".venv is up to date"
    exit 0
fi
exec 9>"$root/.venv.lock" # held until the end of this script and of the pip that it starts
if command -v flock >/dev/null && ! flock -n 9; then
    say "another installation is at work here; waiting for it"
    flock 9
    if is_done; then exit 0; fi
fi

unset PYTHONPATH PYTHONHOME # packages found there would count as installed
export PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
has_pip() { "$venv/bin/python" -m pip --version || "$venv/bin/python" -m ensurepip; }
if [ -e "$unfinished" ] || ! suitable "$venv/bin/python" || ! has_pip >/dev/null 2>&1; then
    make_venv
fi
: >"$unfinished"
say "installing the packages; pip's words are in $log"
(cd "$root" && "$venv/bin/python" -m pip install --progress-bar off \
    -c "$constraints" -e ".${extras:+[$extras]}") 2>&1 | tee "$log" | progress || fail "pip"
say "checking that they import"
check "$venv/bin/python" "$venv/.imported" >>"$log" 2>&1 || fail "the check"
state >"$stamp"
rm "$unfinished"
say "done in $SECONDS s"
