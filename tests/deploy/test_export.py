"""A run as a file: what it holds, that it answers as the run, and what is refused."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import small_config
from PIL import Image
from torch import Tensor

from pictorch import api, data, runs
from pictorch.config import UserError, to_dict
from pictorch.deploy import drafts, exported, int8
from pictorch.deploy.export import FROM_RESULT, Written, without_places
from pictorch.deploy.parity import Refused
from pictorch.deploy.predict import Predictor
from pictorch.runs import RunDir

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}
PAGE = Path(drafts.__file__).parents[2] / "docs" / "export.md"


def digits() -> Tensor:
    return data.open("digits", root=Path()).test.images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="module")
def onnx_file(small_run: api.Result, folder: Path) -> Written:
    """The small run in ONNX; tests only read it."""
    [written] = api.export(small_run.run_dir, out=folder / "model.onnx", licence="CC-BY-4.0")
    return written


@pytest.fixture(scope="module")
def odd_run(tmp_path_factory: pytest.TempPathFactory) -> api.Result:
    """A run whose images are normalised by a mean image and answered in six views; tests only read it."""
    config = small_config("evaluation.views=mirror_shift", "data.normalise=pixel", "train.epochs=1")
    return api.train(config, recipe="odd", out=tmp_path_factory.mktemp("runs") / "odd")


def test_the_file_says_where_it_comes_from_and_what_its_check_showed(small_run: api.Result, onnx_file: Written) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file.path))
    entries = session.get_modelmeta().custom_metadata_map
    metadata = json.loads(entries["pictorch"])
    assert metadata == onnx_file.metadata
    assert entries["model_license"] == metadata["licence"]["weights"] == "CC-BY-4.0"
    assert metadata["licence"]["code"] == "MIT"
    assert metadata["licence"]["dataset"].startswith("CC BY 4.0")
    assert metadata["classes"] == [str(k) for k in range(10)]
    of_run = {key: metadata["run"][key] for key in FROM_RESULT}
    assert of_run == {key: small_run.row[key] for key in FROM_RESULT}
    assert metadata["run"]["weights_sha256"] == Predictor(small_run.run_dir).metadata["sha256"]
    assert metadata["config"]["train"]["seed"] == small_run.row["seed"]
    check = metadata["check"]
    assert (check["images"], check["changed_answers"], check["dataset"]) == (355, 0, "digits")
    assert 0 <= check["relative_difference"] <= check["tolerance"]
    assert check["top1"] == check["network_top1"] == pytest.approx(small_run.test_top1)
    assert metadata["export"]["opset"] == drafts.OPSET
    assert sorted(each.name for each in onnx_file.path.parent.glob("*.onnx*")) == ["model.onnx"]


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_onnxruntime_alone_answers_uint8_images_of_any_number(
    small_run: api.Result, onnx_file: Written, n: int
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file.path))
    probabilities, logits = session.run(["probabilities", "logits"], {"images": digits()[:n].numpy()})
    expected = Predictor(small_run.run_dir).logits(digits()[:n])
    assert np.allclose(logits, expected, atol=1e-4)
    assert np.allclose(probabilities, expected.softmax(1), atol=1e-5)


WAYS = [
    ("onnx", "inside"),
    ("safetensors", "inside"),
    *(pytest.param(*way, marks=pytest.mark.slow) for way in (("torch-export", "inside"), ("torch-export", "beside"))),
    pytest.param("onnx", "beside", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("format", "preprocessing"), WAYS)
def test_a_mean_image_and_views_go_along(odd_run: api.Result, tmp_path: Path, format: Any, preprocessing: Any) -> None:
    out = tmp_path / f"odd{FORMATS[format]}"
    [written] = api.export(odd_run.run_dir, format, out=out, preprocessing=preprocessing)
    file, run = exported.open(out), Predictor(odd_run.run_dir)
    assert file.metadata["export"]["views"] == run.views == "mirror_shift"
    assert torch.allclose(file(digits()[:9])[1], run.logits(digits()[:9]), atol=1e-4)
    taken = file.prepared(digits()[:9])
    if preprocessing == "beside":
        assert taken.dtype == torch.float32
        assert torch.equal(taken, run.normalised(digits()[:9]))
        mean, std = np.array(file.metadata["mean_image"]), np.array(file.metadata["std"])
        assert np.allclose(taken, (digits()[:9].numpy() / 255 - mean) / std, atol=1e-6)
    else:
        assert taken.dtype == torch.uint8
        assert ("mean_image" in file.metadata) == (format == "safetensors")
    assert written.metadata == file.metadata


@pytest.mark.parametrize("format", FORMATS)
def test_predictions_by_a_file_are_those_of_its_run(known_run: RunDir, format: Any) -> None:
    [written] = api.export(known_run.path, format, test_images=20)
    assert written.path == known_run.path / "export" / f"model{FORMATS[format]}"
    image = Image.new("L", (11, 9), 40)
    [by_run], [by_file] = (api.predict(place, image, top_k=10) for place in (known_run.path, written.path))
    assert by_file.classes == by_run.classes
    assert by_file.probabilities == pytest.approx(by_run.probabilities, abs=1e-5)


def test_safetensors_hold_all_that_the_runs_own_do_and_more(small_run: api.Result, tmp_path: Path) -> None:
    [written] = api.export(small_run.run_dir, "safetensors", out=tmp_path / "whole.safetensors")
    [half] = api.export(small_run.run_dir, "safetensors", out=tmp_path / "half.safetensors", half=True, max_loss=0.6)
    own, whole = Predictor(small_run.run_dir), Predictor(written.path)
    assert own.metadata.items() <= whole.metadata.items()
    assert all(torch.equal(a, b) for a, b in zip(own.model.parameters(), whole.model.parameters(), strict=True))
    assert half.size_bytes < 0.65 * written.size_bytes
    check = half.metadata["check"]
    assert (check["images"], check["max_loss"]) == (355, 0.6)
    assert 1e-6 < check["relative_difference"] < 0.01
    assert check["loss"] == check["network_top1"] - check["top1"] <= 0.6


def tampered(monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    """Have one weight of each exported file changed, on the disk, between its writing and its check."""
    if format == "onnx":
        import onnx

        write = drafts.OnnxDraft.write

        def damage(self: drafts.OnnxDraft, path: Path, metadata: dict[str, Any]) -> None:
            write(self, path, metadata)
            model = onnx.load(path)
            tensor = next(each for each in model.graph.initializer if each.name.endswith("classifier.weight"))
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[3, 0] += 0.05
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
            onnx.save(model, path)

        monkeypatch.setattr(drafts.OnnxDraft, "write", damage)
    else:
        of_weights = drafts.WeightsDraft.write

        def other(self: drafts.WeightsDraft, path: Path, metadata: dict[str, Any]) -> None:
            changed = drafts.copy.deepcopy(self.model)
            with torch.no_grad():
                changed.classifier.weight[3, 0] += 0.05  # type: ignore[union-attr, operator, index]
            of_weights(drafts.WeightsDraft(changed, half=False), path, metadata)

        monkeypatch.setattr(drafts.WeightsDraft, "write", other)


@pytest.mark.parametrize("format", ["onnx", "safetensors"])
def test_a_file_with_one_other_weight_is_refused_and_nothing_is_left(
    small_run: api.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Any
) -> None:
    tampered(monkeypatch, format)
    out = tmp_path / "made" / f"model{FORMATS[format]}"
    why = rf"{out.name}: not written: the logit of class '3' for test image \d+ is .* by the file and .* where 0\.0001"
    with pytest.raises(Refused, match=why):
        api.export(small_run.run_dir, format, out=out)
    assert not out.parent.exists()
    out.parent.mkdir()
    monkeypatch.undo()
    api.export(small_run.run_dir, format, out=out, unchecked=True)
    earlier = out.read_bytes()
    tampered(monkeypatch, format)
    with pytest.raises(Refused):
        api.export(small_run.run_dir, format, out=out)
    assert out.read_bytes() == earlier
    assert [path.name for path in out.parent.iterdir()] == [out.name]


NETS = """
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(in_channels, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, num_classes)

    def forward(self, images):
        return self.last(self.norm(self.conv(images)).relu().mean((2, 3)))

class Noisy(Plain):
    def forward(self, images):
        return super().forward(images) + torch.rand(1)

class Branching(Plain):
    def forward(self, images):
        logits = super().forward(images)
        return logits if logits.sum() > 0 else 2 * logits
"""


def own_run(name: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    Path("nets_to_export.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    sys.modules.pop("nets_to_export", None)
    settings = ("train.max_steps=3", "train.precision=fp32", "track.tensorboard=false")
    config = api.load_config(None, [f"model={{name: 'nets_to_export:{name}'}}", *settings])
    return api.train(config, recipe="own", out=f"run_{name}").run_dir


def test_a_network_of_ones_own(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    place = own_run("Plain", monkeypatch)
    for format in FORMATS:
        [written] = api.export(place, format)  # type: ignore[arg-type]
        assert written.metadata["check"]["changed_answers"] == 0
        assert written.metadata["licence"]["code"] == "pictorch: MIT; nets_to_export:Plain: its authors'"
    place = own_run("Noisy", monkeypatch)
    for format in FORMATS:
        with pytest.raises(Refused, match="not written: the logit of class"):
            api.export(place, format)  # type: ignore[arg-type]
    place = own_run("Branching", monkeypatch)
    capfd.readouterr()
    for format in ("onnx", "torch-export"):
        with pytest.raises(UserError, match=r"^model\.name=nets_to_export:Branching: torch\.export cannot follow"):
            api.export(place, format)  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", "")
    assert not (place / "export").exists()


def test_int8_is_calibrated_on_training_images_and_its_cost_measured(small_run: api.Result, tmp_path: Path) -> None:
    import onnx

    whole, eight = api.export(small_run.run_dir, int8=True, out=tmp_path / "net.onnx", calibration_images=100)
    assert [each.path.name for each in (whole, eight)] == ["net.onnx", "net.int8.onnx"]
    assert (whole.metadata["check"]["tolerance"], "int8" in whole.metadata) == (1e-4, False)
    said, check = eight.metadata["int8"], eight.metadata["check"]
    assert said["calibration_images"] == 100
    assert (said["bytes"], said["float32_bytes"]) == pytest.approx((eight.size_bytes, whole.size_bytes), rel=0.05)
    assert said["bytes"] < said["float32_bytes"]
    assert [(row["batch"], row["threads"]) for row in said["latency"]] == [(1, 1), (64, 1)]
    assert all(row["ratio"] == row["milliseconds"][1] / row["milliseconds"][0] > 0 for row in said["latency"])
    logits = exported.open(eight.path)(digits())[1]
    labels = data.open("digits", root=Path()).test.labels
    assert check["top1"] == pytest.approx(100 * float((logits.argmax(1) == labels).double().mean()))
    assert check["loss"] == check["network_top1"] - check["top1"] <= check["max_loss"] == 1
    assert check["relative_difference"] > 1e-3  # in 8 bits
    graph = onnx.load(eight.path).graph
    weights = [each for each in graph.initializer if len(each.dims) == 4]
    assert weights
    assert {each.data_type for each in weights} == {onnx.TensorProto.INT8}


def test_int8_that_loses_too_much_is_refused_and_the_file_in_float32_stays(
    small_run: api.Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantise = int8.quantise
    # Ranges of black images fit no others.
    monkeypatch.setattr(int8, "quantise", lambda draft, batches: quantise(draft, [0 * each for each in batches]))
    with pytest.raises(Refused, match=r"net\.int8\.onnx: not written: top-1 falls from .* points, where 1 are allowed"):
        api.export(small_run.run_dir, int8=True, out=tmp_path / "net.onnx")
    assert [path.name for path in tmp_path.glob("*onnx*")] == ["net.onnx"]


def test_a_slice_of_the_test_images_is_recorded(small_run: api.Result, tmp_path: Path) -> None:
    [written] = api.export(small_run.run_dir, "safetensors", out=tmp_path / "m.safetensors", test_images=50)
    assert written.metadata["check"]["images"] == 50
    assert written.metadata["run"]["test_images"] == 355
    with pytest.raises(UserError, match=r"test images: expected at most 355, all that there are, got 356"):
        api.export(small_run.run_dir, "safetensors", out=tmp_path / "m.safetensors", test_images=356)


def test_without_the_data_nothing_is_exported_but_unchecked(known_run: RunDir, tmp_path: Path) -> None:
    known_run.config.write_text(known_run.config.read_text().replace("name: digits", "name: mnist"))
    out = tmp_path / "m.safetensors"
    with pytest.raises(UserError, match=r"(?s)MNIST.*\n--unchecked exports without the test images"):
        api.export(known_run.path, "safetensors", out=out, data_dir=str(tmp_path))
    assert not out.exists()
    [written] = api.export(known_run.path, "safetensors", out=out, unchecked=True)
    assert written.metadata["check"] == {"images": 0}


def test_files_that_are_not_ours_stay(known_run: RunDir, tmp_path: Path) -> None:
    def refused(out: Path, why: str, format: Any = "safetensors") -> None:
        with pytest.raises(UserError, match=why):
            api.export(known_run.path, format, out=out, unchecked=True)

    own = known_run.weights.read_bytes()
    refused(known_run.weights, r"model\.safetensors: this file is not one that `pictorch export` wrote and stays")
    assert known_run.weights.read_bytes() == own
    for suffix, format in ((".onnx", "onnx"), (".pt2", "torch-export")):
        other = tmp_path / f"other{suffix}"
        other.write_text("notes")
        refused(other, "stays as it is; give another --out", format)
        assert other.read_text() == "notes"
    refused(tmp_path / "m.onnx", r"m\.onnx: expected a file name that ends in \.safetensors")
    refused(tmp_path / "m", r"m: expected a file name that ends in \.safetensors")
    (tmp_path / "d.safetensors").mkdir()
    refused(tmp_path / "d.safetensors", r"d\.safetensors: this is a directory")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file" / "m.safetensors", r"m\.safetensors: .*file is a file, not a directory")
    refused(Path("/proc/m.safetensors"), r"/proc/m\.safetensors: cannot write here")
    for _ in range(2):  # an earlier export is replaced
        api.export(known_run.path, "safetensors", unchecked=True)


@pytest.mark.parametrize(
    ("keywords", "why"),
    [
        ({"format": "onx"}, "--format: there is no 'onx'; did you mean 'onnx'"),
        ({"preprocessing": "in"}, "--preprocessing: there is no 'in'; "),
        ({"format": "safetensors", "int8": True}, "--int8: this is for --format onnx, got safetensors"),
        ({"half": True}, "--half: this is for --format safetensors, got onnx"),
        ({"format": "safetensors", "preprocessing": "beside"}, "--preprocessing: safetensors hold no graph"),
        ({"int8": True, "unchecked": True}, "--int8: what it costs has to be measured"),
        ({"max_loss": -1.0}, "--max-loss: expected percentage points from 0 to 100, got -1"),
        ({"max_loss": float("nan")}, "--max-loss: expected percentage points from 0 to 100, got nan"),
        ({"licence": " "}, "--licence: expected a text"),
        ({"test_images": 0}, "--test-images: expected at least 1, got 0"),
        ({"calibration_images": 0, "int8": True}, "--calibration-images: expected at least 1, got 0"),
        ({"test_images": 5, "unchecked": True}, "--test-images: with --unchecked nothing is tested"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(keywords: dict[str, Any], why: str) -> None:
    with pytest.raises(UserError, match=f"^{why}"):
        api.export("nowhere", **keywords)


def test_an_unfinished_run_and_a_missing_package(known_run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(UserError, match=r"^ONNX needs onnx, onnxscript, onnxruntime, .*'pictorch\[export\]'"):
            api.export(known_run.path)
    known_run.result.unlink()
    with pytest.raises(UserError, match=r"result\.json: this file of the run is missing"):
        api.export(known_run.path, "safetensors")


@pytest.mark.parametrize("format", FORMATS)
def test_damaged_files_are_named(small_run: api.Result, tmp_path: Path, format: Any) -> None:
    [written] = api.export(small_run.run_dir, format, out=tmp_path / f"cut{FORMATS[format]}", unchecked=True)
    whole = written.path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a model"):
        written.path.write_bytes(content)
        with pytest.raises(UserError, match=rf"cut\{FORMATS[format]}: this"):
            api.predict(written.path, Image.new("L", (8, 8)))


def test_the_snippet_of_the_page_needs_no_torch(small_run: api.Result, onnx_file: Written) -> None:
    """The page's lines, as they stand there, name the class that `pictorch predict` names."""
    text = PAGE.read_text(encoding="utf-8")
    snippet = text.partition("```python\n# onnxruntime alone")[2].partition("```")[0]
    shutil.copy(onnx_file.path, "model.onnx")
    image = digits()[5, 0].numpy()
    Image.fromarray(image).save("image.png")
    check = "import sys; assert not {'torch', 'pictorch', 'onnx'} & set(sys.modules), 'imported'\n"
    done = subprocess.run(
        [sys.executable, "-c", f"#{snippet}\n{check}"], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    [expected] = api.predict(small_run.run_dir, "image.png", top_k=1)
    name, probability = done.stdout.split()
    assert name == expected.classes[0]
    assert float(probability) == pytest.approx(expected.probabilities[0], abs=1e-4)


def test_a_configuration_is_told_without_the_places_of_its_machine() -> None:
    config = {
        "data": {"name": "/home/me/cats/", "dir": "/data", "val_fraction": 0.1},
        "model": {"name": "resnet", "init_from": "~/runs/first"},
        "track": {"mlflow": "https://me:secret@tracks.example.org", "wandb": False},
    }
    told = without_places(config)
    assert told["data"] == {"name": "cats", "dir": None, "val_fraction": 0.1}
    assert told["model"] == {"name": "resnet", "init_from": "first"}
    assert told["track"] == {"mlflow": False, "wandb": False}
    assert config["data"]["dir"] == "/data"
    assert without_places({}) == {}
    plain = json.loads(json.dumps(to_dict(small_config())))
    assert without_places(plain) == plain


def test_images_of_ones_own_are_checked_as_they_are_predicted(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    for name in ("bees", "wasps"):
        (tmp_path / "insects" / name).mkdir(parents=True)
        for i in range(12):
            side = tuple(draws.integers(70, 120, 2))
            Image.fromarray(draws.integers(0, 256, (*side, 3), np.uint8)).save(tmp_path / f"insects/{name}/{i}.png")
    settings = ["augment.crop=null", "train.batch_size=4", "train.max_steps=2", "train.precision=fp32"]
    network = "model={name: resnet, depth: 8, stem: imagenet}"
    own = [f"data.name={tmp_path}/insects/", f"data.dir={tmp_path}", "data.image_size=72", network]
    config = api.load_config("cifar10/resnet_preact_20", [*own, *settings])
    place = api.train(config, out="run").run_dir
    [written] = api.export(place, "safetensors")
    assert str(tmp_path).encode() not in written.path.read_bytes()
    assert written.metadata["config"]["data"]["name"] == "insects"
    assert written.metadata["check"]["images"] == runs.read_result(runs.open(place))["test_images"]
    assert written.metadata["classes"] == ["bees", "wasps"]
    assert written.metadata["resize"] == 82
    assert written.metadata["licence"]["dataset"] == "not stated"
