"""A run's evaluation as one HTML page that opens offline: style and pictures in it, and no script at all."""

import base64
import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pictorch
from pictorch.reports.answers import MOST_CLASSES, MOST_CONFUSIONS, MOST_OF_MATRIX
from pictorch.reports.page import without_scripts

Values = Mapping[str, Any]
Pictures = Mapping[int, bytes]  # PNG bytes of test images, by their places

STEPS, DEEPEST = 20, 60  # of colour, from none to so many per cent: numbers on it stay readable
MOST_SUSPECTS = 24
MOST_PAIRS = 12
SIDE = 240  # of a reliability diagram, in its own units


def page(values: Values, title: str, pictures: Pictures) -> str:
    """Return the page of what evaluation.json holds; `pictures` are those of suspects and mistakes that there are."""
    shades = "".join(f".s{step} {{ --share: {DEEPEST * step / STEPS:g}% }}\n" for step in range(STEPS + 1))
    found = dict(sections(values, pictures))
    links = "".join(f'<a href="#{anchor(name)}">{name}</a>' for name in found)
    body = "".join(f'<section id="{anchor(name)}"><h2>{name}</h2>{text}</section>' for name, text in found.items())
    page = (
        f'<a class="skip" href="#scores">Skip to the scores</a>\n<header class="top"><div class="wide">'
        f'<p class="maker">pictorch {safe(pictorch.__version__)}</p><div class="heading"><h1>{safe(title)}</h1></div>'
        f'<p class="lead">{safe(lead(values))}</p></div></header>\n'
        f'<nav aria-label="Sections"><div class="wide">{links}</div></nav>\n<main class="wide">{body}</main>\n'
        f'<footer class="wide">{safe(footer(values))}</footer>\n'
    )
    return without_scripts(title, page, generator="pictorch eval", further_style=shades)


def safe(text: object) -> str:
    return html.escape(str(text))


def anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def lead(values: Values) -> str:
    asked = f" Asked for: {' '.join(values['settings'])}." if values["settings"] else ""
    return f"{values['images']:,} test images of {values['dataset']}, views: {values['views']}.{asked}"


def footer(values: Values) -> str:
    return f"Run {values['run']}. Made {values['made']} by pictorch {values['pictorch']}, torch {values['torch']}."


def sections(values: Values, pictures: Pictures) -> Iterator[tuple[str, str]]:
    """Yield (name, HTML) of what there is to show."""
    yield "Scores", scores(values)
    yield "Protocol", definitions(values["protocol"])
    yield "Classes", classes(values)
    yield "Calibration", calibration(values)
    if values["corruptions"]:
        yield "Corruptions", corruptions(values["corruptions"])
    if values["out_of_distribution"]:
        yield "Other images", others(values["out_of_distribution"])
    yield "Doubtful labels", suspects(values["label_suspects"], pictures)
    yield "Surest mistakes", mistakes(values["mistakes"], pictures)
    if values["duplicates"]["pairs"]:
        yield "Near-duplicates", near_duplicates(values["duplicates"])


def definitions(pairs: Mapping[str, str]) -> str:
    return '<dl class="card">' + "".join(f"<dt>{safe(k)}</dt><dd>{safe(v)}</dd>" for k, v in pairs.items()) + "</dl>"


def scores(values: Values) -> str:
    calibrated, level = values["calibration"], values["intervals"]["level"]

    def between(ends: Sequence[float], digits: int, unit: str = "") -> str:
        return f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}{unit}"

    of_answers, of_scores = values["intervals"], calibrated["intervals"]
    tiles = [
        ("top-1 accuracy", f"{values['top1']:.2f}%", between(of_answers["top1"], 2, "%")),
        ("test error", f"{values['error']:.2f}%", between([100 - end for end in reversed(of_answers["top1"])], 2, "%")),
        ("top-5 accuracy", f"{values['top5']:.2f}%", between(of_answers["top5"], 2, "%")),
        ("negative log-likelihood", f"{calibrated['nll']:.4f}", between(of_scores["nll"], 4)),
        ("Brier score", f"{calibrated['brier']:.4f}", between(of_scores["brier"], 4)),
        ("calibration error", f"{calibrated['ece']:.2f}%", between(of_scores["ece"], 2, "%")),
    ]
    shown = "".join(f"<div><dt>{name}</dt><dd>{value}<small>{ends}</small></dd></div>" for name, value, ends in tiles)
    return (
        f'<dl class="tiles">{shown}</dl><p class="hint">Below each figure the {level:g}% interval of a bootstrap over '
        f"test images ({values['intervals']['resamples']:,} resamples): how far another test set of this size could be "
        "off, not another seed. The negative log-likelihood is in nats, the Brier score lies between 0 and 2.</p>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, label: str, kind: str = "") -> str:
    """Return a table that scrolls; the first column is text, the others are numbers. Cells are HTML."""
    first, *others = head
    top = f'<th scope="col">{first}</th>' + "".join(f'<th scope="col" class="number">{cell}</th>' for cell in others)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>' + "".join(f'<td class="number">{cell}</td>' for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table class="{kind}"><thead><tr>{top}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def level(per_cent: float | None) -> str:
    """Return a per cent with a bar behind it."""
    if per_cent is None:
        return "-"
    return (
        f'{per_cent:.2f}<svg class="level" viewBox="0 0 100 9" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="100" height="9"/><rect class="full" width="{per_cent:.1f}" height="9"/></svg>'
    )


def classes(values: Values) -> str:
    listed = values["per_class"]
    shown = sorted(listed, key=lambda row: (row["recall"] is None, row["recall"]))[:MOST_CLASSES]
    kept = listed if len(listed) <= MOST_CLASSES else shown
    rows = [
        [
            safe(row["class"]),
            f"{row['images']:,}",
            level(row["recall"]),
            *("-" if row[key] is None else f"{row[key]:.2f}" for key in ("precision", "f1")),
        ]
        for row in kept
    ]
    if all(values[key] is not None for key in ("macro_recall", "macro_precision", "macro_f1")):
        means = (values["macro_recall"], values["macro_precision"], values["macro_f1"])
        rows.append(["mean over classes", f"{values['images']:,}", *(f"{mean:.2f}" for mean in means)])
    head = ["class", "images", "recall, %", "precision, %", "F1, %"]
    few = "" if kept is listed else f'<p class="about">The {MOST_CLASSES} classes of the lowest recall.</p>'
    return few + table(head, rows, label="Classes") + "<h3>Confusions</h3>" + confusions(values)


def confusions(values: Values) -> str:
    """Return the confusion matrix; of many classes the most frequent confusions."""
    names, counts = [row["class"] for row in values["per_class"]], values["confusion"]
    if len(names) > MOST_OF_MATRIX:
        wrong = sorted(
            ((count, i, j) for i, row in enumerate(counts) for j, count in enumerate(row) if i != j and count),
            key=lambda cell: -cell[0],
        )
        rows = [[f"{safe(names[i])} as {safe(names[j])}", f"{count:,}"] for count, i, j in wrong[:MOST_CONFUSIONS]]
        return table(["class, answered as", "images"], rows, label="Confusions")
    body = []
    for i, row in enumerate(counts):
        total = max(sum(row), 1)
        cells = "".join(
            f'<td class="{"cell" if i == j else "wrong"} s{round(STEPS * count / total)}">{count or "·"}</td>'
            for j, count in enumerate(row)
        )
        body.append(f'<tr><th scope="row">{safe(names[i])}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{safe(name)}</th>' for name in names)
    return (
        '<p class="about">Rows are true classes, columns answers.</p><div class="scroll" tabindex="0" role="region" '
        f'aria-label="Confusion matrix"><table class="matrix"><thead><tr><td></td>{head}</tr></thead><tbody>'
        f"{''.join(body)}</tbody></table></div>"
    )


def calibration(values: Values) -> str:
    here, scaled = values["calibration"], values["temperature"]
    head = ["", "negative log-likelihood", "Brier score", "ECE, %", "ECE, adaptive bins, %"]
    keys = ("nll", "brier", "ece", "ece_adaptive")
    digits = {"nll": 4, "brier": 4, "ece": 2, "ece_adaptive": 2}
    rows = [["as it is", *(f"{here[key]:.{digits[key]}f}" for key in keys)]]
    if scaled["value"] is None:
        note = f"No temperature was fitted: {safe(scaled['why_not'])}."
    else:
        rows.append([f"temperature {scaled['value']:.3f}", *(f"{scaled[key]:.{digits[key]}f}" for key in keys)])
        note = f"The temperature was fitted on {scaled['fitted_on']:,} held-out images, not on the test images."
    diagrams = "".join(
        f"<div><h3>{name}</h3>{reliability(here['bins'][key], name)}</div>"
        for key, name in (("ece", "Equally wide bins"), ("ece_adaptive", "Equally full bins"))
    )
    return (
        table(head, rows, label="Calibration")
        + f'<p class="hint">{note} Mean confidence {here["confidence"]:.2f}%, accuracy {values["top1"]:.2f}%.</p>'
        + f'<div class="two">{diagrams}</div><p class="hint">A bar is the accuracy of the images whose answer has '
        "about that probability; the line through it goes to where it would be if the probabilities were right. The "
        "faint bars are shares of the images.</p>"
    )


def reliability(bins: Sequence[Values], name: str) -> str:
    """Return a reliability diagram: accuracy over confidence, with the share of the images in each bin."""
    total = max(sum(each["images"] for each in bins), 1)
    marks = []
    for each in bins:
        if each["images"]:
            x, y = (SIDE * each[key] / 100 for key in ("confidence", "accuracy"))
            share = SIDE * each["images"] / total
            words = f"{each['images']:,} images, confidence {each['confidence']:.1f}%, accuracy {each['accuracy']:.1f}%"
            marks.append(
                f'<g><title>{words}</title><rect class="count" x="{x - 5:.1f}" y="{SIDE - share:.1f}" width="10" '
                f'height="{share:.1f}"/><rect class="accuracy" x="{x - 3:.1f}" y="{SIDE - y:.1f}" width="6" '
                f'height="{y:.1f}"/><line class="gap" x1="{x:.1f}" x2="{x:.1f}" y1="{SIDE - y:.1f}" '
                f'y2="{SIDE - x:.1f}"/></g>'
            )
    ticks = "".join(
        f'<text x="{SIDE * at / 100:g}" y="{SIDE + 14}" text-anchor="middle">{at}</text>'
        f'<text x="-5" y="{SIDE - SIDE * at / 100 + 3:g}" text-anchor="end">{at}</text>'
        for at in (0, 25, 50, 75, 100)
    )
    box = f"-42 -8 {SIDE + 54} {SIDE + 40}"
    return (
        f'<svg class="reliability" viewBox="{box}" role="img" aria-label="Reliability, {name}">'
        f'<rect class="axis" width="{SIDE}" height="{SIDE}"/>{"".join(marks)}<line class="perfect" x1="0" y1="{SIDE}" '
        f'x2="{SIDE}" y2="0"/>{ticks}<text x="{SIDE / 2:g}" y="{SIDE + 28}" text-anchor="middle">confidence, %</text>'
        f'<text transform="translate(-30 {SIDE / 2:g}) rotate(-90)" text-anchor="middle">accuracy, %</text></svg>'
    )


def corruptions(found: Values) -> str:
    rows = []
    for name, errors in found["errors"].items():
        cells = [f'<span class="cell s{round(STEPS * error / 100)}">{error:.2f}</span>' for error in errors]
        rows.append([safe(name.replace("_", " ")), *cells, f"{found['means'][name]:.2f}"])
    count = len(found["errors"])
    frost = f" Frost is {safe(found['frost'])}." if found["frost"] else ""
    which = "the 15 corruptions" if found["whole"] else f"{count} corruption{'s' * (count > 1)}"
    return (
        f'<p class="about">Test error in per cent at five severities. Mean over {which}: '
        f"<strong>{found['mean_error']:.2f}%</strong>, clean {found['clean_error']:.2f}%.{frost}</p>"
        + table(["corruption", *map(str, found["severities"]), "mean"], rows, label="Corruptions", kind="heat")
    )


def others(found: Sequence[Values]) -> str:
    rows = [
        [
            f"{safe(each['dataset'])}, {each['images']:,} images: {score}",
            f"{of['auroc']:.2f}",
            f"{of['accepted_at_95']:.2f}",
        ]
        for each in found
        for score, of in each["scores"].items()
    ]
    return (
        '<p class="about">Can the test images be told from images of another set by how sure the answer is? AUROC 50% '
        "is chance, 100% always. The last column is the share of the other images that pass a threshold which 95% of "
        "the test images pass.</p>"
        + table(["other images, score", "AUROC, %", "accepted, %"], rows, label="Other images")
    )


def figure(index: int, pictures: Pictures, *lines: str) -> str:
    """Return a test image with lines below it, the first in ink."""
    image = ""
    if index in pictures:
        encoded = base64.b64encode(pictures[index]).decode()
        image = f'<img src="data:image/png;base64,{encoded}" alt="Test image {index}">'
    first, *rest = lines
    return f"<figure>{image}<figcaption>{first}{''.join(f'<span>{each}</span>' for each in rest)}</figcaption></figure>"


def suspects(found: Values, pictures: Pictures) -> str:
    if not found["count"]:
        return '<p class="about">No label of a test image is doubtful by confident learning.</p>'
    shown = found["images"][:MOST_SUSPECTS]
    gallery = "".join(
        figure(
            each["index"],
            pictures,
            f"label {safe(each['label'])} ({100 * each['of_label']:.1f}%)",
            f"answer {safe(each['answer'])} ({100 * each['of_answer']:.1f}%)",
            f"test image {each['index']}",
        )
        for each in shown
    )
    return (
        f'<p class="about">Of {found["count"]:,} test images another class than the label is credible (confident '
        f"learning). Most are mistakes of the network; some are mistakes of the label. The {len(shown)} most doubtful "
        f'ones:</p><div class="pictures">{gallery}</div>'
    )


def mistakes(found: Sequence[Values], pictures: Pictures) -> str:
    if not found:
        return '<p class="about">Every test image was answered rightly.</p>'
    gallery = "".join(
        figure(
            each["index"],
            pictures,
            f"{safe(each['predicted'])} ({100 * each['probability']:.1f}%)",
            f"label {safe(each['label'])}",
            f"test image {each['index']}",
        )
        for each in found[:MOST_SUSPECTS]
    )
    return f'<p class="about">The wrong answers of the highest probability.</p><div class="pictures">{gallery}</div>'


def near_duplicates(found: Values) -> str:
    rows = [
        [f"test image {pair['test']}", f"training image {pair['train']}", f"{pair['cosine']:.4f}"]
        for pair in found["pairs"][:MOST_PAIRS]
    ]
    return (
        f'<p class="about">Test images that resemble a training image: {found["near"]:,}. The most alike:</p>'
        + table(["test image", "training image", "cosine"], rows, label="Near-duplicates")
    )


def needed(values: Values) -> list[int]:
    """Return the places of the test images that the page shows."""
    listed = values["label_suspects"]["images"][:MOST_SUSPECTS] + values["mistakes"][:MOST_SUSPECTS]
    return sorted({each["index"] for each in listed})
