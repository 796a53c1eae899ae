"""What a run got wrong with the most confidence, and what it says of those images when asked again.

`predictions.npz` has an answer for every test image, in the order of the test set; the weights answer any image.
"""

import numpy as np
from PIL import Image

import pictorch
from pictorch import data

result = pictorch.train(pictorch.load_config(None, ["train.epochs=3"]), recipe="surest_mistakes")
answers = np.load(result.run_dir / "predictions.npz")
labels, classes, probabilities = answers["label"], answers["classes"], answers["probabilities"]
wrong = np.flatnonzero(classes[:, 0] != labels)
surest = wrong[np.argsort(-probabilities[wrong, 0])][:3]
print(f"{len(wrong)} of {len(labels)} images are wrong; the surest of them:")

digits = data.open("digits", root=data.root())
images = [Image.fromarray(digits.test.images[i, 0].numpy()) for i in surest]
for i, said in zip(surest, pictorch.predict(result.run_dir, images, top_k=2), strict=True):
    ranked = ", ".join(f"{name} {p:.0%}" for name, p in zip(said.classes, said.probabilities, strict=True))
    print(f"test image {i}, a {labels[i]}: {ranked}")
