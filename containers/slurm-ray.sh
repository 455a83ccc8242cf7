#!/bin/bash
# One run on all nodes of a job of SLURM: a Ray cluster inside the job (docs/clusters.md):
#   sbatch --nodes=4 --chdir="$PWD" containers/slurm-ray.sh --config=mappo --env-config=sc2 with batch_size_run=120
# The first node trains, with LEARNER_CORES of its cores; the others, and its other cores, step environments.
#SBATCH --job-name=oamarl-ray
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
case " $* " in *" with "*) ;; *) set -- "$@" with ;; esac
port=${RAY_PORT:-6379}
learner=${LEARNER_CORES:-8}
workers=$((SLURM_NNODES * SLURM_CPUS_PER_TASK - learner))
export RAY_USAGE_STATS_ENABLED=0
# other users of the network must not run code in this cluster: a token in the home folder, which the nodes share
ray get-auth-token --generate > /dev/null 2>&1 && export RAY_AUTH_MODE=token
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | cut -d ' ' -f 1)
export RAY_ADDRESS=$address:$port
on_head=(srun --overlap --nodes=1 --ntasks=1 -w "$head")

"${on_head[@]}" ray start --head --node-ip-address="$address" --port="$port" \
    --num-cpus=$((SLURM_CPUS_PER_TASK - learner)) --include-dashboard=false --block &
nodes_are() { # waits until the cluster has so many nodes
    until python -c "import os, ray; ray.init(address=os.environ['RAY_ADDRESS'], log_to_driver=False)
raise SystemExit(sum(node['Alive'] for node in ray.nodes()) < $1)" > /dev/null 2>&1; do sleep 2; done
}
nodes_are 1
if [ "$SLURM_NNODES" -gt 1 ]; then
    others=$((SLURM_NNODES - 1))
    srun --overlap --nodes=$others --ntasks=$others -x "$head" \
        bash -c "until ray start --address=$RAY_ADDRESS --num-cpus=$SLURM_CPUS_PER_TASK --block; do sleep 5; done" &
fi
nodes_are "$SLURM_NNODES"

# in this script's own shell, which runs on the first node: it hears the signal before the time limit
trap '[ -n "$run" ] && kill -USR1 "$run"' USR1
oamarl "$@" backend=ray workers="$workers" checkpoint_path=latest stop_seconds=200 &
run=$!
wait $run; status=$? # the trap ends this wait
[ $status -gt 128 ] && { wait $run; status=$?; }
exit $status
