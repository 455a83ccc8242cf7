"""All commands and code of README.md and docs/ run as they are printed, in order, in a fresh copy of the checkout.

Runs are shortened where no reader sees it (``short_runs/sitecustomize.py``). What cannot run in a test stands in
CANNOT, one by one, with the reason; where the program answers with a sentence, that is in ANSWERS.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from conftest import ROOT
from printed import FILES, PAGES, SHELL, Block, Shell, bare, blocks, open_shell

#: (page, language, number of the block) -> the file that the page says it is
STORED = {
    ("adding-an-algorithm.md", "yaml", 0): "mappo_grouped.yaml",
    ("adding-an-algorithm.md", "python", 0): "kl_ppo.py",
    ("adding-an-algorithm.md", "yaml", 1): "mappo_kl.yaml",
    ("adding-an-algorithm.md", "python", 1): "predictive_ppo.py",
    ("adding-an-algorithm.md", "yaml", 2): "mappo_predict.yaml",
    ("adding-an-algorithm.md", "python", 2): "hysteretic.py",
    ("adding-an-algorithm.md", "yaml", 3): "hysteretic_iql.yaml",
    ("adding-an-algorithm.md", "python", 3): "target.py",
    ("adding-an-environment.md", "python", 0): "my_module.py",
    ("adding-an-environment.md", "yaml", 0): "rendezvous.yaml",
    ("coming-from-harl.md", "yaml", 0): "mine.yaml",
    ("environments.md", "yaml", 0): "corridor.yaml",
    ("networks.md", "python", 0): "my_networks.py",
    ("starcraft.md", "yaml", 0): "own_teams.yaml",
    ("sweeps.md", "yaml", 0): "my-sweep.yaml",
    ("sweeps.md", "yaml", 1): "mine.yaml",
    ("sweeps.md", "yaml", 2): "example.yaml",
    ("sweeps.md", "yaml", 3): "search.yaml",
}

#: (page, file) -> a command in the page's sentences that is run once the file is there
PROSE = {
    ("adding-an-algorithm.md", "mappo_grouped.yaml"): (
        "oamarl --config=./mappo_grouped.yaml --env-config=maze",
        "oamarl config --config=./mappo_grouped.yaml --env-config=maze",
    ),
    ("adding-an-algorithm.md", "mappo_kl.yaml"): (
        "oamarl --config=./mappo_kl.yaml --env-config=maze with kl_coef=0.5",
    ),
    ("adding-an-algorithm.md", "mappo_predict.yaml"): (
        "oamarl --config=./mappo_predict.yaml --env-config=maze",
        "oamarl --config=./mappo_predict.yaml --env-config=maze with use_rnn=True runner=rollout standardise_obs=True",
        "oamarl --config=./mappo_predict.yaml --env-config=maze with sharing=separate obs_agent_id=False",
    ),
    ("adding-an-algorithm.md", "hysteretic_iql.yaml"): ("oamarl --config=./hysteretic_iql.yaml --env-config=maze",),
    ("adding-an-environment.md", "my_module.py"): (
        "oamarl --config=mappo with env=my_module:Rendezvous env_args.cells=9",
    ),
    ("environments.md", "corridor.yaml"): ("oamarl --config=oappo --env-config=./corridor.yaml",),
}

INSTALLS = "asks a package index"
ENGINE = "needs a container engine; test_package.py builds what the recipe copies"
CLUSTER = "needs other machines; tests/envs/vector/test_ray.py has a cluster on this one"
SLURM = "needs SLURM"
EPYMARL = "needs a checkout of EPyMARL"
HARL = "needs a checkout of HARL"
MANY = "many runs; test_sweep_runs.py runs a few"
#: page -> line -> why it is not run
CANNOT = {
    "README.md": {
        "make train": "installs packages and trains for minutes; the target is looked at below",
        "make test": "runs this test",
    },
    "clusters.md": {
        "pip install -e '.[ray]'": INSTALLS,
        "python src/main.py --config=mappo --env-config=sc2 with backend=ray ray_address=10.0.0.1:6379 "
        "batch_size_run=64": CLUSTER,
        "ray start --head --port=6379 --num-cpus=0": CLUSTER,
        "ray start --address=10.0.0.1:6379": CLUSTER,
        "ray stop": "ends the clusters of all programs on this machine",
        'sbatch --array=1-10 --chdir="$PWD" containers/slurm-seeds.sh --config=oappo --env-config=sc2 with lr=5e-4':
            SLURM,
        'sbatch --nodes=4 --chdir="$PWD" containers/slurm-ray.sh --config=mappo --env-config=sc2 with '
        "batch_size_run=120": SLURM,
        "docker build -f containers/oamarl.Dockerfile --build-arg EXTRAS='[ray]' -t oamarl:ray .": ENGINE,
        "docker run --rm --init --network host --shm-size 4g --entrypoint ray oamarl:ray start --head --port=6379 "
        "--num-cpus=0 --block": ENGINE,
        "docker run --rm --init --network host --shm-size 4g --entrypoint ray oamarl:ray start "
        "--address=10.0.0.1:6379 --block": ENGINE,
        'docker run --rm --init --network host --shm-size 4g -v "$PWD/results:/runs/results" oamarl:ray '
        "--config=mappo --env-config=maze with backend=ray ray_address=10.0.0.1:6379": ENGINE,
        "apptainer build --build-arg EXTRAS='[ray]' oamarl-ray.sif containers/oamarl.def": ENGINE,
        "srun apptainer exec oamarl-ray.sif ray start --address=10.0.0.1:6379 --block": ENGINE,
    },
    "coming-from-epymarl.md": {
        "python src/main.py --config=PATH/src/config/algs/mappo.yaml --env-config=PATH/src/config/envs/gymma.yaml with "
        "env_args.key=lbforaging:Foraging-8x8-2p-3f-v3": EPYMARL,
    },
    "environments.md": {
        "pip install -e '.[smax]'": INSTALLS,
    },
    "football.md": {
        "oamarl install football": "builds for minutes",
        "python benchmarks/compare.py football-collect --rounds 4 --seconds 8": "needs Google Research Football",
    },
    "installing.md": {
        "pip install -e .": INSTALLS,
        "pip install -e '.[smax]'": INSTALLS,
        "pip wheel --no-deps -w dist .": INSTALLS + "; test_package.py builds one",
        "pip install dist/oamarl-*.whl": INSTALLS + "; test_package.py installs one",
        "docker build -f containers/oamarl.Dockerfile -t oamarl .": ENGINE,
        'docker run --rm --init -v "$PWD/results:/runs/results" oamarl --config=oappo --env-config=maze with seed=1':
            ENGINE,
        "apptainer build oamarl.sif containers/oamarl.def": ENGINE,
        "apptainer run oamarl.sif --config=oappo --env-config=maze with seed=1": ENGINE,
    },
    "mamujoco.md": {
        "pip install -e '.[mamujoco]'": INSTALLS,
        "python benchmarks/compare.py mamujoco-collect --rounds 5 --seconds 6":
            "minutes of measuring; test_benchmarks.py runs such sides",
        "python benchmarks/compare.py --harl PATH 'mamujoco-ha*' mamujoco-mappo --rounds 2 --seconds 5": HARL,
    },
    "growth.md": {
        ".venv/bin/python benchmarks/growth.py --out growth.json --picture growth.png": "ten minutes of measuring",
        ".venv/bin/python benchmarks/growth.py --from docs/results/growth.json": "test_benchmarks.py runs it",
    },
    "seac.md": {
        "oamarl sweep experiments/seac-authors.yaml": MANY,
        ".venv/bin/python benchmarks/seac_program.py PATH --steps 400000 --seed 1 "
        "--out docs/results/data/seac-8x8-2p-3f-seac-authors-seed1.json": "needs a checkout of SEAC, and ten minutes",
        "oamarl plot docs/results/data/seac-8x8-2p-3f-*.json --smooth 0.2 --out docs/images/seac-authors.png":
            "draws into docs/; plots.md draws such",
    },
    "performance.md": {
        "python benchmarks/gpu.py --jaxmarl PATH --wheels FOLDER --out gpu.json": "needs a GPU",
        "python benchmarks/gpu.py --cpu": "minutes of measuring; test_benchmarks.py runs its beginning",
        ".venv/bin/python benchmarks/compare.py --epymarl PATH --rounds 2 --seconds 5 "
        "'lbf-*' 'rware-*' 'spread-*'": EPYMARL + ", and many minutes",
        ".venv/bin/python benchmarks/compare.py --epymarl PATH --rounds 3 --seconds 6 "
        "'lbf-qmix-*' 'lbf-vdn-*' 'lbf-coop-*-mlp'": EPYMARL + ", and many minutes",
    },
    "plots.md": {
        "pip install -e '.[tensorboard,wandb]'": INSTALLS,
        "tensorboard --logdir results/sacred": "a server that never ends",
        "wandb sync results/sacred/oappo/black_red/1/wandb/offline-run-*": "sends to a server, with an account",
    },
    "reciprocity.md": {
        "oamarl sweep experiments/tabular-consensus.yaml": MANY,
        "oamarl sweep experiments/tabular-convergence.yaml": MANY,
        "oamarl sweep experiments/tabular-agents.yaml": MANY,
    },
    "smax.md": {
        "pip install -e '.[smax]'": INSTALLS,
        ".venv/bin/python benchmarks/jaxmarl_mappo.py PATH --map 3m --steps 1000000 --seed 1 "
        "--out docs/results/data/smax-3m-jaxmarl-mappo-seed1.json": "needs a checkout of JaxMARL, and an hour",
    },
    "vmas.md": {
        "pip install -e '.[vmas]'": INSTALLS,
        ".venv/bin/python benchmarks/compare.py 'vmas-*' --rounds 3 --seconds 5":
            "many minutes, and installs BenchMARL",
    },
}  # fmt: skip

#: page -> line -> the other page on which the very same line is run; nothing below it on this page needs its run
ELSEWHERE = {
    "environments.md": {
        "python src/main.py --config=oappo --env-config=gymma with env_args.key=lbforaging:Foraging-8x8-2p-3f-v3 "
        "env_args.time_limit=50": "README.md",
        "python src/main.py --config=mappo --env-config=gymma with env_args.key=pz-mpe-simple-spread-v3 "
        "env_args.time_limit=25": "README.md",
    },
    "smax.md": {
        "python src/main.py --config=oappo --env-config=smax with env_args.map_name=3s5z_vs_3s6z": "README.md",
    },
    "starcraft.md": {
        "python src/main.py --config=oappo --env-config=sc2 with env_args.map_name=3s5z_vs_3s6z": "README.md",
    },
}  # fmt: skip

TRAIN = "python src/main.py --config=oappo --env-config="
SMAX = f"`{TRAIN}smax with env_args.map_name={{0}}`"
NO_SERVER = "MongoDB at host:27017 does not answer"
GAME, SERVER = "needs StarCraft II", "needs a MongoDB server"
#: page -> command that cannot do its work here -> exit status, what is said then, and why
ANSWERS: dict[str, dict[str, tuple[int, tuple[str, ...], str]]] = {
    "README.md": {
        f"{TRAIN}sc2 with env_args.map_name=3s5z_vs_3s6z": (
            2, ("run `oamarl install sc2`", SMAX.format("3s5z_vs_3s6z")), GAME),
    },
    "faults.md": {
        "oamarl --config=ippo --env-config=maze with seed=1 lr=1e6 activation=relu": (
            1, ("left numbers that are not finite: critic_loss", "dump-640.npz"), "shows a run that breaks"),
    },
    "mongodb.md": {
        "oamarl runs export results/sacred/oappo/black_red/1": (2, (NO_SERVER,), SERVER),
        "oamarl runs export 12 13 --to files copies": (2, (NO_SERVER,), SERVER),
    },
    "plots.md": {
        "oamarl plot ~/epymarl/results results --metric test_return_mean --filter 'task=lbforaging*'": (
            2, ("There is nothing at", "epymarl/results"), EPYMARL),
        "oamarl runs export oappo/black_red/1": (2, ("MONGO_URL",), SERVER),
    },
    "starcraft.md": {
        f"{TRAIN}sc2v2 with env_args.map_name=protoss_5_vs_5": (
            2, ("run `oamarl install sc2v2`", SMAX.format("smacv2_5_units")), GAME),
        f"{TRAIN}smaclite with env_args.map_name=2s3z": (
            2, ("run `oamarl install smaclite`", SMAX.format("2s3z")), "needs smaclite, which no package index has"),
        f"{TRAIN}sc2 with evaluate=True checkpoint_path=RUN test_nepisode=3 save_replay=True": (2, (), GAME),
        "oamarl evaluate RUN --episodes 3 --env-args save_replay=True replay_dir=/tmp/replays": (2, ("RUN",), GAME),
    },
}  # fmt: skip

#: command's part -> module without which it cannot run, and what the program says then
OPTIONAL = {
    "--env-config=gfootball": ("gfootball", "run `oamarl install football`"),
    "--env-config=smax": ("jaxmarl", "pip install -e '.[smax]'"),
    "pz-mpe": ("mpe2", "pip install pettingzoo mpe2"),
    "search.yaml": ("optuna", "pip install -e '.[optuna]'"),
    "use_wandb=True": ("wandb", "pip install wandb"),
}


def there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def runnable(page: Path) -> bool:
    return any(b.language in SHELL or b.language in FILES for b in blocks(page))


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if runnable(p)], ids=lambda page: page.name)
def test_what_a_page_prints_runs(page: Path, tmp_path: Path) -> None:
    shell = open_shell(tmp_path)
    shell.env["SEED"] = "1"  # of the batch script
    try:
        for block in blocks(page):
            if block.language in SHELL:
                in_shell(shell, page.name, block)
            elif (page.name, block.language, block.number) in STORED:
                name = STORED[page.name, block.language, block.number]
                (shell.folder / name).write_text(block.text)
                for command in PROSE.get((page.name, name), ()):
                    in_shell(shell, page.name, Block("sh", -1, command + "\n"))
            elif block.language == "python":
                assert shell.python(block.text), shell.said[-3000:]
    finally:
        shell.close()
    assert "Traceback" not in shell.said, shell.said[-3000:]


def in_shell(shell: Shell, page: str, block: Block) -> None:
    """Run a block without the lines that cannot run; what fails must be what is expected to fail, and say why."""
    left_out, answers = {*CANNOT.get(page, {}), *ELSEWHERE.get(page, {})}, ANSWERS.get(page, {})
    lines = [line for line in block.text.splitlines() if bare(line) not in left_out]
    before = len(shell.said)
    failed = shell.run("\n".join(lines))
    said = " ".join(shell.said[before:].split())
    want: dict[str, tuple[int, tuple[str, ...]]] = {}
    for line in map(bare, lines):
        lacking = [tell for part, (module, tell) in OPTIONAL.items() if part in line and not there(module)]
        if lacking:
            want[line] = (2, (lacking[0],))
        elif line in answers:
            want[line] = answers[line][:2]
    assert {command: status for status, command in failed} == {c: w[0] for c, w in want.items()}, said[-3000:]
    for _, sentences in want.values():
        assert all(sentence in said for sentence in sentences), said[-3000:]


def test_every_block_is_run_or_told_why_not() -> None:
    """Blocks have a language; what stands in the tables above stands in the documents."""
    lines: dict[str, set[str]] = {}
    stored = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for block in blocks(page):
            known = (*SHELL, *FILES, "text", "bibtex", "math")
            assert block.language in known, f"{page.name}: a block of language '{block.language}'"
            place = (page.name, block.language, block.number)
            if block.language in SHELL:
                lines.setdefault(page.name, set()).update(map(bare, block.text.splitlines()))
            elif block.language == "text":
                assert not re.search(r"^(\$ |oamarl |python |make )", block.text, re.M), f"{page.name}: {block.text}"
            elif block.language == "yaml":
                assert place in STORED, f"{place}: which file is it?"
            if place in STORED:
                stored.add(place)
        for (name, _), commands in PROSE.items():
            assert name != page.name or all(f"`{c}`" in " ".join(text.split()) for c in commands), commands
    assert stored == set(STORED)
    for page_name, others in ELSEWHERE.items():
        for line, other in others.items():
            assert line in lines[other], f"{other} no longer has what {page_name} has: {line}"
            assert line not in {**CANNOT.get(other, {}), **ELSEWHERE.get(other, {})}, f"{other} does not run {line}"
    for page_name, told in [*CANNOT.items(), *ANSWERS.items(), *ELSEWHERE.items()]:
        assert not set(told) - lines[page_name], f"{page_name} no longer has these lines"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_installs_into_the_environment_that_runs_the_tests(page: Path) -> None:
    """It would have the package of a folder that is gone after the test."""
    left_out = {*CANNOT.get(page.name, {}), *ELSEWHERE.get(page.name, {})}
    lines = [bare(line) for b in blocks(page) if b.language in SHELL for line in b.text.splitlines()]
    assert not [x for x in lines if re.search(r"\b(pip|uv|conda) install\b", x) and x not in left_out]


def test_make_has_the_targets_of_the_readme() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("train", "test", "check", "reference"):
        assert re.search(rf"^{target}:", makefile, re.M)
