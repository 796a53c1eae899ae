"""Where a training step's time goes: FLOP and bytes a second beside the machine's, shares of operations, in words.

    python benchmarks/profiles.py                                   six networks, resnet_110 and a slice of wrn_28_10
    python benchmarks/profiles.py --networks wrn_16_4 --batch-size 32 --write ledger

With --write the rows are appended to FOLDER/speed-profile-HARDWARE-torchVERSION-DTYPE.csv as soon as they exist, and
networks that are there already are not profiled again.
"""

import argparse
from pathlib import Path

from pictorch import data
from pictorch.bench import cifar, ledger, profile
from pictorch.engine.precision import choose, choose_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="which (default: eight)")
    parser.add_argument("--batch-size", type=int, help="images in a batch (default: 128, of large networks fewer)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--data-dir", help="where CIFAR-10 lies; random images where it does not")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="the folder of the CSV file (default: none)")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    usual = profile.NETWORKS[device.type]
    networks = {name: arguments.batch_size or usual.get(name, 128) for name in arguments.networks or list(usual)}
    file, done = None, set[str]()
    if arguments.write:
        file = ledger.path(arguments.write, "profile", device, choose("auto", device).name)
        ledger.measured(file, device)  # refuses a file of other hardware
        done = {row["network"] for row in ledger.read(file)}
    with cifar.images(data.root(arguments.data_dir)) as images:
        print(f"on {images.what}")
        for row in profile.measure(images.root, device, networks, done):
            row["hardware"] = ledger.hardware(device)
            for key, value in row.items():
                print(f"{key:>24} {value}")
            print(f"{row['network']}: {profile.verdict({k: str(v) for k, v in row.items()})}", flush=True)
            if file:
                ledger.append(file, row, command=f"python benchmarks/profiles.py --device {device.type} --write ledger")


if __name__ == "__main__":
    main()
