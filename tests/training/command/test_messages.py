"""What messages advise works as printed, and what they say of the user's own files is true."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import flows
from flows.bijections.permutation import Permutation
from flows.models.glow import PERMUTATIONS
from flows.training import CheckpointError, checkpoint_to_resume, load_flow, read_summary, save_flow
from flows.training.command.explain import WHAT_TO_DO_WITHOUT_MEMORY, explain
from tests.support.perturb import perturb
from tests.support.run import CONF
from tests.support.typed import Answer, type_command

TINY = ["experiment=digits", "model.hidden_channels=4", "model.num_steps=1", "training.num_init_images=32"]
TINY += ["trainer.max_steps=1", "callbacks.progress=null", "+trainer.enable_progress_bar=false"]
NAME = "it's my run (1)=a"
SHOW = ["--cfg", "job"]


class Typist:
    """A user at a terminal, in a folder of his own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, script: str, *arguments: str) -> Answer:
        return type_command(self.capsys, script, *arguments)

    def follow(self, advice: str, *more: str) -> Answer:
        """Type a command as a message printed it."""
        _, path, *arguments = shlex.split(advice)
        script = Path(path).resolve().relative_to(Path(CONF).parent).with_suffix("")
        return self(".".join(script.parts), *arguments, *more)


@pytest.fixture
def typing(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Typist:
    monkeypatch.chdir(tmp_path)
    return Typist(capsys)


def test_what_the_end_of_a_run_says_is_true(typing: Typist, tmp_path: Path) -> None:
    done = typing("train", *TINY, f"run_id={NAME}", "callbacks.grids=null", "test=false")
    assert done.exit_code == 0 and done.stderr == ""
    place, names = re.search(r"Everything is in (.*): (.*)\.\n", done.stdout).groups()
    assert Path(place) == Path("outputs") / NAME
    for name in names.split(", "):
        assert (tmp_path / place / name).exists()
    advice = re.search(r"Try next: (.*)\n", done.stdout)[1]
    shown = typing.follow(advice, "num_samples=1")
    assert shown.exit_code == 0 and shown.stderr.strip() == "" and (tmp_path / place / "drawn/grid.png").exists()


def test_a_run_goes_on_from_the_folder_of_another(typing: Typist) -> None:
    assert typing("train", *TINY, "run_id=a").exit_code == 0
    for number, place in enumerate(["outputs/a", "outputs/a/checkpoints"]):
        longer = typing("train", *TINY, "trainer.max_steps=2", f"run_id=b{number}", f"resume={place}")
        assert longer.exit_code == 0 and longer.stderr == ""
        assert read_summary(Path(f"outputs/b{number}/summary.json"))["steps"] == 2


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (True, "resume=true does not say from where"),
        (False, "resume=null to start from the beginning"),
        (1, "resume=1 does not say from where"),
        ("", "resume= does not say from where"),
        ("latest", "latest does not exist: give resume=auto"),
        ("Auto", "did you mean 'auto'?"),
        ("x.safetensor", "did you mean 'x.safetensors'?"),
        ("empty", "empty is a folder without a checkpoint that loads"),
    ],
)
def test_resume_says_what_it_takes(told: object, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.safetensors").touch()
    with pytest.raises(CheckpointError, match=re.escape(says)) as error:
        checkpoint_to_resume(told)
    assert "name fashion_mnist" not in str(error.value)


@pytest.mark.parametrize("told", ["fashion_mnist", "x.safetensors"])
def test_weights_are_not_resumed(told: str, typing: Typist, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    assert "holds weights only" in typing("train", *TINY, f"resume={told}").error


@pytest.mark.parametrize(
    ("key", "also"),
    [
        ("trainer.limit_train_batches=2", []),
        ("optimizer.weight_decay=0.1", ["optimizer=adam"]),
        ("data.augment.x=1", []),
    ],
)
def test_a_setting_that_can_be_added_is_said_to_be(key: str, also: list[str], typing: Typist) -> None:
    error = typing("train", *also, key).error
    if "augment" in key:
        assert "there is no such setting" in error and "+" not in error
        return
    advised = shlex.split(error.rpartition(" to add it, ")[2])
    assert advised == [f"+{key}"]
    assert typing("train", *also, *advised, *SHOW).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["lr=1e-3"], "did you mean 'optimizer.lr'"),
        (["batch_size=3"], "did you mean 'data.batch_size'"),
        (["optimizer=adam_decayed_scales", "optimizer.optimizer.lr=1"], "set by optimizer.lr"),
        (["+trainer.max_epochs=3"], "leave out the +, trainer.max_epochs=3"),
        (["seed=1,2"], "add -m to run with each, or write 'seed=[1,2]' for a list"),
        (["seed=range(3)"], "add -m to run with each"),
        (["run_id=a,b=c"], """this text 'run_id="a,b=c"'"""),
        (["data=digits,"], "cannot be read"),
        (["callbacks.grids.temperatures=[]", *TINY], "callbacks.grids: temperatures are"),
        (["+callbacks.mine.x=1", *TINY], "mine among the callbacks or loggers needs a _target_"),
        (
            ["trainer.val_check_interval=1000", *TINY],
            "1000 is more than the 20 steps of an epoch: set trainer.check_val",
        ),
        (["test=no", *TINY], "test should be a valid boolean, got 'no'"),
        (["data.image_shape=3,8,8"], "write 'data.image_shape=[3,8,8]' for a list"),
        (["+max_epochs=3"], "max_epochs: nothing uses this setting"),
        (["optimizer=adam_decayed_scales", "+optimizer.optimizer.lr=1", *TINY], "multiple values for argument 'lr'"),
        (["data.source._target_=data.Digit", *TINY], "has no attribute 'Digit' (did you mean 'Digits'?)"),
        (["data.source._target_=nowhere.Digits", *TINY], "No module named 'nowhere'"),
        (["data=image_folder", "data.source.group=*_", *TINY], "group must be a regular expression"),
        (["~trainer.nothing"], "'trainer.nothing' does not exist"),
    ],
)
def test_wrong_settings_are_answered_with_the_right_ones(arguments: list[str], says: str, typing: Typist) -> None:
    assert says in typing("train", *arguments).error


@pytest.mark.parametrize(
    ("script", "arguments", "says"),
    [
        ("sample", ["temperature=0.5,1"], "'temperature=[0.5,1]' for a list"),
        ("sample", ["model=glow"], "model: there is no such group here; --help"),
        ("sample", ["ckpt=Fashion_mnist"], "did you mean 'fashion_mnist'"),
        ("sample", ["ckpt=run"], "run is a folder: give run/best.safetensors"),
        ("sample", ["ckpt=run/best"], "did you mean 'run/best.safetensors'"),
        ("scripts.evaluate", ["trainer=gpu"], "trainer: there is no such group here; --help"),
    ],
)
def test_other_scripts_speak_of_their_own_settings(
    script: str, arguments: list[str], says: str, typing: Typist, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/best.safetensors").touch()
    assert says in typing(script, *arguments).error


def test_another_process_that_died_is_told_in_the_words_of_the_command() -> None:
    error = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")
    assert "resume=auto" in explain(error, "train")
    for command in ("sample", "quality", "evaluate"):
        assert "then give the same command again" in explain(error, command) and "resume" not in explain(error, command)


@pytest.mark.parametrize("name", ["gloo_test", "NCCL_1"])
def test_a_folder_of_such_a_name_is_no_rank_that_died(name: str) -> None:
    text = f"outputs/{name} is in use by another run: wait for its end, or give another run_id"
    assert explain(RuntimeError(text)) == text


@pytest.mark.parametrize("command", WHAT_TO_DO_WITHOUT_MEMORY)
def test_out_of_memory_names_settings_of_the_command(command: str) -> None:
    sentence = explain(MemoryError("tried to allocate 3 GiB"), command)
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose(command)
    keys = re.findall(r"(?:[a-z]+\.)?[a-z]+_[a-z_]+", sentence)
    assert keys and "3 GiB more" in sentence
    for key in keys:
        node = cfg
        for part in key.split("."):
            assert part in node, key
            node = node[part]
    assert ("device" in cfg) == ("another device" in sentence)


def test_out_of_memory_names_no_setting_of_other_commands() -> None:
    assert explain(MemoryError(), "edit/reconstruct") == "out of memory: give fewer or smaller images"


OWN_FILES = {
    "a tab in YAML": (
        {"conf/experiment/own.yaml": "# @package _global_\ntrainer:\n\tmax_epochs: 1\n"},
        "own.yaml, line 3: ",
    ),
    "broken YAML": ({"conf/experiment/own.yaml": "trainer: {max_epochs: 1\nx"}, "own.yaml, line 2: "),
    "a key twice": ({"conf/experiment/own.yaml": "seed: 1\nseed: 2\n"}, "own.yaml, line 2: found duplicate key"),
    "YAML in Latin-1": ({"conf/experiment/own.yaml": b"# m\xfcll\nseed: 1\n"}, "not in UTF-8"),
    "no package": ({"conf/experiment/own.yaml": "trainer:\n  max_epochs: 1\n"}, "line '# @package _global_'"),
    "a group misspelt": (
        {"conf/experiment/own.yaml": "# @package _global_\ndefaults:\n  - override /modell: glow\n"},
        "experiment/own.yaml: modell: there is no such group here (did you mean 'model'?)",
    ),
    "a choice misspelt": (
        {"conf/experiment/own.yaml": "# @package _global_\ndefaults:\n  - override /model: gloww\n"},
        "model=gloww: there is no such choice (did you mean 'glow'?)",
    ),
    "a circular import": (
        {"own_a.py": "from own_b import B\nclass Own: pass", "own_b.py": "from own_a import Own\nclass B: pass"},
        "data.source._target_: own_a.Own cannot be imported (ImportError: cannot import name 'Own'",
    ),
    "a syntax error": ({"own_a.py": "class Own\n"}, "own_a.Own cannot be imported (SyntaxError: "),
    "an exception": (
        {"own_a.py": "class Own:\n    def __init__(self) -> None:\n        {}['missing']\n"},
        "data.source: KeyError: 'missing' (raised in own_a.py, line 3; ",
    ),
    "an abstract class": (
        {"own_a.py": "class Own:\n    def __init__(self, x: int) -> None:\n        pass\n"},
        "missing 1 required positional argument: 'x'",
    ),
}


@pytest.mark.parametrize("name", OWN_FILES)
def test_mistakes_in_own_files_are_told_as_such(
    name: str, typing: Typist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, says = OWN_FILES[name]
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.syspath_prepend(tmp_path)
    for module in "own_a", "own_b":
        monkeypatch.delitem(__import__("sys").modules, module, raising=False)
    own = ["--config-dir=conf", "experiment=own"] if "conf/experiment/own.yaml" in files else TINY
    source = [] if "conf/experiment/own.yaml" in files else ["data.source._target_=own_a.Own"]
    error = typing("train", *own, *source).error
    assert says in error
    assert ("HYDRA_FULL_ERROR" in error) == (name in {"an exception", "an abstract class"})


def test_a_model_that_cannot_be_stored_is_refused_before_it_is_trained(typing: Typist, tmp_path: Path) -> None:
    (tmp_path / "conf/model").mkdir(parents=True)
    (tmp_path / "conf/model/own.yaml").write_text("_target_: torch.nn.Linear\nin_features: 2\nout_features: 2\n")
    refused = typing("train", "--config-dir=conf", "data=digits", "model=own")
    assert "training: the model does not say how it was built" in refused.error


def test_a_choice_that_is_not_known_here_is_no_other_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"image_shape": (1, 8, 8), "num_levels": 1, "num_steps": 1, "hidden_channels": 4}
    path = tmp_path / "own.safetensors"
    with monkeypatch.context() as run:
        run.setitem(PERMUTATIONS, "householder", Permutation.reversal)
        save_flow(perturb(flows.build("glow", **small, permutation="householder"), 0.1), path)
    with pytest.raises(CheckpointError, match="permutation 'householder', which is not known here") as error:
        load_flow(path)
    assert "another version" not in str(error.value) and "'imports=[FILE.py]'" in str(error.value)
    monkeypatch.setitem(PERMUTATIONS, "householder", Permutation.reversal)  # as the advised import does
    assert load_flow(path).spec["permutation"] == "householder"


def test_a_path_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typing: Typist) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    save_flow(
        flows.build("glow", image_shape=(1, 8, 8), num_levels=1, num_steps=1, hidden_channels=4),
        tmp_path / "home/a=b.safetensors",
    )
    assert load_flow("~/a=b.safetensors").image_shape == (1, 8, 8)
    for ckpt, out in ("ckpt=~/a=b.safetensors", "out='~/drawn'"), ("ckpt='~/a=b.safetensors'", "out=~/drawn2"):
        assert typing("sample", ckpt, out, "num_samples=1").exit_code == 0
    assert {path.name for path in (tmp_path / "home").iterdir()} == {"a=b.safetensors", "drawn", "drawn2"}
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("model", [path.stem for path in Path(CONF).glob("model/*.yaml")])
def test_a_search_varies_what_the_model_has_around_its_own_sizes(model: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        cfg = compose("train", ["sweep=optuna", f"model={model}"], return_hydra_config=True)
        params = {str(key): str(space) for key, space in cfg.hydra.sweeper.params.items()}
        compose("train", [f"model={model}", *(f"{key}=1" for key in params)])
    sizes = {key: re.findall(r"\d+", space) for key, space in params.items() if key.startswith("model.")}
    assert sizes and "optimizer.lr" in params
    for key, tried in sizes.items():
        assert str(OmegaConf.select(cfg, key)) in tried


@pytest.mark.parametrize("optimizer", [path.stem for path in Path(CONF).glob("optimizer/*.yaml")])
def test_every_optimizer_has_the_learning_rate_that_messages_name(optimizer: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        assert compose("train", [f"optimizer={optimizer}", "optimizer.lr=0.5"]).optimizer.lr == 0.5


@pytest.mark.slow
def test_nothing_is_said_on_the_terminal_where_nothing_is_wrong(typing: Typist) -> None:
    more = ["logger=tensorboard", "run_id=a", "trainer.max_steps=2"]
    for extra in ["trainer.max_steps=1"], ["resume=auto"], ["test=false", "run_id=b"], ["-m", "seed=0,1", "run_id=c"]:
        done = typing("train", *TINY, *more, *extra)
        assert done.exit_code == 0 and done.stderr == "", done.stderr
    for script, arguments in ("scripts.evaluate", ["data=digits"]), ("scripts.estimate", TINY):
        ckpt = ["ckpt=outputs/a/checkpoints/last.ckpt"] if script == "scripts.evaluate" else []
        done = typing(script, *arguments, *ckpt)
        assert done.exit_code == 0 and done.stderr.strip() == "", done.stderr
