"""Grids: what they expand to, what is said of those that are none, and that the shipped ones are the published rows."""

from pathlib import Path

import pytest

from pictorch.config import ConfigError, UserError, config_hash, recipes
from pictorch.config import load as load_config
from pictorch.config.schema import Config
from pictorch.experiments import grid, published


def write(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


def test_cells_are_the_product_with_the_last_key_of_grid_fastest(tmp_path: Path) -> None:
    text = """
extends: digits/resnet_preact_8
cells:
  - {}
  - {model.depth: 14, model.preact_stage: [true, false, false]}
zip:
  train.batch_size: [64, 32]
  optim.lr: [0.1, 5e-2]
grid:
  data.name: [digits, a b]
  schedule.name: [cosine, constant]
seeds: 3
"""
    read = grid.load(write(tmp_path, text))
    assert (read.seeds, len(read.cells)) == (3, 16)
    assert {recipe for recipe, _ in read.cells} == {"digits/resnet_preact_8"}
    cells = [words for _, words in read.cells]
    assert cells[0] == ("train.batch_size=64", "optim.lr=0.1", "data.name=digits", "schedule.name=cosine")
    assert cells[1][-2:] == ("data.name=digits", "schedule.name=constant")
    assert cells[2][-2] == "data.name='a b'"
    assert cells[4][:2] == ("train.batch_size=32", "optim.lr=0.05")
    assert cells[8][:2] == ("model.depth=14", "model.preact_stage=[true,false,false]")


def test_a_grid_without_lists_is_its_recipe(tmp_path: Path) -> None:
    assert grid.load(write(tmp_path, "extends: digits/resnet_preact_8")).cells == (("digits/resnet_preact_8", ()),)


@pytest.mark.parametrize(
    ("written", "values"),
    [
        ("{from: 0.025, to: 3.2, steps: 8, scale: log}", [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2]),
        ("{from: 8, to: 4096, steps: 10, scale: log}", [8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]),
        ("{from: 1, to: 2, steps: 3}", [1.0, 1.5, 2.0]),
        ("{from: 5, to: 1, steps: 3}", [5, 3, 1]),
        ("{from: 0.1, to: 1, steps: 4, scale: log}", [0.1, 0.215443, 0.464159, 1.0]),
    ],
)
def test_ranges(tmp_path: Path, written: str, values: list[float]) -> None:
    read = grid.load(write(tmp_path, f"extends: digits/resnet_preact_8\ngrid: {{train.batch_size: {written}}}"))
    assert [words for _, words in read.cells] == [(f"train.batch_size={value}",) for value in values]


def test_a_range_can_be_zipped_with_a_list(tmp_path: Path) -> None:
    text = "zip:\n  optim.lr: {from: 1, to: 4, steps: 3, scale: log}\n  train.batch_size: [1, 2, 4]"
    read = grid.load(write(tmp_path, f"extends: digits/resnet_preact_8\n{text}"))
    assert read.cells[2][1] == ("optim.lr=4", "train.batch_size=4")


def test_a_file_can_stand_for_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: digits/resnet_preact_8\n")
    read = grid.load(write(tmp_path, "extends: mine\ngrid: {optim.lr: [0.1]}"))
    assert read.cells == ((tmp_path / "mine.yaml", ("optim.lr=0.1",)),)


def test_several_recipes_have_every_cell_each(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("extends: digits/resnet_preact_8\n")
    read = grid.load(write(tmp_path, "extends: [mine, digits/resnet_preact_8]\ngrid: {optim.lr: [0.1, 0.2]}"))
    assert [(str(recipe), words[0]) for recipe, words in read.cells] == [
        (str(tmp_path / "mine.yaml"), "optim.lr=0.1"),
        (str(tmp_path / "mine.yaml"), "optim.lr=0.2"),
        ("digits/resnet_preact_8", "optim.lr=0.1"),
        ("digits/resnet_preact_8", "optim.lr=0.2"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("grid: {optim.lr: [0.1]}", r"grid\.yaml: extends: expected the recipe that the runs vary, or .*, got null"),
        ("extends: []", r"grid\.yaml:1: extends: expected the recipe that the runs vary, or a list of some, got \[\]"),
        ("extends: [cifar10/resnet_110, 3]", r"grid\.yaml:1: extends: expected the recipe .*, got 3"),
        ("extends: [cifar10/resnet_110, cifar10/resnet_110]", r"extends: cifar10/resnet_110 stands twice in the list"),
        ("extends: cifar10/resnet_11", r"neither a file .* nor a recipe 'cifar10/resnet_11'; did you mean"),
        (
            "extends: digits/resnet_preact_8\ngrids: {}",
            r"grid\.yaml:2: grids: unknown key of a grid; did you mean 'grid'",
        ),
        (
            "grid:\n  optim.lrs: [0.1]",
            r"grid\.yaml:2: grid\.optim\.lrs: optim\.lrs is no key of a configuration; did you",
        ),
        ("grid:\n  optim.lr: 0.1", r"grid\.yaml:2: grid\.optim\.lr: expected a list of values or a range .* got 0\.1"),
        ("grid:\n  optim.lr: []", r"grid\.optim\.lr: expected a list of values or a range .* got \[\]"),
        (
            "grid:\n  optim.lr: {from: 1, to: 2, step: 3}",
            r":2: grid\.optim\.lr\.step: unknown key of a range; did you mean",
        ),
        ("grid:\n  optim.lr: {from: a, to: 2, steps: 3}", r"grid\.optim\.lr\.from: expected a number, got 'a'"),
        ("grid:\n  optim.lr: {from: 1, steps: 3}", r"grid\.optim\.lr\.to: expected a number, got null"),
        (
            "zip:\n  optim.lr: {from: 1, to: 2}",
            r"zip\.optim\.lr\.steps: expected a whole number from 2 to 10,000, got null",
        ),
        ("grid:\n  optim.lr: {from: 1, to: 2, steps: 1}", r"steps: expected a whole number from 2 to 10,000, got 1"),
        (
            "grid:\n  optim.lr: {from: 1, to: 2, steps: 2, scale: cosine}",
            r"scale: expected linear or log, got 'cosine'",
        ),
        ("grid:\n  optim.lr: {from: 0, to: 2, steps: 3, scale: log}", r"from a number above 0 to another, got 0 and 2"),
        ("grid:\n  optim.lr: {from: 2, to: 2, steps: 3}", r"expected a range from a number to another, got 2 twice"),
        ("constraints: optim.lr < 1", r":1: constraints: expected a list of comparisons, for example"),
        (
            "constraints:\n  - optim.lrs < 1",
            r":1: constraints: 'optim\.lrs < 1': optim\.lrs is no key of a configuration",
        ),
        ("grid: [1]", r"grid\.yaml:1: grid: expected keys with a list of values each, got \[1\]"),
        ("grid: {augment.mixup.alpha: [{a: 1}]}", r"expected a plain value; keys of a block are written with dots"),
        ("zip:\n  optim.lr: [1, 2]\n  train.seed: [1]", r":1: zip: .* but optim\.lr has 2, train\.seed has 1"),
        ("cells: {optim.lr: 1}", r"cells: expected a list of mappings"),
        ("cells:\n  - {optim.lr: 1}\n  - {optimlr: 1}", r"cells: cell 2: optimlr is no key of a configuration"),
        ("cells:\n  - {optim.lr: 1}\ngrid: {optim.lr: [2]}", r"optim\.lr: this key stands under two of cells, zip and"),
        ("grid: {optim.lr: [0.1, 0.1]}", r"this cell stands twice in the grid: optim\.lr=0\.1"),
        ("seeds: 0", r"seeds: expected a whole number from 1 to 1,000, got 0"),
        (
            f"grid: {{optim.lr: {list(range(101))}, train.seed: {list(range(100))}}}",
            r"at most 10,000 cells, got 10,100",
        ),
    ],
)
def test_mistakes(tmp_path: Path, text: str, message: str) -> None:
    if "extends" not in text and not text.startswith("grid: {optim.lr: [0.1]}"):
        text = f"{text}\nextends: digits/resnet_preact_8"
    with pytest.raises(ConfigError, match=message):
        grid.load(write(tmp_path, text))


def test_an_unknown_grid_has_the_nearest_and_a_recipe_is_none() -> None:
    assert grid.load("grids/seed1_mnist") == grid.load("seed1_mnist")
    with pytest.raises(UserError, match=r"no grid 'seed1_mnits'; did you mean 'grids/seed1_mnist'"):
        grid.load("seed1_mnits")
    with pytest.raises(
        UserError, match=r"digits/resnet_preact_8 is a recipe, not a grid of runs: `pictorch train digits"
    ):
        grid.load("digits/resnet_preact_8")


def cells_of(names: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    return [(str(recipe), words) for read in map(grid.load, names) for recipe, words in read.cells]


def configuration(recipe: str, overrides: tuple[str, ...]) -> Config:
    return load_config(recipe, overrides).config


@pytest.mark.parametrize("name", recipes.grids())
def test_every_cell_of_every_shipped_grid_is_a_configuration_of_its_own(name: str) -> None:
    hashes = {config_hash(configuration(recipe, cell)) for recipe, cell in cells_of([name])}
    assert len(hashes) == len(grid.load(name).cells)


def test_the_grids_of_seed_document_2_are_its_71_settings() -> None:
    names = [name for name in recipes.grids() if name.startswith("grids/seed2")]
    assert [len(grid.load(name).cells) for name in names] == [39, 20, 30]
    settings = {config_hash(configuration(recipe, cell)) for recipe, cell in cells_of(names)}
    assert len(settings) == 71
    numbers = [number for number in published.rows() if number.recipe == "seed2/cifar10/resnet_preact_20"]
    rows = [tuple(word for word in number.overrides if word != "as_published=seed2") for number in numbers]
    assert len(rows) == 89
    assert {config_hash(configuration("seed2/cifar10/resnet_preact_20", row)) for row in rows} == settings


def test_every_published_row_is_a_recipe_or_a_cell_of_a_grid() -> None:
    """What a number is a claim about can be typed: a recipe, or a grid's cell, and `as_published` at most beside it."""
    grids_of_documents = [name for name in recipes.grids() if name.startswith("grids/seed")]
    known = {(recipe, frozenset(cell)) for recipe, cell in cells_of(grids_of_documents)}
    known |= {(name, frozenset()) for name in recipes.names()}
    claimed = {
        (number.recipe, frozenset(number.overrides) - {f"as_published={number.document}"})
        for number in published.rows()
    }
    assert claimed <= known
    assert {cell for cell in known - claimed if cell[1]} == set()
