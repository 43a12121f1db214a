#!/bin/bash
# A fit on several nodes under Slurm, with one worker on each node:
#
#     DATA=/shared/head_ct RUN=/shared/runs/first sbatch slurm.sh
#
# The data, the run and the feature cache must be on a file system that all nodes share. A job that
# is preempted or reaches its time limit returns to the queue and resumes.

#SBATCH --job-name=hemorrhage-fit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=hemorrhage-fit-%j.log
# The batch shell below receives SIGTERM two minutes before the end.
#SBATCH --signal=B:TERM@120

set -euo pipefail

# Prints TF_CONFIG for this task. The port depends on the job, since jobs may share a node.
tf_config() {
    local port=$((20000 + SLURM_JOB_ID % 20000)) addresses="" host hosts
    hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
    for host in $hosts; do
        addresses+="${addresses:+, }\"$host:$port\""
    done
    printf '{"cluster": {"worker": [%s]}, "task": {"type": "worker", "index": %d}}\n' \
        "$addresses" "$SLURM_PROCID"
}

# Runs one worker.
work() {
    TF_CONFIG=$(tf_config)
    export TF_CONFIG
    exec hemorrhage-tf fit "$@"
}

main() {
    : "${DATA:?must be the folder with the slices}" "${RUN:?must be the run folder}"
    local into=(--out "$RUN") status=0 stopped=""
    # Decided once, so that all workers start with the same options.
    if [[ -e $RUN.checkpoint || -e $RUN ]]; then
        into=(--resume "$RUN")
    fi
    export -f tf_config work
    # Workers that lose another worker end by themselves; the chief stores finished work first.
    srun --kill-on-bad-exit=0 bash -euo pipefail -c 'work "$@"' worker "$DATA" "${into[@]}" \
        --cache "${CACHE:-$(dirname "$RUN")/cache}" --strategy multiworker "$@" &
    local step=$!
    trap 'stopped=yes; kill -TERM "$step"' TERM
    wait "$step" || status=$?
    if [[ -n $stopped ]]; then
        # The signal ended the first wait; the workers now store finished work.
        status=0
        wait "$step" || status=$?
        if ((status)); then
            scontrol requeue "$SLURM_JOB_ID"
        fi
    fi
    exit "$status"
}

# The tests source this file to use its functions.
if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    main "$@"
fi
