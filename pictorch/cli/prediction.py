"""`pictorch predict`: a finished run on one's own images."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pictorch.config import UserError


def predict(run_dir: str, files: Sequence[str], *, top_k: int, as_json: bool) -> None:
    """Print names and probabilities for image files; bad files are named and skipped, and end with status 2."""
    from pictorch.deploy.predict import Predictor

    predictor = Predictor(Path(run_dir))
    bad = 0
    for file in files:
        try:
            [prediction] = predictor([Path(file)], top_k=top_k)
        except UserError as error:
            if len(files) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            bad += 1
            continue
        if as_json:
            print(json.dumps(asdict(prediction)))
            continue
        print(prediction.source)
        for name, probability in zip(prediction.classes, prediction.probabilities, strict=True):
            print(f"  {100 * probability:6.2f}%  {name}")
    if bad:
        raise UserError(f"{bad} of {len(files)} files could not be read")
