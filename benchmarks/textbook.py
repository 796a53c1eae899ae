"""Train a network the textbook way: eager, float32, NCHW, a DataLoader of per-image transforms, `.item()` every step.

    python benchmarks/textbook.py --network resnet_preact_20 --epochs 2

Prints a CSV line an epoch: mean loss and error (per cent) of training and of the test images, seconds on the wall's
clock and of the CPU. Images, network and hyperparameters are those of the recipe cifar10/resnet_preact_20 but for what
is given. This is what `pictorch bench` measures ours against; its code is pictorch/bench/textbook.py.
"""

import argparse
import os

import torch

from pictorch import data
from pictorch.api import load_config
from pictorch.bench.cifar import images
from pictorch.bench.rounds import spend
from pictorch.bench.textbook import Slice, Textbook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet_preact_20")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10**9, help="steps an epoch (default: all)")
    parser.add_argument("--evaluation-batches", type=int, default=10**9, help="batches of test images (default: all)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="of the DataLoader (default: the cores)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--data-dir", help="where the data sets lie (default: $PICTORCH_DATA)")
    arguments = parser.parse_args()
    settings = [f"train.batch_size={arguments.batch_size}", f"train.epochs={arguments.epochs}"]
    config = load_config("cifar10/resnet_preact_20", [f"model={arguments.network}", *settings])
    with images(data.root(arguments.data_dir)) as found:
        dataset = data.open("cifar10", root=found.root)
    device, slice = torch.device(arguments.device), Slice(arguments.steps, arguments.evaluation_batches, 0)
    program = Textbook(config, dataset, slice, device=device, threads=torch.get_num_threads())
    program.feed.open(arguments.workers)
    print(f"# {arguments.network}, {found.what}, {arguments.workers} workers")
    print("epoch,train_loss,train_error,test_loss,test_error,wall_s,cpu_s", flush=True)
    for epoch in range(arguments.epochs):
        results: list[float] = []
        seconds = spend(lambda: results.extend((*program.train(), *program.evaluate())), device)  # noqa: B023
        print(epoch + 1, *(f"{x:.4g}" for x in (*results, *seconds)), sep=",", flush=True)


if __name__ == "__main__":
    main()
