"""The commands of the seed documents, word for word: `main.py`, `train.py` and `test.py` in the root call `main`."""

from collections.abc import Sequence

from pictorch.cli import at_terminal

TRAIN_USAGE = """\
usage: python train.py --config FILE [--config FILE ...] [KEY VALUE ...]     (seed document 2)
       python train.py --resume DIRECTORY                                     (seed document 2)
       python train.py --model MODEL --dataset DATASET [--FLAG VALUE ...]     (seed document 3)

Add --dry_run to see what a command means as `pictorch train`, --strict_row to take the settings of the table row that
it belongs to, --as_published for the networks as that document's program had them.
More: python train.py --config FILE --help, python train.py --model MODEL --help"""


def main(program: str, argv: Sequence[str]) -> None:
    """Run the command `program` (main.py, train.py or test.py) with the words `argv`, and exit."""
    with at_terminal():
        from pictorch.cli.exits import exits

        exits(answer)(program, list(argv))


def answer(program: str, argv: list[str]) -> None:
    """Translate the command and run it."""
    words = (program, *argv)
    if program == "main.py":
        from pictorch.cli.compat import command, seed1

        command.run(seed1.translate(words))
    elif program == "test.py":
        from pictorch.cli.compat import seed3

        seed3.evaluate(words)
    elif document_of_train(argv) == "seed2":
        from pictorch.cli.compat import seed2

        seed2.train(words)
    elif document_of_train(argv) == "seed3":
        from pictorch.cli.compat import command, seed3

        command.run(seed3.translate(words))
    else:
        from pictorch.cli.text import say

        say(TRAIN_USAGE)


def document_of_train(argv: Sequence[str]) -> str | None:
    """Return whose train.py is meant: document 2's has --config and --resume, or keys and values without a flag.

    Without a word, or with --help alone, both could be: None.
    """
    flags = {word.partition("=")[0] for word in argv}
    if flags <= {"-h", "--help"}:
        return None
    shortened = any(name.startswith(flag) for flag in flags if len(flag) > 3 for name in ("--config", "--resume"))
    return "seed2" if shortened or "--local_rank" in flags or not argv[0].startswith("-") else "seed3"
