#!/usr/bin/env bash
# Trains by torchrun, on one machine or the same command on each of several:
#
#   NPROC_PER_NODE=4 cluster/torchrun.sh --config C.yaml [--group.key value …]
#   NNODES=2 MASTER_ADDR=first.machine NPROC_PER_NODE=4 cluster/torchrun.sh --config C.yaml
#
# Whatever is given goes to `python train.py fit`; the numbers of machines and processes follow from the variables.
# NPROC_PER_NODE: processes on each machine (the number of its GPUs, or 1); NNODES: machines (1); MASTER_ADDR,
# MASTER_PORT: of the first machine; $LIGHTNING_SEG_PYTHON: the interpreter
# (.venv/bin/python, else python).
set -euo pipefail
cd "$(dirname "$0")/.."

python=python
[ ! -x .venv/bin/python ] || python=.venv/bin/python
read -r -a python <<<"${LIGHTNING_SEG_PYTHON:-$python}"
nodes=${NNODES:-1}
processes=${NPROC_PER_NODE:-$("${python[@]}" -c 'import torch; print(torch.cuda.device_count() or 1)')}
if [ "$nodes" = 1 ]; then
  rendezvous=(--standalone)
else
  : "${MASTER_ADDR:?is the name or address of the first machine}"
  rendezvous=(--rdzv_backend c10d --rdzv_endpoint "$MASTER_ADDR:${MASTER_PORT:-29400}" --rdzv_id "${RUN_ID:-lightning_seg}")
fi

exec "${python[@]}" -m torch.distributed.run "${rendezvous[@]}" --nnodes "$nodes" --nproc_per_node "$processes" \
  train.py fit "$@" --trainer.num_nodes "$nodes" --trainer.devices "$processes"
