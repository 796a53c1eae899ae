"""The configuration loader: what is merged how, and one clear message for every mistake."""

import re
from collections.abc import Collection
from pathlib import Path

import pytest

from pictorch.config import ConfigError, Loaded, UserError, config_hash, differences, dump, load, recipes, to_dict


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def message(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(None, overrides)
    return str(caught.value)


def test_the_default_recipe_is_complete() -> None:
    loaded = load()
    assert loaded.recipe == recipes.DEFAULT
    assert loaded.config.data.name == "digits"
    assert loaded.config.model.options == {"depth": 8, "base_channels": 32}
    assert loaded.notes == ()


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_loads_has_a_title_and_its_command(name: str) -> None:
    loaded = load(name)
    text = recipes.find(name).read_text()
    assert recipes.summary(name)
    assert f"# Command: pictorch train{'' if name == recipes.DEFAULT else f' {name}'}\n" in text
    assert loaded.notes == ()


@pytest.mark.parametrize("name", recipes.names())
def test_a_dumped_configuration_is_the_same_configuration(name: str, tmp_path: Path) -> None:
    config = load(name, ["train.seed=7", "optim.lr=1e-3"]).config
    again = load(write(tmp_path / "config.yaml", dump(to_dict(config)))).config
    assert again == config
    assert differences(config, again) == {}
    assert config_hash(again) == config_hash(config)


def test_both_styles_of_overrides() -> None:
    config = load(None, ["train.epochs=3", "optim.lr", "1e-3", "data.dir", "a=b", "augment.crop=null"]).config
    assert (config.train.epochs, config.optim.lr, config.data.dir, config.augment.crop) == (3, 1e-3, "a=b", None)


def test_an_override_makes_a_block_that_was_off() -> None:
    config = load("mnist/resnet_preact_20", ["augment.crop.padding=2"]).config
    assert config.augment.crop is not None
    assert config.augment.crop.padding == 2


def test_a_block_on_the_command_line_is_laid_over_not_put_in_place() -> None:
    config = load(None, ["train.seed=7", "train={epochs: 1}"]).config
    assert (config.train.seed, config.train.epochs) == (7, 1)


def test_a_schedule_without_a_name_is_the_default_one(tmp_path: Path) -> None:
    assert load(write(tmp_path / "a.yaml", "schedule: {warmup_epochs: 5}\n")).config.schedule.name == "cosine"


def test_later_layers_win(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "train: {epochs: 5, seed: 1}\noptim: {lr: 0.5}\n")
    write(tmp_path / "sub/b.yaml", "extends: ../a\ntrain:\n  seed: 2\n")
    child = write(tmp_path / "sub/c.yaml", "extends: b.yaml\noptim: {momentum: 0.8}\n")
    config = load(child, ["train.seed=3"]).config
    assert (config.train.epochs, config.train.seed, config.optim.lr, config.optim.momentum) == (5, 3, 0.5, 0.8)


def test_extends_falls_back_to_a_shipped_recipe(tmp_path: Path) -> None:
    child = write(tmp_path / "mine.yaml", "extends: cifar10/resnet_preact_20\ntrain: {seed: 9}\n")
    assert load(child).config.data.name == "cifar10"


def test_the_schedule_follows_the_number_of_epochs_and_says_so() -> None:
    loaded = load("seed1/cifar10/resnet_110", ["train.epochs=16"])
    assert loaded.config.schedule.milestones_epochs == (8, 12)  # type: ignore[union-attr]
    assert "milestones_epochs: 80, 120 became 8, 12" in loaded.notes[0]
    kept = load("seed1/cifar10/resnet_110", ["train.epochs=130", "schedule.scale=false"])
    assert kept.config.schedule.milestones_epochs == (80, 120)  # type: ignore[union-attr]
    given = load("seed1/cifar10/resnet_110", ["train.epochs=16", "schedule.milestones_epochs=[4]"])
    assert given.config.schedule.milestones_epochs == (4,)  # type: ignore[union-attr]
    assert kept.notes == given.notes == ()


def test_a_child_recipe_scales_its_parents_schedule(tmp_path: Path) -> None:
    child = write(tmp_path / "short.yaml", "extends: seed1/cifar10/resnet_110\ntrain: {epochs: 40}\n")
    assert load(child).config.schedule.milestones_epochs == (20, 30)  # type: ignore[union-attr]


def test_a_new_name_drops_the_old_names_options_and_says_so() -> None:
    loaded = load("seed1/cifar10/resnet_110", ["schedule.name=cosine", "model.name=resnet_56"])
    assert loaded.config.schedule.name == "cosine"
    assert loaded.config.model.options == {}
    assert any("schedule.milestones_epochs" in note and "no longer apply" in note for note in loaded.notes)
    assert any("model.depth" in note for note in loaded.notes)


def test_the_hash_names_the_experiment_not_the_execution() -> None:
    base = config_hash(load().config)
    assert re.fullmatch(r"[0-9a-f]{12}", base)
    for same in ("train.seed=5", "train.device=cpu", "train.precision=fp32", "data.dir=/x", "track.tensorboard=false"):
        assert config_hash(load(None, [same]).config) == base
    others = ["train.epochs=31", "optim.lr=0.2", "model.depth=14", "augment.crop=null", "data.val_fraction=0.1"]
    others.append("evaluation.views=mirror")
    assert len({base, *(config_hash(load(None, [other]).config) for other in others)}) == 7


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.epoch=3", "command line: train.epoch: unknown key; did you mean 'epochs'?"),
        ("epochs=3", "command line: epochs: unknown key; did you mean 'train.epochs'?"),
        ("optimizer.lr=3", "command line: optimizer: unknown key; did you mean 'optim'?"),
        ("train.epochs=-1", "command line: train.epochs: expected a value above 0, got -1"),
        (
            "train.epochs=abc",
            "command line: train.epochs: expected a whole number, got 'abc'",
        ),
        ("train.epochs=2.5", "command line: train.epochs: expected a whole number, got 2.5"),
        (
            "train.epochs=true",
            "command line: train.epochs: expected a whole number, got true",
        ),
        (
            "train.epochs=",
            "command line: train.epochs: expected a whole number, got null",
        ),
        ("optim.lr=true", "command line: optim.lr: expected a number, got true"),
        ("optim.lr=.inf", "command line: optim.lr: expected a finite number, got .inf"),
        ("optim.lr=0", "command line: optim.lr: expected a value above 0, got 0"),
        ("data.val_fraction=1", "command line: data.val_fraction: expected a value below 1, got 1"),
        ("data.fraction=1.5", "command line: data.fraction: expected a value of at most 1, got 1.5"),
        ("augment.crop=3", "command line: augment.crop: expected a block of keys, got 3"),
        ("augment.crop.paddin=1", "command line: augment.crop.paddin: unknown key; did you mean 'padding'?"),
        ("schedule.name=cosin", "command line: schedule.name: unknown name 'cosin'; did you mean 'cosine'?"),
        ("schedule.gamma=0.2", "schedule.gamma: unknown key of schedule 'cosine'; its keys: final_factor"),
        ("optim.name=sdg", "command line: optim.name: unknown name 'sdg'; did you mean 'sgd'?"),
        ("train.select=best", "train.select: expected 'last' or 'best-val', got 'best'; did you mean 'best-val'?"),
        ("optim.momentum=0", "command line: optim.momentum: Nesterov's momentum needs optim.momentum above 0"),
        ("schedule.warmup_epochs=99", "command line: schedule.warmup_epochs: 99 epochs of warm-up do not fit into"),
        ("track.tensorboard=3", "command line: track.tensorboard: expected true or false or 'auto', got 3"),
        ("model.name=3", "command line: model.name: expected text, got 3"),
        (
            "train.threads=0",
            "command line: train.threads: expected a whole number above 0 and of at most 1024 or 'auto', got 0",
        ),
        ("train.seed=010", "command line: train.seed: expected a whole number, got '010'"),
        ("train.seed=1:30", "command line: train.seed: expected a whole number, got '1:30'"),
        ("data.name={[1]: 2}", "command line: data.name: expected a plain key; lists, mappings and merges"),
        ("data.name=!!int abc", "command line: data.name: this is not valid YAML: tags (`!!int`) are not supported"),
        ("data.name=&a [*a]", "command line: data.name: this is not valid YAML: aliases (`*name`) are not supported"),
        ("train.epochs=[3", "command line: train.epochs: this is not valid YAML: expected ',' or ']'"),
        ("train.epochs=\0", "command line: train.epochs: this is not valid YAML: it has the character U+0000"),
        ("optim={lr: 1, lr: 2}", "command line: optim.lr: this key stands here a second time"),
        ("optim={<<: {lr: 1}}", "command line: optim: expected a plain key"),
        ("augment.crop={padding: 0}", "command line: augment.crop.padding: expected a value above 0, got 0"),
        ("optim={lr: -1}", "command line: optim.lr: expected a value above 0, got -1"),
        ("train.epochs.x=1", "command line: train.epochs: expected a whole number, got"),
        ("train=5", "command line: train: expected a block of keys, got 5"),
        ("model.name=", "command line: model.name: expected text, got null"),
        ("model.name=''", "command line: model.name: expected a text that is not empty, got ''"),
        ("data.dir=''", "command line: data.dir: expected a text that is not empty, got ''"),
        (
            "schedule.name=null",
            "command line: schedule.name: unknown name null; known: constant, linear, multistep, cosine, sgdr, ",
        ),
        ("optim.name=[sgd, true]", "command line: optim.name: unknown name ['sgd', true]; known: sgd, adam, "),
        ("train.epochs=1000001", "command line: train.epochs: expected a value of at most 1000000, got 1000001"),
        ("train.batch_size=1e99", "command line: train.batch_size: expected a whole number, got 1e+99"),
        ("train.max_steps=9999999999999", "train.max_steps: expected a value of at most 1000000000000, got"),
        ("train.seed=9223372036854775808", "train.seed: expected a value below 9223372036854775808, got 922"),
        (
            "train.threads=100000000",
            "train.threads: expected a whole number above 0 and of at most 1024 or 'auto', got",
        ),
        ("augment.crop.padding=1025", "augment.crop.padding: expected a value of at most 1024, got 1025"),
        (f"train.epochs={'9' * 400}", "train.epochs: expected a number of at most 100 digits, got 400"),
        (f"train.epochs={'9' * 5000}", "train.epochs: expected a number of at most 100 digits, got 5000"),
        (f"train.epochs={'[' * 5000}", "command line: train.epochs: this is not valid YAML: it is nested"),
        (f"model.depth={'[' * 30}{']' * 30}", "model.depth: expected at most 20 levels of nesting, got more"),
        (f"train{'.a' * 5000}=1", "command line: 'train.a.a"),
        ("optim.freeze=*", "command line: optim.freeze: this is not valid YAML: expected alphabetic or numeric"),
        ("optim.freeze=*", "; a text with * in front stands in quotes"),
        ("--confg", "command line: --confg: unknown option"),
        ("train.epochs", "command line: train.epochs: no value is given for it; write train.epochs=value"),
        ("a b=3", "command line: 'a b=3': expected key=value"),
    ],
)
def test_one_message_for_a_mistake_on_the_command_line(override: str, said: str) -> None:
    assert said in message(override)
    assert len(message(override).splitlines()) == 1


def test_every_mistake_is_said_at_once() -> None:
    lines = message("train.epochs=-1", "optim.lr=abc", "train.sed=3").splitlines()
    assert len(lines) == 3


def test_multistep_says_what_it_needs() -> None:
    assert "schedule.milestones_epochs: this key is needed" in message("schedule.name=multistep")
    assert "expected a list of numbers above 0, got 'a'" in message(
        "schedule.name=multistep", "schedule.milestones_epochs=[a]"
    )
    rising = message("schedule.name=multistep", "schedule.milestones_epochs=[3,2]")
    assert "command line: schedule.milestones_epochs: expected rising epochs, got [3, 2]" in rising
    assert "expected at least 1 value" in message("schedule.name=multistep", "schedule.milestones_epochs=[]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train:\n  epochs: 3\n  sed: 4\n", "bad.yaml:3: train.sed: unknown key; did you mean 'seed'?"),
        ("train:\n  epochs: 3\n  epochs: 4\n", "bad.yaml:3: train.epochs: this key stands here a second time"),
        ("train: 3\n", "bad.yaml:1: train: expected a block of keys, got 3"),
        ("optim:\n  lr: fast\n", "bad.yaml:2: optim.lr: expected a number, got 'fast'"),
        ("schedule:\n  name: multistep\n", "bad.yaml:2: schedule.milestones_epochs: this key is needed"),
        ("- a\n- b\n", "bad.yaml:1: expected `key: value` lines"),
        ("train: [\n", "bad.yaml:2: this is not valid YAML"),
        ("train:\n\tepochs: 3\n", "bad.yaml:2: this is not valid YAML"),
        ("train.epochs: 2\n", "bad.yaml:1: train.epochs: unknown key; keys are nested: `train:` on a line"),
        ("train: {[1]: 2}\n", "bad.yaml:1: train: expected a plain key"),
        ("train: &t\n  seed: 1\noptim:\n  <<: *t\n", "bad.yaml:4: this is not valid YAML: aliases (`*name`) are"),
        ("train: {seed: !!int ''}\n", "bad.yaml:1: this is not valid YAML: tags (`!!int`) are not supported"),
        ("data:\n  drop_last: !!bool x\n", "bad.yaml:2: this is not valid YAML: tags (`!!int`) are not supported"),
        ("data: {dir: !!timestamp x}\n", "bad.yaml:1: this is not valid YAML: tags"),
        ("data: {dir: !mine x}\n", "bad.yaml:1: this is not valid YAML: tags"),
        ("data: !!set {a, b}\n", "bad.yaml:1: this is not valid YAML: tags"),
        ("train: {seed: &a [*a]}\n", "bad.yaml:1: this is not valid YAML: aliases (`*name`) are not supported"),
        ("train:\n  seed: \0\n", "bad.yaml:2: this is not valid YAML: it has the character U+0000"),
        ("train:\n  seed: \x1b\n", "bad.yaml:2: this is not valid YAML: it has the character U+001B"),
        (f"train: {'[' * 5000}\n", "bad.yaml:1: this is not valid YAML: it is nested more than 20 levels deep"),
        (f"train:\n  seed: {'9' * 5000}\n", "bad.yaml:2: train.seed: expected a number of at most 100 digits"),
        ("extends: nowhere\n", "bad.yaml:1: extends: there is neither a file 'nowhere.yaml' nor a recipe 'nowhere'"),
        ("extends: mnist/resnet_20\n", "bad.yaml:1: extends: there is neither a file 'mnist/resnet_20.yaml'"),
        (f"extends: {'a' * 5000}\n", "bad.yaml:1: extends: there is neither a file 'aaa"),
        ('extends: "a\\0b"\n', "bad.yaml:1: extends: there is neither a file"),
        ("extends: [a, null]\n", "bad.yaml:1: extends: expected the name of a recipe or of a file, got ['a', null]"),
        ("extends: bad\n", "bad.yaml: extends: the files extend each other in a circle"),
    ],
)
def test_one_message_with_file_and_line_for_a_mistake_in_a_file(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path / "bad.yaml", text))
    assert str(caught.value).startswith(said)


def test_the_place_is_that_of_the_value_that_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "parent.yaml", "optim:\n  lr: -1\n  momentum: 0.9\n")
    child = write(tmp_path / "child.yaml", "extends: parent\noptim:\n  nesterov: true\ndata: {val_fraction: 0.1}\n")

    def said(*overrides: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(child, overrides)
        return str(caught.value).splitlines()

    assert said() == ["parent.yaml:2: optim.lr: expected a value above 0, got -1"]
    assert said("optim.lr=-2") == ["command line: optim.lr: expected a value above 0, got -2"]
    assert said("optim={lr: 1, momentum: 0}")[0].startswith("command line: optim.momentum: Nesterov's momentum needs")
    twice = said("optim.lr=1", "optim.momentum=0", "optim.nesterov=false", "optim.nesterov=true")
    assert twice[0].startswith("command line: optim.nesterov: Nesterov's momentum needs")
    kept = said("optim.lr=1", "swa={start_epochs: 1}", "train.select=best-val")
    assert kept == ["command line: train.select: swa keeps the average at the end: leave train.select=last"]


def test_the_files_are_blamed_for_what_they_contradict_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.yaml", "train:\n  seed: 1\noptim:\n  momentum: 0\n")
    with pytest.raises(ConfigError, match=r"^a\.yaml:4: optim\.momentum: Nesterov's momentum needs"):
        load(path)
    missing = write(tmp_path / "b.yaml", "schedule:\n  gamma: 0.2\n")
    with pytest.raises(ConfigError, match=r"^command line: schedule\.milestones_epochs: this key is needed"):
        load(missing, ["schedule.name=multistep"])


@pytest.mark.parametrize(
    ("text", "override", "said"),
    [
        ("optim: {}\ntrain: 5\n", "train.epochs=1", "a.yaml:2: train: expected a block of keys, got 5"),
        (
            "augment: {crop: 3}\n",
            "augment.crop={padding: 1}",
            "a.yaml:1: augment.crop: expected a block of keys, got 3",
        ),
    ],
)
def test_a_scalar_where_a_block_belongs_is_not_written_over(
    text: str, override: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path / "a.yaml", text), [override])
    assert str(caught.value) == said


def test_a_block_on_the_command_line_keeps_what_it_gives_from_scaling() -> None:
    loaded = load("seed1/cifar10/resnet_110", ["train.epochs=16", "schedule={milestones_epochs: [8]}"])
    assert loaded.config.schedule.milestones_epochs == (8,)  # type: ignore[union-attr]
    assert loaded.origins["schedule.milestones_epochs"] == "command line"
    assert loaded.notes == ()


def test_a_dropped_option_has_no_place_any_more() -> None:
    loaded = load(None, ["model={name: resnet}"])
    assert "model.depth" not in loaded.origins
    assert loaded.origins["model.name"] == "command line"
    assert "model.depth, model.base_channels of the recipe no longer apply" in loaded.notes[0]


def test_notes_stand_behind_the_mistakes() -> None:
    with pytest.raises(ConfigError) as caught:
        load("seed1/cifar10/resnet_110", ["train.epochs=16", "optim.lr=-1"])
    mistake, note = str(caught.value).splitlines()
    assert mistake == "command line: optim.lr: expected a value above 0, got -1"
    assert note.startswith("note: schedule.milestones_epochs: 80, 120 became 8, 12")
    with pytest.raises(ConfigError) as caught:
        load("seed1/cifar10/resnet_110", ["train.epochs=-16"])
    assert str(caught.value) == "command line: train.epochs: expected a value above 0, got -16"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["train.epochs=100", "schedule.scale=false"],
            "command line: train.epochs: the milestone 120 is never reached with train.epochs=100",
        ),
        (
            ["schedule.milestones_epochs=[80, 160]"],
            "command line: schedule.milestones_epochs: the milestone 160 is never reached with train.epochs=160",
        ),
    ],
)
def test_a_milestone_that_is_never_reached_is_a_mistake(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load("seed1/cifar10/resnet_110", overrides)
    assert str(caught.value) == said


def test_contradictions_are_told_beside_the_mistakes_of_other_blocks() -> None:
    lines = message("model.name=3", "optim.momentum=0", "data.fraction=2", "train.select=best-val").splitlines()
    assert [line.split(": ")[1] for line in lines] == ["data.fraction", "model.name", "optim.momentum"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["evaluation.test_mode=train"],
            "evaluation.test_mode: the result depends on which images are answered at once",
        ),
        (["train.select_mean=batches"], "train.select_mean: the result depends on which images are answered at once"),
        (
            ["evaluation={test_mode: train, batch_size: 9}", "train.ghost_batches=2"],
            "evaluation.test_mode: ghost batches do not divide every test batch: leave train.ghost_batches=1",
        ),
        (
            ["augment.crop.size=9", "data.normalise=pixel"],
            "augment.crop.size: a mean image has the images' own size, and so must the crops",
        ),
        (["data.split_seed=ran"], "data.split_seed: expected a whole number of at least 0 and below"),
    ],
)
def test_evaluations_that_contradict_themselves(overrides: list[str], said: str) -> None:
    assert f"command line: {said}" in message(*overrides)


def test_further_checks_are_given_the_sound_blocks() -> None:
    def check(loaded: Loaded, blocks: Collection[str]) -> list[str]:
        assert loaded.config.train.seed == 1
        return [", ".join(sorted(blocks))]

    with pytest.raises(ConfigError) as caught:
        load(None, ["train.seed=-7"], check=check)
    first, second = str(caught.value).splitlines()
    assert first == "command line: train.seed: expected a value of at least 0, got -7"
    assert second == "as_published, augment, data, ema, evaluation, loss, model, optim, schedule, swa, track"


def test_a_single_override_may_be_a_text() -> None:
    assert load(None, "train.epochs=3").config.train.epochs == 3


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    write(tmp_path / "home/parent.yaml", "train: {seed: 5}\n")
    write(tmp_path / "home/child.yaml", "extends: ~/parent\n")
    assert load(Path("~/child.yaml")).config.train.seed == 5


def test_an_empty_block_that_is_off_is_made_by_a_later_key(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "augment: {crop: null}\n")
    assert load(path, ["augment.crop={padding: 2}"]).config.augment.crop.padding == 2  # type: ignore[union-attr]


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot read this configuration: No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot read this configuration: File name too long"):
        load(tmp_path / f"{'a' * 300}.yaml")
    with pytest.raises(ConfigError, match=r"this is not the path of a file: embedded null byte"):
        load(tmp_path / "a\0.yaml")
    with pytest.raises(UserError, match="no recipe"):
        load("a\0")
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    with pytest.raises(ConfigError, match="cannot read this configuration: Too many levels of symbolic links"):
        load(tmp_path / "loop.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: cannot read this configuration: it is not UTF-8"):
        load(tmp_path / "binary.yaml")


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"no recipe 'cifar10/resnet_preact_2'; did you mean 'cifar10/resnet_preact_20'"
    ):
        load("cifar10/resnet_preact_2")


@pytest.mark.parametrize(
    "text", ["1e3", "010", "1:30", "2020-01-01", "yes", "null", "~", "0x10", ".5", "é ü", " a", "a: b", "+5", "=", "<<"]
)
def test_text_survives_a_dump(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dumped.yaml"
    path.write_text(dump({"data": {"dir": text}}), encoding="utf-8")
    assert load(path).config.data.dir == text


@pytest.mark.parametrize("new", [7, 28, 50, 99, 100, 333])
def test_scaled_milestones_are_exact_where_they_can_be(new: int) -> None:
    config = load("seed1/cifar10/resnet_110", [f"train.epochs={new}"]).config
    assert config.schedule.milestones_epochs == (80 * new / 160, 120 * new / 160)  # type: ignore[union-attr]


def test_a_file_without_epochs_is_scaled_from_the_default(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "schedule: {name: multistep, milestones_epochs: [15]}\n")
    assert load(path, ["train.epochs=60"]).config.schedule.milestones_epochs == (30,)  # type: ignore[union-attr]
    assert load(path).notes == ()


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path / "empty.yaml", "")).config.train.epochs == 30
