"""The package's functions, as a user of Python calls them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pictorch
from pictorch import api
from pictorch.config import UserError


def test_the_package_lists_its_names() -> None:
    assert {*pictorch.__all__, "__version__"} <= set(dir(pictorch))
    assert all(callable(getattr(pictorch, name)) for name in pictorch.__all__)


def test_a_single_image_is_a_list_of_one(small_run: api.Result) -> None:
    Image.new("L", (8, 8), 90).save("a.png")
    [expected] = pictorch.predict(small_run.run_dir, ["a.png"])
    for one in ("a.png", Path("a.png"), (Path(name) for name in ["a.png"])):
        assert pictorch.predict(str(small_run.run_dir), one) == [expected]
    [picture] = pictorch.predict(small_run.run_dir, Image.open("a.png"))
    assert picture.probabilities == expected.probabilities


def test_arrays_and_odd_numbers_are_told(small_run: api.Result) -> None:
    with pytest.raises(UserError, match=r"images\[0\]: expected .* got ndarray; PIL.Image.fromarray makes an image"):
        pictorch.predict(small_run.run_dir, np.zeros((2, 8, 8), dtype=np.uint8))  # type: ignore[arg-type]
    for top_k in (0, -1):
        with pytest.raises(UserError, match=f"top_k: expected at least 1, got {top_k}"):
            pictorch.predict(small_run.run_dir, Image.new("L", (8, 8)), top_k=top_k)


def test_a_run_directory_is_found_at_home(small_run: api.Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(small_run.run_dir.parent))
    assert api.evaluate("~/small").error == small_run.test_error
    assert api.resume("~/small").row == small_run.row
    with pytest.raises(UserError, match="holds another run, which stays as it is"):
        api.train(api.load_config(), out="~/small")
    assert pictorch.predict("~/small", Image.new("L", (8, 8)))
    with pytest.raises(UserError, match="expected the path of a run directory, got an empty text"):
        api.evaluate("")


def test_the_environment_bounds_the_updates_of_any_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PICTORCH_MAX_STEPS", "2")
    config = pictorch.load_config("digits/resnet_preact_8", ["train.batch_size=32", "train.max_steps=9"])
    row = pictorch.train(config, out=tmp_path / "run").row
    assert (row["steps"], row["test_images"], row["complete"]) == (2, 64, False)
    assert pictorch.load_config(tmp_path / "run/config.yaml").train.max_steps == 2


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_a_bound_that_is_no_number_of_steps(text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PICTORCH_MAX_STEPS", text)
    with pytest.raises(UserError, match=f"PICTORCH_MAX_STEPS: expected a whole number of steps above 0, got '{text}'"):
        pictorch.train(pictorch.load_config(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
