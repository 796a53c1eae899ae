"""A run's model card (M. Mitchell et al., Model Cards for Model Reporting, arXiv:1810.03993) in Markdown and HTML: what
it was trained on and how, what came out with its interval, how that came about, limits, and how to load it."""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import pictorch
from pictorch.reports import protocol
from pictorch.reports.evaluation import safe
from pictorch.reports.page import without_scripts
from pictorch.reports.reading import Run
from pictorch.reports.values import Bases, apart

LEVEL_FACTOR = NormalDist().inv_cdf(0.975)  # of 95%
MOST_SETTINGS = 40
MOST_CLASSES = 100
# What a card takes of an evaluation.
EVALUATED = {
    *("top1", "top5", "error", "intervals", "macro_f1", "per_class", "calibration"),
    *("corruptions", "out_of_distribution", "duplicates"),
}
MARKUP = re.compile(r"[\\*<\[]|(?<!\w)_|_(?!\w)")  # an underscore within a word is none


@dataclass(frozen=True)
class Known:
    """What a card says beyond the run's own files: the classes, the data's title, source and licence where known, and
    of the weights the number of their input's channels and pixels a side, and their
    own sha256."""

    classes: tuple[str, ...]
    title: str
    licence: str
    in_channels: int
    image_size: int
    sha256: str


@dataclass(frozen=True)
class Block:
    """A piece of a card: a heading, text, list, table, code or picture."""

    kind: str
    text: str = ""
    rows: Sequence[Sequence[str]] = ()


def blocks(run: Run, known: Known) -> Iterator[Block]:
    """Yield the card's pieces. The run is finished."""
    assert run.result is not None
    found = evaluation(run, known)
    yield Block("h1", f"{run.recipe}, seed {run.seed}")
    yield Block("text", summary(run, known))
    yield Block("h2", "Results")
    yield Block("table", rows=[["measure", "value", "95% interval"], *results(run, found)])
    yield Block(
        "text",
        "Per cent of the test images unless said otherwise. The interval is of the images: how far another test set of "
        "this size could be off. This is one run: how far another seed may be off it does not say.",
    )
    if found.get("corruptions"):
        yield Block("text", robust(found["corruptions"]))
    if run.directory.curves.is_file():
        yield Block("image", run.directory.curves.name)
    yield Block("h2", "Data")
    yield Block("list", rows=[[line] for line in of_data(run, known)])
    yield Block("h2", "Protocol")
    yield Block("table", rows=[["aspect", "what was done"], *map(list, protocol.card(run).items())])
    yield Block("h2", "Recipe")
    yield Block("text", recipe_words(run))
    changed = settings(run)
    if changed:
        yield Block("table", rows=[["setting", "value"], *changed])
    yield Block("code", f"pictorch train --config {run.directory.config.name}")
    yield Block("h2", "Limits")
    yield Block("list", rows=[[line] for line in limits(run, known, found)])
    yield Block("h2", "How to use it")
    yield Block("text", how_words(known))
    yield Block("code", loading(run))


def evaluation(run: Run, known: Known) -> Mapping[str, Any]:
    """Return what `pictorch eval` says of these weights, without settings of its own; nothing where it was not run, or
    by a version that said less."""
    plain = run.evaluation.get("settings") == [] and run.evaluation.get("weights_sha256") == known.sha256
    return run.evaluation if plain and run.evaluation.keys() >= EVALUATED else {}


def summary(run: Run, known: Known) -> str:
    result = run.result or {}
    channels = f"{known.in_channels} channel{'s' * (known.in_channels > 1)}"
    return (
        f"{result['model']} with {result['params']:,} parameters and {result['macs']:,} multiply-adds an image, for "
        f"images of {known.image_size} x {known.image_size} pixels with {channels} and {len(known.classes)} classes. "
        f"{result['test_error']:.2f}% test error on {known.title}."
    )


def results(run: Run, found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield (measure, value, interval); intervals of what was not evaluated since are Wilson's."""
    result = run.result or {}
    n, of_images = result["test_images"], found.get("intervals", {})
    for name, key, of_result in (("top-1", "top1", "test_top1"), ("top-5", "top5", "test_top5")):
        value = found.get(key, result[of_result])
        low, high = of_images.get(key) or wilson(value, n)
        yield [f"{name} accuracy", f"{value:.2f}", f"{low:.2f} to {high:.2f}"]
    low, high = of_images.get("top1") or wilson(result["test_top1"], n)
    error = found.get("error", result["test_error"])
    yield ["test error", f"{error:.2f}", f"{100 - high:.2f} to {100 - low:.2f}"]
    if not found:
        yield ["cross-entropy, nats", f"{result['test_loss']:.4f}", ""]
        return
    calibration = found["calibration"]
    for name, key, digits in (
        ("cross-entropy, nats", "nll", 4),
        ("Brier score, 0..2", "brier", 4),
        ("calibration error", "ece", 2),
        ("calibration error, adaptive bins", "ece_adaptive", 2),
    ):
        low, high = calibration["intervals"][key]
        yield [name, f"{calibration[key]:.{digits}f}", f"{low:.{digits}f} to {high:.{digits}f}"]
    if found["macro_f1"] is not None:
        yield ["F1, mean over classes", f"{found['macro_f1']:.2f}", ""]


def wilson(per_cent: float, n: int) -> tuple[float, float]:
    """Return the 95% interval of a share of n images, in per cent (E. B. Wilson 1927)."""
    share, z = per_cent / 100, LEVEL_FACTOR**2 / n
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(share * (1 - share) * z + z**2 / 4) / (1 + z)
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def robust(found: Mapping[str, Any]) -> str:
    worst = max(found["means"], key=lambda name: found["means"][name])
    which = "the 15 common corruptions" if found["whole"] else f"{len(found['means'])} of the 15 common corruptions"
    return (
        f"Under {which} at five severities the mean test error is {found['mean_error']:.2f}% (clean "
        f"{found['clean_error']:.2f}%); the worst is {worst.replace('_', ' ')} with {found['means'][worst]:.2f}%."
    )


def of_data(run: Run, known: Known) -> Iterator[str]:
    checksum = str(run.env.get("data_checksum", "unknown"))
    official = run.env.get("data_official")
    files = "files that are not the published ones" if official is False else "files of unknown origin"
    files = "the official files" if official is True else files
    yield f"{known.title} (`{run.dataset}`): {files}, checksum `{checksum}`"
    yield f"Licence of the data: {known.licence}"
    shown = ", ".join(known.classes[:MOST_CLASSES])
    more = len(known.classes) - MOST_CLASSES
    yield f"Classes, in the order of the labels: {shown}{f' and {more} more' if more > 0 else ''}"


def recipe_words(run: Run) -> str:
    result = run.result or {}
    seconds, hardware = result["train_seconds"], run.hardware
    return (
        f"`{run.recipe}`, {result['epochs']} epochs, {result['steps']:,} updates in {seconds / 60:,.1f} minutes on "
        f"{hardware}, torch {result['torch']}. The whole configuration stands in `{run.directory.config.name}`, which "
        f"repeats the run; {'this differs' if settings(run) else 'nothing differs'} from the recipe as it ships."
    )


def settings(run: Run) -> list[list[str]]:
    """Return (setting, value) of what is not as in the recipe."""
    changed = apart(run.settings, Bases().of_recipe(run.recipe))
    rows = [[f"`{key}`", f"`{json.dumps(value)}`"] for key, value in changed.items() if key != "data.dir"]
    return rows[:MOST_SETTINGS]


def limits(run: Run, known: Known, found: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a user should not expect."""
    result = run.result or {}
    if not run.complete:
        yield "The run is incomplete: it did not train all its epochs, or was not tested on all images."
    yield (
        f"It knows {len(known.classes)} classes and nothing else: an image of anything else is given one of them, "
        "often with a high probability."
    )
    yield f"Images of another kind than {known.title} (other cameras, sizes, framing) may be answered much worse."
    if not found:
        yield "Calibration, robustness and doubtful labels are not known: `pictorch eval` has not been run."
        return
    gap = found["calibration"]["confidence"] - found["top1"]
    sure = "surer than right" if gap > 0 else "less sure than right"
    yield f"Its probabilities are, on the mean, {abs(gap):.2f} points {sure}."
    recalls = [row for row in found["per_class"] if row["recall"] is not None]
    worst = min(recalls, key=lambda row: row["recall"])
    recall = f"recall {worst['recall']:.2f}% of {worst['images']:,} images"
    yield f"The class that it misses most is {worst['class']}: {recall}."
    if not found["corruptions"]:
        yield "It was not tested on corrupted images."
    if not found["out_of_distribution"]:
        yield "It was not tested on images of other kinds."
    if near := found["duplicates"].get("near"):
        yield f"{near:,} test images have a near-duplicate among the training images."
    if result["test_images"] < 1000:
        yield f"The test set has {result['test_images']:,} images: small differences are chance."


def how_words(known: Known) -> str:
    colour = "colour" if known.in_channels == 3 else "grey"
    return (
        f"The weights' file holds class names and preprocessing. Any image file becomes a {colour} image of "
        f"{known.image_size} x {known.image_size} pixels by it."
    )


def loading(run: Run) -> str:
    place = run.directory.path.name
    return (
        f"pip install pictorch=={pictorch.__version__}\npictorch predict {place} cat.jpg\n"
        f'python -c \'import pictorch; print(pictorch.predict("{place}", "cat.jpg"))\'\n'
        f"pictorch export {place} --format onnx    # to use it without pictorch"
    )


def front_matter(run: Run, known: Known) -> str:
    """Return the YAML block with which hubs of models index a card; JSON values are YAML."""
    result = run.result or {}
    metric = {"type": "accuracy", "value": round(float(result["test_top1"]), 4), "name": "top-1, per cent"}
    measured = {
        "task": {"type": "image-classification"},
        "dataset": {"type": run.config.data.name, "name": known.title, "split": "test"},
        "metrics": [metric],
    }
    entries = {
        "library_name": "pictorch",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "pytorch", "pictorch"],
        "datasets": [run.config.data.name],
        "model-index": [{"name": run.recipe, "results": [measured]}],
    }
    return "---\n" + "".join(f"{key}: {json.dumps(value)}\n" for key, value in entries.items()) + "---\n\n"


def as_markdown(run: Run, known: Known) -> str:
    """Return card.md, which ends in a mark of its own text."""
    text = front_matter(run, known) + "\n".join(map(markdown_of, blocks(run, known)))
    return text + mark(text)


def mark(text: str) -> str:
    return f"\n<!-- pictorch card {hashlib.sha256(text.encode()).hexdigest()[:16]} -->\n"


def is_as_written(content: str) -> bool:
    """Return whether a card.md is as `as_markdown` made it, and holds nothing of somebody's own."""
    text = content[: content.rfind("\n<!-- ")]
    return content == text + mark(text)


def markdown_of(block: Block) -> str:
    if block.kind in ("h1", "h2"):
        return f"{'#' * int(block.kind[1])} {block.text}\n"
    if block.kind == "list":
        return "".join(f"- {unmarked(row[0])}\n" for row in block.rows)
    if block.kind == "code":
        return f"```bash\n{block.text}\n```\n"
    if block.kind == "image":
        return f"![Learning curves]({block.text})\n"
    if block.kind == "table":
        head, *rows = [[unmarked(cell).replace("|", "\\|") for cell in row] for row in block.rows]
        lines = [head, ["---"] * len(head), *rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{unmarked(block.text)}\n"


def unmarked(text: str) -> str:
    """Return a line for Markdown in which names are no markup; what stands between backticks is code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick of its own
        return MARKUP.sub(r"\\\g<0>", text)
    return "`".join(piece if place % 2 else MARKUP.sub(r"\\\g<0>", piece) for place, piece in enumerate(pieces))


def as_html(run: Run, known: Known) -> str:
    """Return card.html: a page that opens offline, with the curves in it."""
    body = "\n".join(html_of(run, block) for block in blocks(run, known))
    page = (
        f'<main class="wide top model-card"><p class="maker">Model card, pictorch {safe(pictorch.__version__)}</p>\n'
        f"{body}</main>\n"
    )
    return without_scripts(f"{run.recipe}, seed {run.seed}", page, generator="pictorch card")


def html_of(run: Run, block: Block) -> str:
    if block.kind in ("h1", "h2"):
        return f"<{block.kind}>{safe(block.text)}</{block.kind}>"
    if block.kind == "list":
        return f'<ul class="plain">{"".join(f"<li>{inline(row[0])}</li>" for row in block.rows)}</ul>'
    if block.kind == "code":
        return f'<pre class="scroll" tabindex="0"><code>{safe(block.text)}</code></pre>'
    if block.kind == "image":
        encoded = base64.b64encode(run.directory.curves.read_bytes()).decode()
        return f'<img class="curves" src="data:image/png;base64,{encoded}" alt="Learning curves">'
    if block.kind == "table":
        head, *rows = block.rows
        top = "".join(f'<th scope="col">{safe(cell)}</th>' for cell in head)
        body = "".join(f"<tr>{''.join(f'<td>{inline(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return (
            f'<div class="scroll" tabindex="0" role="region" aria-label="{safe(head[0])}"><table><thead><tr>{top}</tr>'
            f"</thead><tbody>{body}</tbody></table></div>"
        )
    return f'<p class="about">{inline(block.text)}</p>'


def inline(text: str) -> str:
    """Return a line as HTML; what stands between backticks is code."""
    pieces = html.escape(text).split("`")
    if len(pieces) % 2 == 0:  # a backtick of its own
        return html.escape(text)
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
