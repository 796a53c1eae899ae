"""Write docs/results.md and its figures anew from the ledger: `python docs/results.py`."""

from dataclasses import asdict
from pathlib import Path

from pictorch.cli.claims import network
from pictorch.experiments import claims, ledger, published, studies
from pictorch.reports import figures, results

PAGE = Path(__file__).with_suffix(".md")
FOLDER = Path(__file__).with_suffix("")
LEDGER = PAGE.parent.parent / "ledger"


def made() -> tuple[str, dict[str, bytes]]:
    """Return the page, and its figures by file name."""
    ours = ledger.read(LEDGER)
    rows = [claims.as_row(claim) for claim in claims.match(published.rows(), ours, network)]
    others = [claims.other_row(other) for other in claims.others(published.rows(), ours, network)]
    runs = [asdict(run) | {"protocol": run.protocol} for run in ours]
    found = [studies.as_row(study) for study in studies.find(ours)]
    drawn = figures.figures(rows, ledger.read_curves(LEDGER)) | figures.maps(found)
    page = results.page(rows, runs, others, {file: text for file, (text, _) in drawn.items()}, found)
    return page, {file: picture for file, (_, picture) in drawn.items()}


if __name__ == "__main__":
    page, pictures = made()
    PAGE.write_text(page, encoding="utf-8")
    FOLDER.mkdir(exist_ok=True)
    for file in FOLDER.glob("*.svg"):
        file.unlink()
    for name, picture in pictures.items():
        (FOLDER / name).write_bytes(picture)
