#!/bin/bash
# One job of SLURM for each seed, resumed by itself at the time limit (docs/clusters.md):
#   sbatch --array=1-10 --chdir="$PWD" containers/slurm-seeds.sh --config=oappo --env-config=sc2 with lr=5e-4
#SBATCH --job-name=oamarl
#SBATCH --cpus-per-task=4
#SBATCH --mem=8G
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
case " $* " in *" with "*) ;; *) set -- "$@" with ;; esac
trap '[ -n "$run" ] && kill -USR1 "$run"' USR1
oamarl "$@" seed="$SLURM_ARRAY_TASK_ID" workers="$SLURM_CPUS_PER_TASK" checkpoint_path=latest stop_seconds=200 &
run=$!
wait $run; status=$? # the trap ends this wait
[ $status -gt 128 ] && { wait $run; status=$?; }
case $status in 124|138) scontrol requeue "$SLURM_JOB_ID" ;; esac
exit $status
