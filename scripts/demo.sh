#!/usr/bin/env bash
# Sets everything up and runs the whole path on the embedded SYNTHETIC demo corpus: train, then
# stream_eval, then says where the report is. Last, the universal model recognises one clip, which
# is SYNTHETIC too. About three minutes on two cores.
# Arguments go to the training: scripts/demo.sh --config.pretrain.epochs=5
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

install ""
install_text
workdir="${WORKDIR:-runs/demo}"
python -m dynapurls_jax.train --config=configs/demo.py --workdir="$workdir" "$@"
python -m dynapurls_jax.stream_eval --workdir="$workdir"
python -m dynapurls_jax.predict --clips=data_pipelines/synthetic_wave.bvh \
  --actions="wave with the right hand,sit down,drink from a cup"
