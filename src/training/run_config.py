"""The keys of the training loop: how long to train, when to test, log and save, and with which threads."""

from __future__ import annotations

from dataclasses import dataclass

from ..utils.schema.keys import key


@dataclass(frozen=True)
class RunConfig:
    """Configuration of the training loop."""

    seed: int = key("Seed of everything random in the run; null draws one.", low=0)
    seeds_at_once: int | list[int] | None = key(
        "Seeds that are trained together in this process, each with the numbers and the folder of a run of its own: so "
        "many from `seed` on, or a list; null: `seed` alone.",
        low=0,
    )
    t_max: int = key("Environment steps to train for.", low=1)
    max_seconds: float | None = key(
        "Seconds after which the run saves a checkpoint and ends, at the next update (null: no limit).", above=0
    )
    stop_seconds: float = key(
        "Seconds that a signalled run may take to end its update and save a checkpoint; 0: it stops at once.",
        low=0,
        high=1e6,
    )
    common_reward: bool = key("All agents are rewarded for the team's reward; otherwise each for its own.")
    test_nepisode: int = key("Episodes of a test, exactly, of each kind (test_greedy); 0 for no tests.", low=0)
    test_interval: int = key(
        "Environment steps between tests; more than half of t_max: a fifth of t_max, so that a short run has a curve.",
        low=1,
    )
    test_greedy: bool = key(
        "A test plays sampled episodes (test_return_mean ..., as EPyMARL tests its actor-critics) and as many greedy "
        "ones of the same seeds, by argmax actions (test_greedy_return_mean ...); False: sampled ones alone."
    )
    log_interval: int = key(
        "Environment steps between lines (with verbose=True tables) and logged points (of some values others, with "
        "runner_log_interval and learner_log_interval); more than half of t_max: a fifth of t_max.",
        low=1,
    )
    runner_log_interval: int | None = key(
        "Environment steps between logged returns, lengths and metrics of training episodes; null: log_interval.", low=1
    )
    learner_log_interval: int | None = key(
        "Environment steps between logged scalars of updates (their means since the last ones); null: log_interval.",
        low=1,
    )
    save_model: bool = key("Keep permanent snapshots too, in the run's folder models/.")
    save_model_interval: int = key("Environment steps between snapshots.", low=1)
    save_best: bool = key(
        "Keep the checkpoint with the best mean return of a test, in the run's folder best/: of its greedy episodes "
        "(test_greedy_return_mean), or of the sampled ones (test_return_mean) with test_greedy=False."
    )
    checkpoint_interval: int = key("Environment steps between resume checkpoints (the newest two are kept).", low=1)
    checkpoint_path: str = key(
        "Resume from this run's folder, folder of checkpoints, or checkpoint file; `latest`: from the newest run of "
        "this configuration that is not over, if there is one."
    )
    load_step: int = key(
        "The checkpoint of checkpoint_path to load is the one closest to this step: of a run's folder, among all in "
        "checkpoints/, models/ and best/; 0: the newest in checkpoints/.",
        low=0,
    )
    init_from: str = key("Start from the weights (alone) of this run, folder or checkpoint file.")
    use_cuda: bool = key("Learn and act on the GPU, where there is one.")
    matmul_precision: str = key(
        "How a GPU multiplies matrices: float32; tf32, with factors of 10 bits; bf16, with factors and results of 7 "
        "bits. The CPU always uses float32.",
        choices=("float32", "tf32", "bf16"),
    )
    torch_threads: int = key("Threads of torch's operations on the CPU.", low=1, high=1024)
    learner_threads: int | None = key(
        "Threads that share the work of updates, when environment workers wait; null: 2, or 1 where there is one core "
        "or OMP_NUM_THREADS=1, but never less than torch_threads.",
        low=1, high=1024,
    )  # fmt: skip
