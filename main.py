#!/usr/bin/env python3
import sys

from pictorch.cli.compat import main

if __name__ == "__main__":
    main("main.py", sys.argv[1:])
