#!/usr/bin/env bash
# Installs the project, trains and evaluates on the embedded SYNTHETIC demo corpus, and recognises
# one SYNTHETIC clip with the universal model. About three minutes on two cores.
# Arguments go to the training: scripts/demo.sh --config.pretrain.epochs=5
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install ""
install_text
workdir="${WORKDIR:-runs/demo}"
dynapurls train --config=demo --workdir="$workdir" "$@"
dynapurls stream --workdir="$workdir"
dynapurls predict --clips=data_pipelines/synthetic_wave.bvh \
  --actions="wave with the right hand,sit down,drink from a cup"
