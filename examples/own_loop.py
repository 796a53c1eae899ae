"""A training loop of your own, with the package's loaders, network, loss, optimiser and schedule.

Each of them is made of plain keywords and works alone; none knows of the others or of a configuration. What
`pictorch.train` adds is the run directory, resuming, precision, and the rest of a run.
"""

import torch

from pictorch import data, losses, models, optim
from pictorch.data.loader import ResidentLoader
from pictorch.data.mix import Mixup
from pictorch.data.pipeline import Pipeline
from pictorch.optim import schedules

EPOCHS, BATCH = 6, 64

torch.manual_seed(1)
digits = data.open("digits", root=data.root())
spec = digits.spec
common = {"num_classes": 10, "image_size": spec.image_size, "mean": spec.mean, "std": spec.std, "device": "cpu"}
train = ResidentLoader(
    split=digits.train,
    pipeline=Pipeline(**common, seed=1, crop_padding=1, mixes=[Mixup(alpha=0.2)]),
    batch_size=BATCH,
    shuffle=True,
    drop_last=True,
)
test = ResidentLoader(split=digits.test, pipeline=Pipeline(**common), batch_size=355, shuffle=False, drop_last=False)

model = models.create("resnet_preact", depth=8, in_channels=1, image_size=spec.image_size)
loss_of = losses.create("cross_entropy")
optimizer = optim.create(model, "sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
factor = schedules.create("cosine", epochs=EPOCHS, steps_per_epoch=len(train), warmup_epochs=1)

step = 0
for epoch in range(EPOCHS):
    model.train()
    for batch in train.epoch(epoch):
        optim.set_lr(optimizer, 0.1 * factor(step))
        loss = loss_of(model(batch.images), batch.targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    model.eval()
    with torch.inference_mode():
        wrong = sum(int((model(batch.images).argmax(1) != batch.labels).sum()) for batch in test.epoch(0))
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, test error {100 * wrong / len(digits.test):.2f}%")
