"""`pictorch export` as it is typed: what it prints, its statuses, and the same as JSON."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pictorch import api
from pictorch.cli.app import app
from pictorch.deploy import parity


def typed(*words: str) -> tuple[int, str, str]:
    """Return exit status, standard output and standard error."""
    done = CliRunner().invoke(app, ["export", *words])
    return done.exit_code, done.stdout, done.stderr


def test_what_is_printed(small_run: api.Result) -> None:
    status, out, err = typed(str(small_run.run_dir), "--out", "net.onnx", "--int8", "--calibration-images", "64")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "file",
        "check",
        "top-1",
        "file",
        "check",
        "top-1",
        "int8",
        "licence",
    ]
    assert ", opset 20: uint8 [N, 1, 8, 8] -> probabilities and logits [N, 10]" in lines[0]
    assert lines[1].startswith("check     355 test images; a logit differs by at most ")
    assert lines[1].endswith("of their root mean square (1e-04 allowed), 0 answers changed")
    top1 = f"{small_run.test_top1:.2f}%"
    assert lines[2].startswith(
        f"top-1     {top1} by the file, {top1} by the network in float32; the run reported {top1} on"
    )
    assert "net.int8.onnx" in lines[3]
    assert "64 training images" in lines[6]
    assert "on 1 thread" in lines[6]
    assert lines[7].startswith(
        "licence   weights: not stated (--licence TEXT puts one into the file); code: MIT; data: CC"
    )
    assert Path("net.onnx").is_file()


def test_the_same_as_json(small_run: api.Result) -> None:
    status, out, _ = typed(
        str(small_run.run_dir),
        "--format",
        "safetensors",
        "--half",
        "--out",
        "h.safetensors",
        "--json",
        "--licence",
        "MIT",
    )
    assert status == 0
    [file] = json.loads(out)["files"]
    assert (file["file"], file["bytes"]) == ("h.safetensors", Path("h.safetensors").stat().st_size)
    assert file["licence"]["weights"] == "MIT"
    assert file["check"]["images"] == 355
    assert file["run"]["test_error"] == small_run.test_error


def test_unchecked_is_said(small_run: api.Result) -> None:
    _, out, _ = typed(str(small_run.run_dir), "--format", "torch-export", "--out", "net.pt2", "--unchecked")
    assert out.splitlines()[1] == "check     none (--unchecked), and the file says so"


def test_statuses_of_mistakes_and_of_files_that_are_refused(
    small_run: api.Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(small_run.run_dir)
    status, out, err = typed("nowhere")
    assert (status, out, err) == (2, "", "error: nowhere: there is no such run directory\n")
    assert typed(run, "--out", "")[0] == typed(run, "--format", "tflite")[0] == 2
    monkeypatch.setattr(parity, "TOLERANCE", 1e-12)
    status, out, err = typed(run, "--out", "net.onnx")
    assert (status, out) == (1, "")
    assert err.startswith("error: net.onnx: not written: the logit of class ")
    assert not Path("net.onnx").exists()
