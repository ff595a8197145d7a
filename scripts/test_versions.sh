#!/usr/bin/env bash
# The tests on each supported Python, with the oldest jax that pyproject.toml admits and with the
# newest. Goes on after a failure; ends with a table, and status 1 if any failed.
#   scripts/test_versions.sh                              all six: hours
#   scripts/test_versions.sh 3.13 newest -- -k memory     one; what follows -- goes to pytest
# Pythons: python3.13 and so on, or pyenv's; PYTHON3_13=... names another. Each turn has a virtual
# environment of its own, deleted after it, since it can take 7 GB (where torch comes with CUDA);
# VENVS=folder keeps them for the next time.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

pythons=() jaxes=()
while [ $# -gt 0 ]; do
  case "$1" in
    3.11 | 3.12 | 3.13) pythons+=("$1") ;;
    oldest | newest) jaxes+=("$1") ;;
    --) shift && break ;;
    *) echo "expected 3.11, 3.12, 3.13, oldest, newest or --, got $1" >&2 && exit 2 ;;
  esac
  shift
done
[ ${#pythons[@]} -gt 0 ] || pythons=(3.11 3.12 3.13)
[ ${#jaxes[@]} -gt 0 ] || jaxes=(oldest newest)
oldest="$(sed -n 's/^ *"jax>=\([0-9.]*\)".*/\1/p' pyproject.toml)"

# interpreter VERSION: the first candidate that is there and is of this version.
interpreter() {
  local named="PYTHON${1/./_}" candidates candidate
  candidates=("python$1" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/python)
  [ -z "${!named:-}" ] || candidates=("${!named}")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c "import sys; assert sys.version_info[:2] == (${1/./, })" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "no Python $1 (${candidates[*]}); install it, or name it with $named=..." >&2
  return 1
}

# test_one VERSION oldest|newest [PYTEST ARGUMENT ...]: a subshell, with its environment active.
test_one() (
  set -e
  python="$(interpreter "$1")" venv="$venvs/$1-$2" jax=(--upgrade jax)
  [ "$2" = newest ] || jax=("jax==$oldest")
  shift 2
  [ -x "$venv/bin/pip" ] || "$python" -m venv "$venv"
  # shellcheck disable=SC1091
  source "$venv/bin/activate"
  source scripts/environment.sh
  install "[dev]" "${jax[@]}"
  install_text
  python - <<'PY' | tee "$log"
import platform
from importlib.metadata import version

names = ("jax", "jaxlib", "flax", "orbax-checkpoint", "numpy")
print(f"python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in names))
PY
  python -m pytest -n "${PYTEST_WORKERS:-2}" "$@" | tee -a "$log"
)

for version in "${pythons[@]}"; do # a missing one is told now, not in an hour
  interpreter "$version" >/dev/null || exit 1
done
trap 'exit 130' INT # pytest survives Ctrl-C, and the next turn would start
venvs="${VENVS:-$(mktemp -d)}"
log="$(mktemp)"
trap 'rm -f "$log"; [ -n "${VENVS:-}" ] || rm -rf "$venvs"' EXIT
table=() status=0
for version in "${pythons[@]}"; do
  for jax in "${jaxes[@]}"; do
    echo "== Python $version, $jax jax"
    : >"$log"
    test_one "$version" "$jax" "$@"
    code=$? result=passed
    [ $code -eq 0 ] || result=FAILED status=1
    table+=("$version | $jax | $result | $(head -n 1 "$log") | $(tail -n 1 "$log" | tr -d =)")
    [ -n "${VENVS:-}" ] || rm -rf "${venvs:?}/$version-$jax"
  done
done
printf '%s\n' "" "python | jax | tests | versions | pytest" "${table[@]}"
exit $status
