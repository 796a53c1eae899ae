"""Each quirk is a switch of its own that changes what runs, and as_published turns on a document's."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from pictorch import models
from pictorch.config import ConfigError, UserError, config_hash, differences, dump, load, to_dict
from pictorch.config.keywords import show
from pictorch.config.quirks import FAMILIES, QUIRKS, Quirk, find, network, of_document
from pictorch.config.schema import flatten
from pictorch.models import layers, pyramidnet
from pictorch.models.catalogue import published

BASE = "cifar10/resnet_preact_20"
# What makes a quirk apply, laid over BASE; nothing where it does anyway.
EXAMPLES: dict[str, tuple[str, ...]] = {
    "projection_shortcuts": ("model.name=resnet_110",),
    "narrow_first_stage": ("model.name=resnet_preact_164",),
    "norm_after_stem": ("model.name=resnet_preact18", "model.stem=imagenet"),
    "vgg_missing_relus": ("model.name=vgg_15",),
    "vgg_random_norm_weights": ("model.name=vgg_15",),
    "vgg_without_hidden_layers": ("model.name=vgg16_bn", "model.head=fc512"),
    "wrn_early_dropout": ("model.name=wrn_16_4", "model.drop_rate=0.3"),
    "wrn_constant_norm_weights": ("model.name=wrn_16_4",),
    "densenet_wide_stem": ("model.name=densenet_40_12",),
    "densenet_without_last_relu": ("model.name=densenet121",),
    "pyramidnet_wide_stem": ("model.name=pyramidnet_164_a270",),
    "shake_shake_wide_stem": ("model.name=shake_shake_26_2x32d",),
    "shake_shake_skip_shift": ("model.name=shake_shake_26_2x32d",),
    "he_normal_head": (),
    "fan_in_init": ("model.name=resnet18",),
    "vgg_wide_init": ("model.name=vgg11_bn",),
    "convolution_biases": ("model.name=resnext50_32x4d",),
    "strided_stem": ("model.name=mobilenet_v1_100",),
    "xception_strided_stem": ("model.name=xception",),
    "mobilenet_v2_first_expansion": ("model.name=mobilenet_v2_100",),
    "densenet_leading_relu": ("model.name=densenet121",),
    "densenet_last_transition": ("model.name=densenet121",),
    "googlenet_short_stem": ("model.name=googlenet",),
    "shufflenet_without_shuffle": ("model.name=shufflenet_v1_g3",),
    "vit_without_last_norm": ("model.name=vit_ti_4",),
    "vit_random_tokens": ("model.name=vit_ti_4",),
    "fashion_mnist_random_test": ("data.name=fashion_mnist",),
    "fashion_mnist_large_crops": ("data.name=fashion_mnist",),
    "mnist_as_it_is": ("data.name=mnist",),
    "mnist_crops": ("data.name=mnist", "augment.crop=null"),
    "repeated_draws": ("augment.cutout.size=16",),
    "random_erasing_one_value": ("augment.random_erasing={}",),
    "cutmix_share_uncorrected": ("augment.cutmix={}",),
    "one_loss_only": ("augment.mixup={}", "augment.label_smoothing=0.1"),
    "split_drawn_anew": ("data.val_fraction=0.1",),
    "cifar10_channel_statistics": (),
    "cifar100_channel_statistics": ("data.name=cifar100",),
    "cosine_from_the_next_step": (),
    "cosine_floor": (),
    "late_boundaries": ("schedule={name: multistep, milestones_epochs: [100]}",),
    "decay_by_name": ("optim.decay_norm_and_bias=false",),
    "clip_before_division": ("optim.clip_norm=1", "optim.accumulate=4"),
    "lars_full_trust": ("optim=lars", "optim.lr=0.1"),
    "test_in_training_mode": (),
    "selection_by_batches": ("data.val_fraction=0.1", "train.select=best-val", "evaluation.test_mode=eval"),
}
CASES = [(quirk, document) for quirk in QUIRKS for document in quirk.documents]


def settings(*overrides: str) -> dict[str, Any]:
    """Return {dotted key: value}; an option that is not given, or a block that is off, has no key below it."""
    return flatten(to_dict(load(BASE, overrides).config))


def test_the_table_is_sound() -> None:
    assert len({quirk.name for quirk in QUIRKS}) == len(QUIRKS) >= 25
    assert EXAMPLES.keys() == {quirk.name for quirk in QUIRKS}
    for quirk in QUIRKS:
        assert re.fullmatch("[a-z0-9_]+", quirk.name)
        assert quirk.documents == tuple(sorted(set(quirk.documents)))
        for text in (quirk.program, quirk.paper, quirk.effect):
            assert text.endswith(".")


@pytest.mark.parametrize(("quirk", "document"), CASES, ids=[f"{q.name}-{d}" for q, d in CASES])
def test_a_document_turns_on_its_quirks_and_says_so(quirk: Quirk, document: str, tmp_path: Path) -> None:
    example = load(BASE, EXAMPLES[quirk.name]).config
    assert quirk.applies(example)
    (tmp_path / "recipe.yaml").write_text(dump(to_dict(example)))
    loaded = load(tmp_path / "recipe.yaml", [f"as_published={document}"])
    notes = [note for note in loaded.notes if quirk.name in note]
    have = flatten(to_dict(loaded.config))
    wanted = flatten(quirk.settings(document))
    if quirk.apart:
        assert notes == []
        assert any(show(have.get(key)) != show(value) for key, value in wanted.items())
        return
    assert notes
    assert {key: show(have[key]) for key in wanted} == {key: show(value) for key, value in wanted.items()}
    (tmp_path / "config.yaml").write_text(dump(to_dict(loaded.config)))
    again = load(tmp_path / "config.yaml")
    assert differences(again.config, loaded.config) == {}
    assert not any(f"({quirk.name}" in note for note in again.notes)


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda quirk: quirk.name)
def test_what_one_types_for_a_quirk_sets_its_keys_and_nothing_else(quirk: Quirk) -> None:
    before = settings(*EXAMPLES[quirk.name])
    for document, switch in zip(quirk.documents, quirk.switches, strict=False):
        after = settings(*EXAMPLES[quirk.name], *shlex.split(switch))
        changed = {key for key in before.keys() | after.keys() if show(before.get(key)) != show(after.get(key))}
        assert changed
        assert all(any(key == k or key.startswith(f"{k}.") for k in quirk.keys) for key in changed)
        wanted = flatten(quirk.settings(document))
        assert {key: show(after[key]) for key in wanted} == {key: show(value) for key, value in wanted.items()}


@pytest.mark.parametrize("document", ["seed1", "seed2", "seed3"])
def test_no_two_quirks_of_a_document_want_different_things(document: str) -> None:
    for example in EXAMPLES.values():
        wanted: dict[str, Any] = {}
        for quirk in of_document(document, load(BASE, example).config):
            for key, value in quirk.settings(document).items():
                assert wanted.setdefault(key, value) == value


def test_null_is_everything_as_the_papers_have_it() -> None:
    assert load(BASE, ["as_published=null"]).config == load(BASE).config
    assert load(BASE, ["as_published=null"]).notes == ()


@pytest.mark.parametrize("name", models.list_models())
def test_the_kind_of_a_network_is_read_off_its_name(name: str) -> None:
    spec = models.resolve(name)
    ours = network(load("digits/resnet_preact_8", [f"model={{name: {name}}}"]).config)
    assert ours.family == spec.family
    assert spec.family in FAMILIES
    options, residual = spec.options, spec.family.startswith(("resnet_", "se_resnet")) or spec.family == "resnet"
    if name == spec.family:
        assert not ours.imagenet
        assert not ours.bottleneck or name == "densenet"
        return
    layout, depth, units = options.get("layout", "cifar"), options.get("depth"), options.get("block_type")
    assert ours.imagenet == (layout == "imagenet") or "layout" not in options
    if residual:
        assert ours.bottleneck == (layers._units(name, layout, depth, units)[0] == "bottleneck")
    elif spec.family == "pyramidnet":
        assert ours.bottleneck == (pyramidnet._units(layout, depth, units)[0] == "bottleneck")
    elif spec.family == "densenet":
        assert ours.bottleneck == ((units or ("basic" if layout == "cifar" else "bottleneck")) == "bottleneck")


@pytest.mark.parametrize("name", ["timm:resnet18", "my_nets:resnet"])
def test_a_network_of_somebody_else_s_has_no_quirks(name: str) -> None:
    loaded = load(BASE, [f"model.name={name}", "schedule.name=constant", "as_published=seed1"])
    assert network(loaded.config).family == ""
    assert loaded.notes[-1] == "as_published=seed1: its program has no quirk for this configuration: nothing is changed"
    assert loaded.config == load(BASE, [f"model.name={name}", "schedule.name=constant"]).config.model_copy(
        update={"as_published": "seed1"}
    )


LINES = {(row["network"], str(row["options"]), row["as_published"], row["num_classes"]): row for row in published()}


@pytest.mark.parametrize("row", LINES.values(), ids=lambda row: f"{row['document']}-{row['network']}")
def test_a_document_s_networks_have_the_parameters_behind_its_numbers(row: dict[str, Any]) -> None:
    options = [f"model.{key}={value}" for key, value in row["options"].items()]
    for document, params in ((row["document"], row["params"]), ("null", row["paper_params"])):
        config = load(BASE, [f"model={{name: {row['network']}}}", *options, f"as_published={document}"]).config
        sizes = {key: row[key] for key in ("num_classes", "in_channels", "image_size")}
        with torch.device("meta"):
            model = models.create(config.model.name, **sizes, **config.model.options)
        if params is not None:
            assert sum(p.numel() for p in model.parameters()) == params


def test_what_is_given_beside_or_over_it_stays_and_what_a_recipe_has_does_not(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: cifar10/resnet_preact_20\nmodel: {shortcut: A}\n")
    (tmp_path / "child.yaml").write_text("extends: base\nas_published: seed1\nschedule: {position: before}\n")
    loaded = load(tmp_path / "child.yaml")
    assert loaded.config.model.options["shortcut"] == "B"
    assert loaded.config.schedule.position == "before"
    stays = (
        f"schedule.position stays as it is given ({tmp_path / 'child.yaml'}:3), not 'after' (cosine_from_the_next_step)"
    )
    assert loaded.notes == (
        "as_published=seed1: model.shortcut='B' (projection_shortcuts)",
        f"as_published=seed1: {stays}",
    )
    over = load(tmp_path / "child.yaml", ["model.shortcut=A"])
    assert over.config.model.options["shortcut"] == "A"
    assert "model.shortcut stays as it is given (command line), not 'B'" in over.notes[0]
    assert load(tmp_path / "child.yaml", ["as_published=seed1"]).config.schedule.position == "after"
    assert load(tmp_path / "child.yaml", ["as_published=null"]).config.model.options["shortcut"] == "A"


def test_documents_are_not_mixed() -> None:
    with pytest.raises(ConfigError) as caught:
        load(BASE, ["model={name: vgg_15, as_published: seed3}", "as_published=seed1"])
    assert str(caught.value).startswith(
        "command line: model.as_published: the network is seed3's, the rest of the run seed1's: give the same document"
    )
    with pytest.raises(ConfigError, match="as_published: expected 'seed1', 'seed2' or 'seed3', got 'seed4'"):
        load(BASE, ["as_published=seed4"])


def test_a_mistake_that_a_quirk_leads_to_names_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load("fashion_mnist/resnet_preact_20", ["as_published=seed1", "data.normalise=pixel"])
    assert "note: as_published=seed1: evaluation.crop={padding: 4, mode: 'constant', size: 32}" in str(caught.value)
    assert "data.normalise: a mean image has the images' own size, and so must the crops" in str(caught.value)


def test_keys_that_are_added_leave_the_names_of_old_runs() -> None:
    assert config_hash(load().config) == "2732a723025e"
    assert config_hash(load(None, ["augment.cutmix.alpha=1"]).config) == "76e42f265d92"
    keys = ["evaluation.flip=true", "schedule.late=true", "optim.clip_sum=true", "augment.repeat_draws=7"]
    keys += ["evaluation={test_mode: train, batch_size: 128}", "data.split_seed=run", "evaluation.crop.padding=1"]
    assert len({config_hash(load(None, [key]).config) for key in keys}) == len(keys)
    one, other = load(BASE, ["as_published=seed2"]).config, load(BASE, ["model.shortcut=B"]).config
    assert config_hash(one) == config_hash(other)


def test_names_are_found_and_the_nearest_told() -> None:
    assert [quirk.name for quirk in find("wrn_*")] == ["wrn_early_dropout", "wrn_constant_norm_weights"]
    assert [quirk.name for quirk in find("wrn_*", "seed1")] == ["wrn_early_dropout"]
    for wrong, said in (("narow", "'narrow_first_stage'?"), ("cosine_flor", "did you mean 'cosine_floor'?")):
        with pytest.raises(UserError, match=re.escape(said)):
            find(wrong)
    with pytest.raises(UserError, match="no quirk of seed3 is called 'wrn_early_dropout'"):
        find("wrn_early_dropout", "seed3")
