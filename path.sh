# shellcheck shell=bash
# The environment of every recipe: `. ./path.sh`, from here or from egs2/<corpora>/mtkd1/.
# Sets MAIN_ROOT and puts the project's Python first on PATH. Where this file is reached through a
# link, set MAIN_ROOT to the folder of the project before.

_root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
# Its own place first: an ESPnet user may have MAIN_ROOT set to ESPnet's checkout.
[ -e "${_root}/espnet_mtkd/__init__.py" ] || _root=${MAIN_ROOT:-}
if [ ! -e "${_root}/espnet_mtkd/__init__.py" ]; then
    echo "error: path.sh: set MAIN_ROOT to the folder of the project (now '${MAIN_ROOT:-}')" >&2
    return 1
fi
MAIN_ROOT=${_root}

# The Python: one that the user has (MTKD_PYTHON), else the one of tools/install.sh.
if [ -n "${MTKD_PYTHON:-}" ]; then
    # Asked for its own place, since it may be a shim.
    _python=$("${MTKD_PYTHON}" -c 'import sys; print(sys.executable)') || {
        echo "error: MTKD_PYTHON=${MTKD_PYTHON} does not run" >&2
        return 1
    }
else
    _python=${MAIN_ROOT}/.venv/bin/python
    if [ ! -x "${_python}" ]; then
        echo "error: there is no ${MAIN_ROOT}/.venv: run tools/install.sh first" >&2
        return 1
    fi
fi
_bin=$(dirname "${_python}")
# -ef: the same file, through links too.
if ! [ "${_bin}/python" -ef "${_python}" ]; then
    echo "error: ${_bin}/python is not ${_python}: let MTKD_PYTHON name a virtual environment's" >&2
    return 1
fi
# Never twice, for path.sh is sourced by scripts that call each other.
case ${PATH} in "${_bin}:"*) ;; *) export PATH="${_bin}:${PATH}" ;; esac
case :${PYTHONPATH:-}: in
    *":${MAIN_ROOT}:"*) ;;
    *) export PYTHONPATH="${MAIN_ROOT}${PYTHONPATH:+:${PYTHONPATH}}" ;;
esac

# Kaldi's and ESPnet's scripts (run.pl, slurm.pl, parse_options.sh) where there is a checkout;
# last on PATH, so that they never hide a program. None of them is needed.
for _utils in \
    ${KALDI_ROOT:+"${KALDI_ROOT}/egs/wsj/s5/utils"} \
    ${ESPNET_ROOT:+"${ESPNET_ROOT}/tools/kaldi/egs/wsj/s5/utils" "${ESPNET_ROOT}/utils"}; do
    case :${PATH}: in *":${_utils}:"*) continue ;; esac
    [ ! -d "${_utils}" ] || export PATH="${PATH}:${_utils}"
done

# Bytewise sorting, as Kaldi's data directories need it, but with UTF-8 where the system has it.
if locale -a 2>/dev/null | grep -qix 'C\.utf-\{0,1\}8'; then
    export LC_ALL=C.UTF-8
else
    export LC_ALL=C
fi
export PYTHONUTF8=1 PYTHONIOENCODING=UTF-8
# Several jobs share the cores: one thread each unless the user says otherwise.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
unset _root _python _bin _utils
