"""The configuration machinery: layers, vocabulary, checks. Parts are dummies, so that only it is tested."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oamarl import parts
from oamarl import settings as settings_module
from oamarl.parts import resolve
from oamarl.settings import Settings
from oamarl.utils.errors import UserError
from oamarl.utils.schema import layers, vocabulary, yamls
from oamarl.utils.schema.command_line import Request, parse
from oamarl.utils.schema.keys import check_value

DEFAULT = """\
# Defaults
runner: dummy_parts:Runner
mac: basic_mac
agent: rnn
env_args: {}
seed: null
t_max: 1000
batch_size_run: 8
test_greedy: True
label: ""
local_results_path: null
hidden_dim: 64
sharing: shared
critic_sharing: shared
lr: 0.0005
gamma: 0.99
q_nstep: null
gae_lambda: null
reuse_matrix: null
"""
ALG = """\
# The dummy method
name: alg
learner: dummy_parts:Learner
epochs: 4
critic_type: cv_critic
gae_lambda: 0.95
"""
ENV = """\
# A dummy
env: dummy_parts:Env
env_args:
  key: a
  time_limit: null
t_max: 2000
"""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of its own and dummy parts; returns an empty current folder."""
    configs = tmp_path / "config"
    for name, text in {"default.yaml": DEFAULT, "algs/alg.yaml": ALG, "envs/toy.yaml": ENV}.items():
        (configs / name).parent.mkdir(parents=True, exist_ok=True)
        (configs / name).write_text(text)
    (configs / "algs/reuse.yaml").write_text("# Reuse\nlearner: dummy_parts:ReuseLearner\n")
    monkeypatch.setattr(layers, "CONFIGS", configs)
    always = {"run": "dummy_parts:RunConfig", "logging": "dummy_parts:LoggingConfig"}
    monkeypatch.setattr(parts, "ALWAYS", always)
    registries = {
        "controllers": {"basic_mac": "dummy_parts:MAC"},
        "modules": {"rnn": "dummy_parts:Agent"},
        "runners": {"episode": "dummy_parts:Runner"},
        "learners": {"learner": "dummy_parts:Learner"},
    }
    for package, names in registries.items():
        module = importlib.import_module(f"oamarl.{package}")
        monkeypatch.setattr(module, "REGISTRY", names, raising=False)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return here


def run(*words: str) -> Settings:
    return resolve(parse(words)[0])


def ok(*overrides: str) -> Settings:
    return run("--config=alg", "--env-config=toy", "with", *overrides)


def sentence(*words: str) -> str:
    with pytest.raises(UserError) as caught:
        run(*words)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


def wrong(*overrides: str) -> str:
    return sentence("--config=alg", "--env-config=toy", "with", *overrides)


# -- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("-2", -2), ("010", 10), ("1_000", 1000), ("1e-3", 1e-3), ("1E6", 1e6), (".5", 0.5), ("2.", 2.0),
        ("True", True), ("false", False), ("no", "no"), ("on", "on"), ("None", None), ("null", None), ("~", None),
        ("none", "none"), ("", ""), ("'3'", "3"), ("[1, 2]", [1, 2]), ("[[0,2],[1]]", [[0, 2], [1]]),
        ("(1, 2)", [1, 2]), ("[1e-3, None]", [1e-3, None]), ("{red: 2, black: 1}", {"red": 2, "black": 1}),
        ("1:30", "1:30"),
        ("lbforaging:Foraging-8x8-2p-3f-v3", "lbforaging:Foraging-8x8-2p-3f-v3"), ("2020-01-01", "2020-01-01"),
        ("[1, 2", "[1, 2"), ("*x", "*x"), ("3m", "3m"), ("-", "-"), ("a=b", "a=b"), ("./runs/1", "./runs/1"),
    ],
)  # fmt: skip
def test_command_line_values(text, value):
    got = parse(["with", f"k={text}"])[0].overrides["k"]
    assert got == value
    assert type(got) is type(value)


def test_infinities_are_floats():
    assert yamls.scalar(".inf") == math.inf
    assert math.isnan(yamls.scalar("nan"))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abcxyz_", min_size=1), plain, max_size=5))
def test_dump_is_read_back_equal(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "roundtrip.yaml"
    path.write_text(yamls.dump(value), encoding="utf-8")
    assert yamls.load(path, "x") == value


@given(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False))
def test_inline_is_what_one_would_type(value):
    assert yamls.scalar(yamls.inline(value)) == value
    assert "\n" not in yamls.inline(value)


# -- the command line ----------------------------------------------------------------------------


def test_flags_with_and_without_equals():
    a = parse(["--config=x", "--env-config=y", "with", "a=1", "env_args.b=2", "env_args.c.d=3"])[0]
    b = parse(["--env-config", "y", "with", "a=1", "env_args.b=2", "env_args.c.d=3", "--config", "x"])[0]
    assert a == b == Request("x", "y", {"a": 1, "env_args": {"b": 2, "c": {"d": 3}}})


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--confg=x"], "'--config'"),
        (["--config"], "needs a name"),
        (["--config", "with", "a=1"], "needs a name"),
        (["--config=x", "--config=y"], "twice"),
        (["a=1"], "after `with`"),
        (["wiht", "a=1"], "'with'"),
        (["with", "a"], "key=value"),
        (["with", "=1"], "key=value"),
        (["with", "a..b=1"], "empty"),
        (["with", "a=1", "a.b=2"], "contradict"),
        (["with", "a.b=2", "a=1"], "contradict"),
        (["with", "a={1: 2}"], r"'a=\{1: 2\}' has the key 1, which is not text"),
        (["with", "a.b={x: {true: 2}}"], "has the key true, which is not text"),
        (["with", "a=[{b: 2}, {null: 2}]"], "has the key null, which is not text"),
    ],
)
def test_mistakes_of_grammar(words, part):
    with pytest.raises(UserError, match=part):
        parse(words)


# -- layers --------------------------------------------------------------------------------------


def test_each_layer_overrules_the_one_before_and_is_named(world):
    s = ok("lr=1e-3", "env_args.time_limit=7")
    assert (s.values["lr"], s.source["lr"]) == (1e-3, "command line")
    assert (s.values["t_max"], s.source["t_max"]) == (2000, "envs/toy.yaml")
    assert (s.values["gae_lambda"], s.source["gae_lambda"]) == (0.95, "algs/alg.yaml")
    assert (s.values["gamma"], s.source["gamma"]) == (0.99, "default.yaml")
    assert s.values["env_args"] == {"key": "a", "time_limit": 7}
    assert s.source["env_args.time_limit"] == "command line"
    assert s.source["env_args.key"] == "envs/toy.yaml"
    assert s.notices == ()


def test_parts_receive_their_values(world):
    import dummy_parts

    s = ok("t_max=1e4", "lr=1", "gae_lambda=None", "q_nstep=5")
    assert s.part(dummy_parts.RunConfig).t_max == 10_000
    learner = s.part(dummy_parts.LearnerConfig)
    assert learner.lr == 1.0
    assert isinstance(learner.lr, float)
    assert (learner.q_nstep, learner.gae_lambda) == (5, None)
    assert s.learner is dummy_parts.Learner
    assert s.values["t_max"] == 10_000


def test_paths_of_ones_own(world):
    (world / "mine.yaml").write_text(ALG.replace("name: alg\n", "") + "lr: 1e-2\n")
    s = run("--config=mine.yaml", "--env-config=toy")
    assert (s.values["name"], s.values["lr"], s.source["lr"]) == ("mine", 0.01, "mine.yaml")
    s = run(f"--config={world / 'mine.yaml'}", "--env-config", "toy")
    assert s.source["lr"] == str(world / "mine.yaml")


def test_an_algorithm_may_be_based_on_another(world):
    (world / "sub").mkdir()
    (world / "sub/one.yaml").write_text("base: alg\nlr: 1e-2\nepochs: 7\n")
    (world / "two.yaml").write_text("base: sub/one.yaml\nepochs: 9\n")
    (world / "sub/three.yaml").write_text("base: ../two.yaml\nname: third\n")
    s = run("--config=two.yaml", "--env-config=toy", "with", "gamma=0.5")
    assert [s.values[k] for k in ("name", "lr", "epochs", "gae_lambda", "gamma")] == ["two", 0.01, 9, 0.95, 0.5]
    assert [s.source[k] for k in ("lr", "epochs", "gae_lambda")] == ["sub/one.yaml", "two.yaml", "algs/alg.yaml"]
    assert "base" not in s.values
    third = run("--config=sub/three.yaml", "--env-config=toy", "with", "gamma=0.5", f"seed={s.values['seed']}")
    assert third.values == s.values | {"name": "third"}


def test_settings_for_one_map_go_by_folder_and_name(world):
    tuned = layers.CONFIGS / "algs/toy_a/alg.yaml"
    tuned.parent.mkdir()
    tuned.write_text("# Tuned\nbase: alg\nlr: 1e-2\n")
    s = run("--config=toy_a/alg", "--env-config=toy")
    assert (s.values["name"], s.values["lr"], s.source["lr"]) == ("alg", 0.01, "algs/toy_a/alg.yaml")
    assert "did you mean 'toy_a/alg'" in sentence("--config=toy_a/agl", "--env-config=toy")


@pytest.mark.parametrize(
    ("base", "part"),
    [
        ("allg", "The base of ./own.yaml: Unknown algorithm 'allg'"),
        ("own.yaml", "based on itself"),
        ("./next.yaml", "based on itself"),
        ("none.yaml", "The base of ./own.yaml: The file none.yaml cannot be read"),
        ("3", "base=3 is not allowed"),
        ("", "base='' is not allowed"),
    ],
)
def test_wrong_bases(base, part, world):
    (world / "own.yaml").write_text(f"base: {base or repr('')}\n")
    (world / "next.yaml").write_text("base: own.yaml\n")
    assert part in sentence("--config=./own.yaml", "--env-config=toy")


def test_a_printed_configuration_runs_again(world):
    s = ok("lr=1e-3", "seed=4")
    (world / "again.yaml").write_text(yamls.dump(s.values))
    again = run("--config=./again.yaml")
    assert again.values == s.values
    assert again.notices == ()


def test_seed_is_drawn_and_kept(world):
    first, second = ok(), ok()
    assert first.source["seed"] == "worked out"
    assert first.values["seed"] != second.values["seed"]  # equal once in 2^31
    assert ok("seed=7").values["seed"] == 7


def test_learner_checks_against_the_environment(world):
    ok().check(SimpleNamespace(n_agents=2))
    with pytest.raises(UserError, match="too few"):
        ok().check(SimpleNamespace(n_agents=1))


# -- mistakes ------------------------------------------------------------------------------------


def test_unknown_algorithm_environment_and_files(world):
    assert "did you mean 'alg'" in sentence("--config=algg", "--env-config=toy")
    assert "did you mean 'toy'" in sentence("--config=alg", "--env-config=tyo")
    assert "./none.yaml cannot be read" in sentence("--config=./none.yaml", "--env-config=toy")
    assert "--config" in sentence("--env-config=toy")
    assert "--env-config" in sentence("--config=alg")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: [1", "line"),
        ("- 1\n", "not a list"),
        ("3: x\n", "not text"),
        ("env_args: {1: x}\n", "has the key 1, which is not text"),
        ("env_args: &a {x: *a}\n", "line 1: a mapping holds itself"),
        ("env_args: {x: &a [*a]}\n", "line 1: a list holds itself"),
        ("env_args: {x: [{null: x}]}\n", "has the key null, which is not text"),
        ("\t", "not YAML"),
    ],
)
def test_broken_yaml(world, text, part):
    (world / "bad.yaml").write_text(text)
    message = sentence("--config=./bad.yaml", "--env-config=toy")
    assert part in message
    assert "./bad.yaml" in message


def test_overrides_of_a_program_have_names_too(world):
    with pytest.raises(UserError, match="The command line has the key 1, which is not text"):
        resolve(Request("alg", "toy", {"env_args": {1: 2}}))


def test_unknown_keys_at_any_depth(world):
    assert "'lrr' (command line); did you mean 'lr'" in wrong("lrr=1")
    assert "did you mean 'time_limit'" in wrong("env_args.time_limt=5")
    assert "did you mean 'env_args'" in wrong("env_arg.key=5")
    assert "'lr' holds one value" in wrong("lr.x=5")
    (world / "m.yaml").write_text(ALG + "epocs: 3\n")
    assert "'epocs' (m.yaml); did you mean 'epochs'" in sentence("--config=m.yaml", "--env-config=toy")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("lr=abc", "float is expected"), ("lr=0", "more than 0"), ("lr=nan", "is not a number"), ("lr=", "float"),
        ("gamma=1.01", "at most 1"), ("epochs=2.5", "int is expected"), ("epochs=True", "int is expected"),
        ("t_max=0", "at least 1"), ("test_greedy=yes", "bool is expected"), ("critic_type=cv_critc", "'cv_critic'"),
        ("sharing=sepparate", "'separate'"), ("sharing=[0, -1]", "at least 0"),
        ("env_args.time_limit=x", "int or null"),
        ("seed=-1", "at least 0"), ("seed=3000000000", "at most"), ("q_nstep=0", "at least 1"),
        ("env=3", "name is expected"), ("learner=null", "name is expected"), ("env_args=3", "mapping"),
        ("name=a/b", "folder"), ("learner=dummy_parts:Lerner", "'Learner'"),
        ("learner=no_such_module:X", "no_such_module"),
        ("env=dummy_parts:Envv", "'Env'"), ("mac=basic_mc", "'basic_mac'"),
    ],
)  # fmt: skip
def test_wrong_values(world, override, part):
    if override == "q_nstep=0":
        assert part in wrong(override, "gae_lambda=null")
    else:
        assert part in wrong(override)


def test_wrong_value_in_a_yaml_names_the_yaml(world):
    (world / "m.yaml").write_text(ALG + "lr: fast\n")
    assert "(in m.yaml)" in sentence("--config=m.yaml", "--env-config=toy")


def test_returns_are_one_of_two(world):
    message = wrong("q_nstep=5")
    assert "q_nstep=5 (command line)" in message
    assert "gae_lambda=0.95 (algs/alg.yaml)" in message
    assert "both null" in wrong("gae_lambda=null")


def test_a_known_key_that_this_algorithm_does_not_read(world):
    assert "'epochs' is not read by 'reuse'" in sentence("--config=reuse", "--env-config=toy", "with", "epochs=3")
    assert "epochs" not in run("--config=reuse", "--env-config=toy").values  # silent in default.yaml and shipped YAMLs
    (world / "m.yaml").write_text("learner: dummy_parts:ReuseLearner\nepochs: 3\ndouble_q: True\n")
    (notice,) = run("--config=m.yaml", "--env-config=toy").notices
    assert "double_q, epochs" in notice
    assert "'double_q' is not read" in wrong("double_q=True")


def test_results_folder_of_ones_own_counts_from_the_current_folder(world):
    assert ok("local_results_path=out").values["local_results_path"] == str(world / "out")
    assert not (world / "out").exists()


def test_results_folder_of_the_checkout(world):
    root = Path(settings_module.__file__).resolve().parent.parent
    assert ok().values["local_results_path"] == str(root / "results")


# -- EPyMARL's vocabulary ------------------------------------------------------------------------

#: the keys of EPyMARL's shipped YAMLs
EPYMARL_KEYS = """
action_selector add_value_last_step agent agent_output_type batch_size batch_size_run buffer_cpu_only buffer_size
cg_edges cg_payoff_rank cg_payoffs_hidden_dim cg_utilities_hidden_dim checkpoint_path common_reward critic_baseline_fn
critic_q_fn critic_train_mode critic_train_reps critic_type double_q duelling entropy_coef entropy_end_ratio env
env_args epochs eps_clip epsilon_anneal_time epsilon_finish epsilon_start evaluate evaluation_epsilon final_entropy_coef
gamma grad_norm_clip hidden_dim hypergroup hypernet_embed hypernet_layers initial_entropy_coef label learner
learner_log_interval load_step local_results_path log_interval lr mac mask_before_softmax mixer mixing_embed_dim
msg_anytime msg_iterations msg_normalized name obs_agent_id obs_individual_obs obs_last_action optim_alpha optim_eps
q_nstep reg render repeat_id reward_scalarisation runner runner_log_interval save_model save_model_interval save_replay
standardise_returns standardise_rewards state_value_type t_max target_update_interval_or_tau test_greedy test_interval
test_nepisode use_cuda use_rnn use_tensorboard use_wandb wandb_mode wandb_project wandb_save_model wandb_team
""".split()


def test_every_key_of_epymarl_has_a_status():
    assert set(EPYMARL_KEYS) <= vocabulary.KNOWN
    named = (vocabulary.READ, vocabulary.INERT, vocabulary.REFUSED, vocabulary.OTHER, vocabulary.RENAMED)
    tables = [set(names) for names in named]
    assert sum(map(len, tables)) == len(set().union(*tables)), "a key has two statuses"


def test_aliases(world):
    (world / "ns.yaml").write_text(ALG.replace("cv_critic", "cv_critic_ns") + "mac: non_shared_mac\nagent: rnn_ns\n")
    values = run("--config=ns.yaml", "--env-config=toy").values
    assert [values[k] for k in ("mac", "agent", "sharing", "critic_type", "critic_sharing")] == [
        "basic_mac", "rnn", "separate", "cv_critic", "separate",
    ]  # fmt: skip
    # a later layer overrules what an alias said
    assert run("--config=ns.yaml", "--env-config=toy", "with", "sharing=shared").values["sharing"] == "shared"
    assert "sharing=separate" in wrong("mac=non_shared_mac", "sharing=shared")


def test_other_names_of_keys():
    words = ("--config=mappo", "--env-config=matrix", "with", "initial_entropy_coef=2", "final_entropy_coef=0.5")
    values = run(*words, "entropy_end_ratio=0.8").values
    assert [values[k] for k in ("entropy_coef", "entropy_schedule", "entropy_coef_final", "entropy_end_ratio")] == [
        2.0, "linear", 0.5, 0.8,
    ]  # fmt: skip
    assert not set(values) & set(vocabulary.RENAMED)
    for word, said in (
        ("entropy_coef=1", "initial_entropy_coef means entropy_coef=2, but entropy_coef=1 is set too (command line)."),
        ("entropy_schedule=constant", "means entropy_schedule='linear', but entropy_schedule='constant' is set too"),
    ):
        with pytest.raises(UserError) as caught:
            run(*words, word)
        assert said in str(caught.value)


def test_inert_keys_give_one_notice(world):
    (notice,) = ok("optim_alpha=0.99", "buffer_cpu_only=True", "repeat_id=1").notices
    names = ("buffer_cpu_only", "optim_alpha", "repeat_id")
    assert notice == f"Without effect here: {'; '.join(f'{k} ({vocabulary.INERT[k]})' for k in names)}."
    assert "buffer_cpu_only" not in ok("buffer_cpu_only=True").values


def test_inert_keys_decide_no_number():
    """A key that would change what is computed, logged or loaded is honoured or refused, never just noticed."""
    assert set(vocabulary.INERT) == {"buffer_cpu_only", "hypergroup", "optim_alpha", "repeat_id"}


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        (("buffer_size=10",), None), (("buffer_size=null",), None), (("buffer_size=",), None),
        (("batch_size=20", "buffer_size=20"), None), (("batch_size_run=4", "buffer_size=4"), None),
        (("buffer_size=5000",), "10 or null"), (("buffer_size=4",), "10 or null"), (("buffer_size=x",), "10 or null"),
        (("batch_size=20", "buffer_size=10"), "20 or null"), (("batch_size_run=4", "buffer_size=10"), "4 or null"),
    ],
)  # fmt: skip
def test_a_buffer_holds_one_batch(given, allowed):
    """A larger one would mix old episodes into each update, a smaller one never fill a batch."""
    words = ("--config=ippo", "--env-config=matrix", "with", *given)
    if allowed is None:
        settings = run(*words)
        assert settings.notices == ()
        assert "buffer_size" not in settings.values
        return
    message = sentence(*words)
    assert "each update learns from one batch of new episodes and from no earlier ones" in message
    assert message.endswith(f"use {allowed}.")


def test_a_buffer_in_a_yaml_names_the_yaml(world):
    (world / "m.yaml").write_text(ALG + "buffer_size: 32\n")
    assert "buffer_size=32 (m.yaml) is not offered" in sentence("--config=m.yaml", "--env-config=toy")


@pytest.mark.parametrize(
    "override",
    [
        "agent_output_type=q", "mask_before_softmax=False",
        "env_args.pretrained_wrapper=PretrainedTag", "env_args.seed=3",
    ],
)  # fmt: skip
def test_refused_values(world, override):
    message = wrong(override)
    assert "is not offered" in message
    assert override.partition("=")[0] in message


def test_what_happens_anyway_is_accepted_silently(world):
    s = ok(
        "agent_output_type=pi_logits", "mask_before_softmax=True",
        "env_args.pretrained_wrapper=null", "env_args.seed=null",
    )  # fmt: skip
    assert s.notices == ()
    assert "seed" not in s.values["env_args"]


# -- with the real parts -------------------------------------------------------------------------


def test_shipped_yamls_give_no_notice():
    for algorithm in (*layers.shipped("algs"), *layers.tuned()):
        settings = run(f"--config={algorithm}", "--env-config=maze")
        assert settings.notices == ()
        assert settings.values["name"] == Path(algorithm).name


def test_shipped_algorithms_set_only_what_they_read():
    for name, path in (layers.shipped("algs") | layers.tuned()).items():
        read = run(f"--config={name}", "--env-config=maze").values
        unread = set(vocabulary.translate(yamls.load(path, name), name)) - {*read, "base"}
        assert not unread, f"{path.name} sets {unread}, which nothing reads"


def test_keys_said_to_be_read_are_read():
    import dataclasses

    from oamarl.tools.reference import parts

    read = {f.name for cls in parts() for f in dataclasses.fields(cls)} | set(settings_module.OWN)
    assert set(vocabulary.READ) <= read
    unused = set(yamls.load(layers.CONFIGS / "default.yaml", "default.yaml")) - read
    assert not unused, f"default.yaml sets {unused}, which nothing reads"


def test_numbers_that_no_float32_holds_are_out_of_range() -> None:
    meta = {"low": None, "high": None, "above": 0}
    with pytest.raises(UserError, match=r"eps_clip=1e\+300 is out of range: at most 1e\+38 is allowed"):
        check_value("eps_clip", 1e300, float, meta)
    assert check_value("eps_clip", 1e38, float, meta) == 1e38
    assert check_value("reuse_sigma", float("inf"), float, meta) == float("inf")


@pytest.mark.parametrize("method", ["oappo", "oatrpo"])
def test_the_papers_own_reading_stays_by_name(method: str) -> None:
    """Whatever the methods' defaults are: eq. 9 with its maximum, sigma 0.1, lambda 0.7."""
    assert run(f"--config={method}", "--env-config=maze").values["reuse_kl_reduction"] == "mean"
    paper = run(f"--config={method}_paper", "--env-config=maze").values
    names = ("name", "reuse_scheme", "reuse_kl_reduction", "reuse_sigma", "reuse_lambda")
    assert [paper[k] for k in names] == [f"{method}_paper", "adaptive_kl", "max", 0.1, 0.7]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("iql", "replay_alpha=0.5"), "'replay_alpha' has an effect with replay=prioritised, not with uniform"),
        (("iql", "state_scale=2"), "'state_scale' has an effect with mixer=qmix, not with null"),
        (("qmix", "hypernet_layers=1", "hypernet_embed=8"), "with hypernet_layers=2, not with 1"),
        (("vdn", "hypernet_embed=8"), "with mixer=qmix, not with vdn"),
        (("iql", "standardise_rewards=False", "standardise_rewards_mean=True"), "with standardise_rewards=True, not"),
    ],
)
def test_keys_without_effect_are_refused_on_the_command_line(words: tuple[str, ...], said: str) -> None:
    assert said in sentence(f"--config={words[0]}", "--env-config=maze", "with", *words[1:])


def test_files_after_the_wrong_flag(tmp_path: Path) -> None:
    own, env, theirs = tmp_path / "own.yaml", tmp_path / "env.yaml", tmp_path / "default.yaml"
    own.write_text("base: iql\nlr: 0.1\n")
    env.write_text("env: maze\nenv_args: {time_limit: 9}\n")
    theirs.write_text("env: sc2\noptim_alpha: 0.99\n")
    assert f"did you mean --env-config={env}?" in sentence(f"--config={env}", "--env-config=maze")
    assert f"did you mean --config={own}?" in sentence("--config=iql", f"--env-config={own}")
    assert "is EPyMARL's default.yaml" in sentence("--config=iql", f"--env-config={theirs}")
    assert run(f"--config={own}", f"--env-config={env}").values["env_args"]["time_limit"] == 9


def test_keys_of_another_scheme_are_refused_on_the_command_line() -> None:
    """They would change nothing, and a user would not know."""
    maze = ("--config=oappo", "--env-config=maze", "with")
    said = sentence(*maze, "reuse_sigma=1")
    assert "'reuse_sigma' has an effect with reuse_scheme=adaptive_kl, not with adaptive_roles" in said
    assert "with reuse_scheme=adaptive_kl, all or groups" in sentence(*maze, "reuse_lambda=0.5", "reuse_scheme=none")
    assert run(*maze, "reuse_lambda=0.5", "reuse_scheme=adaptive_kl").values["reuse_lambda"] == 0.5
    assert run("--config=oappo_paper", "--env-config=maze", "with", "reuse_sigma=1").values["reuse_sigma"] == 1.0
