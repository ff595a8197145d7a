#!/usr/bin/env bash
# Sets everything up and runs the default tests; `-m slow` runs the exhaustive ones instead.
# Arguments go to pytest: scripts/test.sh -k memory
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install "[dev]"
install_text
python -m pytest -n "${PYTEST_WORKERS:-2}" --dist loadfile "$@"
