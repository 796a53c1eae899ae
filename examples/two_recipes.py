"""Is one setting better than another? The same seeds with both, and what their differences say.

Seeds of one recipe scatter; the difference of a pair with the same seed scatters less. The interval is the paired
t-interval, which `pictorch compare` prints as well.
"""

import pictorch
from pictorch.experiments.stats import paired

SEEDS = (1, 2, 3)


def errors(*settings: str) -> list[float]:
    """Return the test error of each seed, in per cent."""
    found = []
    for seed in SEEDS:
        config = pictorch.load_config(
            None, ["train.epochs=2", "model.base_channels=8", f"train.seed={seed}", *settings]
        )
        found.append(pictorch.train(config, recipe="two_recipes").test_error)
    return found


plain = errors()
smoothed = errors("augment.label_smoothing=0.1")
result = paired(plain, smoothed)
print("plain          ", " ".join(f"{error:5.2f}" for error in plain))
print("label smoothing", " ".join(f"{error:5.2f}" for error in smoothed))
if result.low is None or result.high is None:
    print(f"difference {result.difference:+.2f} points in every pair")
else:
    print(f"difference {result.difference:+.2f} points, 95% interval {result.low:+.2f} to {result.high:+.2f}")
