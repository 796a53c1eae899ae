"""What work costs as there is more of it: batch size, depth, image size, images, classes, replicas.

    python benchmarks/curves.py                                     every curve; under 10 minutes on two cores
    python benchmarks/curves.py --curves depth building --write ledger

Prints a line a point, and the power of the work that each curve's time grows with. With --write the rows are appended
to FOLDER/speed-curves-HARDWARE-torchVERSION-DTYPE.csv as soon as they exist, and points that are there already are not
measured again.
"""

import argparse
from pathlib import Path

from pictorch.bench import curves, ledger
from pictorch.engine.precision import choose, choose_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", nargs="+", choices=curves.CURVES, default=list(curves.CURVES), metavar="CURVE")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="the folder of the CSV file (default: none)")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    rows, file = [], None
    if arguments.write:
        file = ledger.path(arguments.write, "curves", device, choose("auto", device).name)
        ledger.measured(file, device)  # refuses a file of other hardware
        rows = ledger.read(file)
    done = {(row["curve"], row["at"]) for row in rows}
    for row in curves.measure(arguments.curves, device, done):
        row["hardware"] = ledger.hardware(device)
        rows.append({key: str(value) for key, value in row.items()})
        print(*(f"{row[key]:>14}" for key in ("curve", "at", "seconds", "nanoseconds_per_unit", "spread")), flush=True)
        if file:
            ledger.append(file, row, command=f"python benchmarks/curves.py --device {device.type} --write ledger")
    for name in arguments.curves:
        power = curves.exponent_of(name, rows)
        print(f"{name}: time grows with the {'?' if power is None else f'{power:.2f}'} power of the work")


if __name__ == "__main__":
    main()
