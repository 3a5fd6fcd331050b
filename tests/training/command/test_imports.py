"""Parts in files of one's own, outside of the project, train, sample and are evaluated as those of the project."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from hydra import compose, initialize_config_dir

import sample
from flows.bijections.elementwise import COUPLINGS
from flows.files import CheckpointError
from flows.models.registry import MODELS
from flows.training import load_flow, read_summary
from flows.training.command.imports import import_modules
from scripts import estimate, evaluate
from tests.support.command_line import run_script
from tests.support.run import CONF, TINY, run_training

COUPLING = """
from flows.bijections.elementwise import COUPLINGS, ElementwiseMap
from half import HALF

class Stretched(ElementwiseMap):
    num_raw = 1
    def __init__(self, scale):
        super().__init__()
        self.scale = scale
    def forward(self, x, raw):
        log_scale = HALF * self.scale(raw)
        return log_scale.exp() * x, log_scale
    def inverse(self, z, raw):
        return (-HALF * self.scale(raw)).exp() * z

COUPLINGS["stretched"] = Stretched
"""

MODEL = """
import flows
from flows.bijections.actnorm import ActNorm
from flows.bijections.reshape import Squeeze
from flows.dequantize import Dequantize
from flows.multiscale import Multiscale
from flows.prior import TopPrior

def squeezed(*, image_shape, num_steps=1, hidden_channels=1):
    channels, height, width = image_shape
    norms = [ActNorm(4 * channels) for _ in range(num_steps)]
    top = TopPrior((4 * channels, height // 2, width // 2), "position")
    return flows.ImageFlow(
        image_shape=tuple(image_shape),
        dequantize=Dequantize(),
        multiscale=Multiscale([flows.Chain(Squeeze(), *norms)], [], top),
    )

flows.register("squeezed", squeezed)
"""

SOURCE = """
import torch
from data import TensorImages

class Ramps:
    def __init__(self, num_images=100):
        self.num_images = num_images
    def prepare(self):
        pass
    def load(self):
        steepness = torch.linspace(0, 30, self.num_images).view(-1, 1, 1, 1)
        images = (steepness * torch.arange(8.0)).expand(-1, 1, 8, 8).to(torch.uint8)
        return TensorImages(images[::2]), TensorImages(images[1::2])
"""

CONFIG = """
_target_: flows.build
_convert_: all
name: squeezed
image_shape: ${data.image_shape}
num_steps: 1
hidden_channels: 1
"""

FILES = {
    "my_coupling.py": COUPLING,
    "half.py": "HALF = 0.5\n",
    "my_model.py": MODEL,
    "my_source.py": SOURCE,
    "conf/model/squeezed.yaml": CONFIG,
}
DATA = ["data.source._target_=my_source.Ramps", "data.num_classes=null", "data.num_val=10"]
ONE_EPOCH = ["trainer.max_epochs=1", "training.num_init_images=20"]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Stand in a folder with files of one's own; forget afterwards what was imported from them."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with patch.dict(COUPLINGS), patch.dict(MODELS):
        yield tmp_path
    forget()


def forget() -> None:
    """Forget the modules, as a new process knows nothing of them."""
    for name in ("my_coupling", "half", "my_model", "my_source"):
        sys.modules.pop(name, None)


def call(main: object, config: str, *overrides: str) -> None:
    with initialize_config_dir(CONF, version_base="1.3"):
        main(compose(config, [*overrides]))  # type: ignore[operator]


def sampled(folder: Path, imports: str) -> int:
    """Return how many images sample.py draws."""
    call(
        sample.main, "sample", f"ckpt={folder}/best.safetensors", "num_samples=3", "temperature=1", f"imports={imports}"
    )
    return len([*Path("samples").glob("temperature-1/*/*.png")])


def evaluated(folder: Path, *overrides: str) -> float:
    """Return the bits/dim by scripts/evaluate.py."""
    told = [f"ckpt={folder}/best.safetensors", "data=digits", "num_draws=2", f"out={folder}/evaluated.json"]
    call(evaluate.main, "evaluate", *told, *overrides)
    return json.loads((folder / "evaluated.json").read_text())["bits_per_dim"]


def result_of_test(folder: Path) -> float:
    return read_summary(folder / "summary.json")["test_bits_per_dim"]


def test_a_coupling(own: Path) -> None:
    imports = "imports=[my_coupling.py]"
    run_training(own / "run", "model.coupling=stretched", imports, *ONE_EPOCH)
    COUPLINGS.pop("stretched")
    with pytest.raises(CheckpointError, match=r"'stretched', which is not known here.*'imports=\[FILE.py\]'"):
        load_flow(own / "run/best.safetensors")
    forget()
    assert sampled(own / "run", "[my_coupling.py]") == 3
    assert evaluated(own / "run", imports) == pytest.approx(result_of_test(own / "run"), rel=1e-6)


def test_a_model(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    imports = "imports=[my_model.py]"
    told = [f"hydra.searchpath=[file://{own}/conf]", "model=squeezed", imports]
    run_training(own / "run", *told, *ONE_EPOCH)
    MODELS.pop("squeezed")
    with pytest.raises(CheckpointError, match=r"model 'squeezed', which is not known here.*'imports=\[FILE.py\]'"):
        load_flow(own / "run/best.safetensors")
    forget()
    assert sampled(own / "run", "[my_model.py]") == 3
    assert evaluated(own / "run", imports) == pytest.approx(result_of_test(own / "run"), rel=1e-6)
    call(estimate.main, "estimate", "data=digits", "run_dir=run", *told)
    assert re.search(r"parameters +136\b", capsys.readouterr().out)  # 8 of ActNorm, 2 * 64 of the prior


def test_a_data_source(own: Path) -> None:
    imports = "imports=[my_source.py]"
    run_training(own / "run", *DATA, imports, *ONE_EPOCH)
    assert read_summary(own / "run/summary.json")["test_images"] == 50
    assert sampled(own / "run", "[]") == 3
    assert evaluated(own / "run", *DATA, imports) == pytest.approx(result_of_test(own / "run"), rel=1e-6)


def test_a_run_goes_on_when_the_file_has_moved(own: Path) -> None:
    run_training(own / "run", *DATA, "imports=[my_source.py]", *ONE_EPOCH)
    forget()
    (own / "parts").mkdir()
    moved = shutil.move(own / "my_source.py", own / "parts")
    told = ["trainer.max_epochs=2", "training.num_init_images=20", "resume=auto"]
    run_training(own / "run", *DATA, f"imports=[{moved}]", *told)
    summary = read_summary(own / "run/summary.json")
    assert (summary["first_step"], summary["steps"]) == (1, 2)
    assert summary["changed_settings"]["imports"] == [["my_source.py"], [moved]]


def test_a_file_is_imported_once_by_its_stem(own: Path) -> None:
    import_modules(["my_source.py", str(own / "my_source.py"), "my_source"])
    first = sys.modules["my_source"]
    import_modules(["./my_source.py"])
    assert sys.modules["my_source"] is first and Path(first.__file__ or "") == own / "my_source.py"


@pytest.mark.parametrize(
    ("imports", "error", "says"),
    [
        ("my_source.py", ValueError, r"list of modules.*got 'my_source.py': write 'imports=\[my_source.py\]'"),
        ([3], ValueError, "list of modules"),
        (None, ValueError, "list of modules"),
        (["my_sourc.py"], FileNotFoundError, "my_sourc.py does not exist.*did you mean 'my_source.py'.*as seen from"),
        (["conf/"], FileNotFoundError, "conf is no .py file"),
        (["my_source"], ImportError, r"no module my_source \(did you mean 'my_source.py'\?\)"),
        (["my-source.py"], ValueError, "my-source.py: the name of the file can be no name of a module"),
        (["random.py"], ValueError, "random.py would be the module random, but that is .*: give the file another name"),
        (
            ["parts/my_source.py"],
            ValueError,
            "would be the module my_source, but that is .*my_source.py: give",
        ),
        (["wrong.py"], ImportError, r"wrong.py cannot be imported \(SyntaxError: .*line 1"),
        (
            ["lacking.py"],
            ImportError,
            r"lacking.py cannot be imported \(ModuleNotFoundError: .*'nowhere'",
        ),
        (["twice.py"], ImportError, "twice.py cannot be imported .*there is a model 'glow' already"),
    ],
    ids=str,
)
def test_what_cannot_be_imported_is_told(own: Path, imports: object, error: type[Exception], says: str) -> None:
    (own / "parts").mkdir()
    for name in ("my-source.py", "random.py", "parts/my_source.py"):
        (own / name).touch()
    (own / "wrong.py").write_text("x = (")
    (own / "lacking.py").write_text("import nowhere")
    (own / "twice.py").write_text("import flows; flows.register('glow', dict)")
    import_modules(["my_source.py"] if imports != ["my_source"] else [])
    with pytest.raises(error, match=says):
        import_modules(imports)
    assert not {"wrong", "lacking", "twice"} & sys.modules.keys()


@pytest.mark.slow
def test_sample_advises_what_lets_it_draw(own: Path) -> None:
    run_training(own / "run", "model.coupling=stretched", "imports=[my_coupling.py]", *ONE_EPOCH)
    told = ["ckpt=run/best.safetensors", "num_samples=1"]
    advised = re.search(r"'(imports=\[FILE.py\])'", run_script(own, "sample.py", *told).error)
    assert advised is not None
    done = run_script(own, "sample.py", *told, advised[1].replace("FILE", "my_coupling"))
    assert done.exit_code == 0, done.stderr


@pytest.mark.slow
def test_a_model_and_its_config_are_named_on_the_command_line(own: Path) -> None:
    told = ["--config-dir=conf", "model=squeezed", "imports=[my_model.py]", "run_id=mine"]
    done = run_script(own, "train.py", *TINY, *told, *ONE_EPOCH)
    assert done.exit_code == 0, done.stderr
    assert result_of_test(own / "outputs/mine") > 0


@pytest.mark.slow
def test_processes_that_load_data_know_the_source(own: Path) -> None:
    (own / "main.py").write_text(
        "import sys, torch\n"
        "from flows.training.command.imports import import_modules\n"
        "import_modules(['my_source.py'])\n"
        "import my_source\n"
        "if __name__ == '__main__':\n"
        "    loader = torch.utils.data.DataLoader(\n"
        "        [my_source.Ramps()] * 2, 2, num_workers=1, collate_fn=len, multiprocessing_context='spawn')\n"
        "    assert [*loader] == [2]\n"
    )
    subprocess.run([sys.executable, "main.py"], check=True, env={"PYTHONPATH": str(Path(CONF).parent)})


@pytest.mark.slow
def test_jobs_of_a_sweep_that_are_sent_pickled_know_them(own: Path) -> None:
    told = ["-m", "hydra/launcher=submitit_local", "run_id=mine", "seed=0,1", "imports=[my_coupling.py,my_source.py]"]
    model = ["model.coupling=stretched", "model.num_steps=1"]
    done = run_script(own, "train.py", *TINY, *told, *DATA, *model, *ONE_EPOCH)
    assert done.exit_code == 0, done.stderr
    assert [result_of_test(own / f"multirun/mine/{job}") > 0 for job in range(2)] == [True, True]


@pytest.mark.ranks
def test_ranks_know_them(own: Path) -> None:
    ddp = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "run_id=mine"]
    model = ["model.coupling=stretched", "model.num_steps=1", "imports=[my_coupling.py,my_source.py]"]
    done = run_script(own, "train.py", *TINY, *DATA, *model, *ONE_EPOCH, *ddp, environment={"PYTHONWARNINGS": "ignore"})
    assert done.exit_code == 0, done.stderr
    assert read_summary(own / "outputs/mine/summary.json")["ranks"] == 2


@pytest.mark.slow
def test_contestants_of_a_race_have_their_own(own: Path) -> None:
    told = " ".join([*TINY, *DATA, "model.num_steps=1", "training.num_init_images=20"])
    contestants = [f"one: {told} imports=[my_source.py]", f"two: {told} imports=[my_source.py,my_coupling.py] "]
    contestants[1] += "model.coupling=stretched"
    done = run_script(own, "scripts/race.py", "race", "--images", "64", *contestants, environment={"TMPDIR": str(own)})
    assert done.exit_code == 0, done.stdout + done.stderr
    assert len(json.loads((own / "race/race.json").read_text())) == 2
