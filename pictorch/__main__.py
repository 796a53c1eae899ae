"""`python -m pictorch` is `pictorch`."""

from pictorch.cli import main

main()
