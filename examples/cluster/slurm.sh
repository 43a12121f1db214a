#!/bin/bash
# Fits on several nodes under Slurm, one worker a node:
#
#     DATA=/shared/head_ct RUN=/shared/runs/first sbatch slurm.sh
#
# The data, the run and the feature cache must lie on a file system that all nodes share. A job that
# is pre-empted, or that comes to its time limit, is put back into the queue and goes on.

#SBATCH --job-name=hemorrhage-fit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=hemorrhage-fit-%j.log
# Two minutes before the end the batch shell, below, hears of it.
#SBATCH --signal=B:TERM@120

set -euo pipefail

# Prints TF_CONFIG for this task. Jobs that share a node need ports of their own.
tf_config() {
    local port=$((20000 + SLURM_JOB_ID % 20000)) addresses="" host hosts
    hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    for host in $hosts; do
        addresses+="${addresses:+, }\"$host:$port\""
    done
    printf '{"cluster": {"worker": [%s]}, "task": {"type": "worker", "index": %d}}\n' \
        "$addresses" "$SLURM_PROCID"
}

# What each task runs.
work() {
    TF_CONFIG=$(tf_config)
    export TF_CONFIG
    exec hemorrhage-tf fit "$@"
}

main() {
    : "${DATA:?is the folder with the slices}" "${RUN:?is the run folder}"
    local into=(--out "$RUN") status=0 stopped=""
    # Decided here once, so that all workers are started with the same options.
    if [[ -e $RUN.unfinished || -e $RUN ]]; then
        into=(--resume "$RUN")
    fi
    export -f tf_config work
    # A worker that loses another says so and ends by itself; the chief keeps what there is first.
    srun --kill-on-bad-exit=0 bash -euo pipefail -c 'work "$@"' worker "$DATA" "${into[@]}" \
        --cache "${CACHE:-$(dirname "$RUN")/cache}" --strategy multiworker "$@" &
    local step=$!
    trap 'stopped=yes; kill -TERM "$step"' TERM
    wait "$step" || status=$?
    if [[ -n $stopped ]]; then
        # The signal ended the first wait; the workers now write what they have.
        status=0
        wait "$step" || status=$?
        if ((status)); then
            scontrol requeue "$SLURM_JOB_ID"
        fi
    fi
    exit "$status"
}

# Sourced, as the tests do, it only defines its functions.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
