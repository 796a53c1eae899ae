"""`pictorch export`: a finished run as one file for use elsewhere, and what its check showed."""

import json
import sys
from typing import TYPE_CHECKING, Any

from pictorch import api, runs
from pictorch.cli.paths import option_path
from pictorch.cli.text import say
from pictorch.deploy.parity import Refused

if TYPE_CHECKING:
    from pictorch.deploy.export import Written


def export(run_dir: str, *, as_json: bool, out: str | None, data_dir: str | None, **request: Any) -> None:
    """Export a run and say what was written; `request` are keywords of `api.export`. A refused file: status 1."""
    out, data_dir = option_path("--out", out), option_path("--data-dir", data_dir)
    try:
        written = api.export(run_dir, out=out, data_dir=data_dir, **request)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    if as_json:
        files = [{"file": str(each.path), "bytes": each.size_bytes, **said(each)} for each in written]
        say(json.dumps({"run": run_dir, "files": files}))
        return
    for each in written:
        say("\n".join(lines(each)))
    licence = written[0].metadata["licence"]
    hint = "" if request["licence"] else " (--licence TEXT puts one into the file)"
    say(f"licence   weights: {licence['weights']}{hint}; code: {licence['code']}; data: {licence['dataset']}")


def said(file: "Written") -> dict[str, Any]:
    """Return what --json says of a file."""
    keys = ("export", "run", "licence", "check", "int8", "half")
    return {key: file.metadata[key] for key in keys if key in file.metadata}


def lines(file: "Written") -> list[str]:
    """Return what is printed of a file."""
    form, check, metadata = file.metadata["export"], file.metadata["check"], file.metadata
    taken = f"{form['input']['dtype']} [{', '.join(map(str, form['input']['shape']))}]"
    gives = f"probabilities and logits [N, {metadata['num_classes']}]"
    graph = f": {taken} -> {gives}" if form["format"] != "safetensors" else ""
    opset = f", opset {form['opset']}" if form["opset"] else ""
    found = [f"file      {file.path}, {size(file.size_bytes)}{opset}{graph}{runs.of_views(form['views'])}"]
    if not check["images"]:
        return [*found, "check     none (--unchecked), and the file says so"]
    if check["dataset"] != metadata["dataset"]:
        found.append(f"note      the run was trained on {metadata['dataset']}, these files are {check['dataset']}")
    found.append(f"check     {check['images']:,} test images; {differences(check)}")
    run = metadata["run"]
    apart = f" ({check['network_top1'] - run['test_top1']:+.2f})" if check["images"] == run["test_images"] else ""
    found.append(
        f"top-1     {check['top1']:.2f}% by the file, {check['network_top1']:.2f}% by the network in float32; the run "
        f"reported {run['test_top1']:.2f}% on {run['test_images']:,} images in {run['precision']}"
        f"{runs.of_views(run['views'])}{apart}"
    )
    if int8 := metadata.get("int8"):
        found.append(f"int8      {int8['calibration_images']:,} training images; {cost(int8)}")
    return found


def differences(check: dict[str, Any]) -> str:
    """Return how far the answers lie apart, and how far they may."""
    apart = f"a logit differs by at most {check['relative_difference']:.1e} of their root mean square"
    changed = f"{check['changed_answers']:,} answers changed"
    if "max_loss" in check:
        return f"{changed}, {check['loss']:.2f} points lost ({check['max_loss']:g} allowed); {apart}"
    return f"{apart} ({check['tolerance']:.0e} allowed), {changed}"


def cost(int8: dict[str, Any]) -> str:
    """Return size and time of a file in 8 bits against the one in float32."""
    times = ", ".join(f"{row['ratio']:.2f} at batch {row['batch']}" for row in int8["latency"])
    threads = int8["latency"][0]["threads"]
    return f"{int8['bytes'] / int8['float32_bytes']:.2f} of the size; of the time, on {threads} thread: {times}"


def size(number: int) -> str:
    """Return bytes as kB or MB."""
    return f"{number / 1e6:.2f} MB" if number >= 1e6 else f"{number / 1e3:.1f} kB"
