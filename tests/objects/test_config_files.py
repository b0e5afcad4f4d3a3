"""Losses from configuration files, and to them."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from every import LOSSES, METRICS
from hypothesis import given, settings
from hypothesis import strategies as st

import agnoreg
from agnoreg.loss import label
from agnoreg.objects import files as config_files
from agnoreg.objects import registry as names
from agnoreg.objects.registration import RegistrationLoss
from agnoreg.objects.weighted import WeightedLoss

ROOT = Path(agnoreg.__file__).parents[1]
SUFFIXES = (".json", ".yaml", ".yml")

SECTION = {
    "image": {"name": "lncc", "kernel_size": 7, "smooth_nr": 1e-5},
    "label": {"name": "dice", "scales": [0, 1, 2], "weight": 0.5},
    "regularization": [{"name": "bending", "weight": 1.0}, {"name": "gradient", "weight": 1e-3}],
}
#: The same as somebody writes it by hand.
WRITTEN = {
    ".json": """
        {"image": {"name": "lncc", "kernel_size": 7, "smooth_nr": 1e-5},
         "label": {"name": "dice", "scales": [0, 1, 2], "weight": 0.5},
         "regularization": [{"name": "bending", "weight": 1}, {"name": "gradient", "weight": 1e-3}]}
    """,
    ".yaml": """
image:
  name: lncc
  kernel_size: 7
  smooth_nr: 1e-5  # which YAML 1.1 takes for a word
label: {name: dice, scales: [0, 1, 2], weight: .5}
regularization:
  - {name: bending, weight: 1}
  - name: gradient
    weight: 1E-3
""",
}
WRITTEN[".yml"] = WRITTEN[".yaml"]


class PowerForConfigFiles(agnoreg.Loss):
    """A user's loss."""

    power: float = 2.0
    factors: tuple = ()

    def call(self, y_true, y_pred):
        xp = agnoreg.backend_of(y_true).xp
        return xp.mean(xp.abs(y_true - y_pred) ** self.power, axis=tuple(range(1, len(y_true.shape))))


class UnregisteredForConfigFiles(PowerForConfigFiles):
    """A user's loss that nobody could find by its name."""


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register the user's loss for these tests alone."""
    for table in ("_by_name", "_by_class"):
        monkeypatch.setattr(names, table, dict(getattr(names, table)))
    agnoreg.register_loss("power-for-config-files")(PowerForConfigFiles)


def written(folder, content, suffix):
    """Return a file with this content."""
    path = folder / f"loss{suffix}"
    if not isinstance(content, bytes):
        content = content.encode()
    path.write_bytes(content)
    return path


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JSON", ".Yaml"])
def test_a_file_gives_what_its_configuration_does(tmp_path, suffix):
    path = written(tmp_path, WRITTEN[suffix.lower()], suffix)
    assert agnoreg.load_loss(path) == agnoreg.load_loss(str(path)) == agnoreg.build_loss(SECTION)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "config",
    [
        SECTION,
        SECTION | {"label": None},
        SECTION["regularization"],
        ["ssd", {"name": "gncc", "weight": 0.1}],
        {"name": "lncc", "kernel_size": [9, 9, 3], "data_format": "channels_first"},
        "gmi",
    ],
    ids=str,
)
def test_whatever_build_loss_takes_may_stand_alone_or_under_one_key(tmp_path, config, suffix):
    dump = json.dumps if suffix == ".json" else yaml.safe_dump
    for content in (config, {"loss": config}):
        assert agnoreg.load_loss(written(tmp_path, dump(content), suffix)) == agnoreg.build_loss(config)


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.e-5", "1.0e-05", ".1e-4", "+1e-5", "0.00001", "100e-7"])
def test_a_number_of_yaml_is_a_number(tmp_path, text):
    for line in (f"{{name: lncc, smooth_nr: {text}}}", f"name: lncc\nsmooth_nr: {text}\n"):
        loss = agnoreg.load_loss(written(tmp_path, line, ".yaml"))
        assert loss.smooth_nr == pytest.approx(1e-5, rel=1e-15)
    assert agnoreg.load_loss(written(tmp_path, "{name: gmi, num_bins: 2e1}", ".yaml")).num_bins == 20


def test_what_yaml_takes_for_words_stays_words(tmp_path):
    for word in ("'1e-5'", '"1e5"', "e5", "1e", "1-e5", "1e5x"):
        path = written(tmp_path, f"{{class: DiceLoss, config: {{name: {word}}}}}", ".yaml")
        assert agnoreg.load_loss(path).name == word.strip("'\"") + "Loss"


def test_yamls_own_means_may_be_used(tmp_path):
    text = """
    image: &similarity
      - &window {name: lncc, kernel_size: 5, weight: 2.0}
      - {<<: *window, kernel_size: 9}
    label: {name: dice}
    """
    loss = agnoreg.load_loss(written(tmp_path, text, ".yaml"))
    assert [part.kernel_size for part in loss.image.losses] == [5, 9]
    assert loss.image.weights == (2.0, 2.0)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_editors_byte_order_mark_is_no_part_of_the_file(tmp_path, suffix, encoding):
    path = written(tmp_path, WRITTEN[suffix].strip().encode(encoding), suffix)
    assert agnoreg.load_loss(path) == agnoreg.build_loss(SECTION)


def test_the_documents_files_are_read(tmp_path):
    (listed,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "losses.md").read_text(), flags=re.DOTALL)
    assert set(agnoreg.load_loss(written(tmp_path, listed, ".yaml")).sections()) == {"image", "label", "regularization"}
    by_hand = agnoreg.build_loss(
        {
            "image": {"name": "lncc", "kernel_size": 7},
            "label": {"name": "dice", "scales": [0, 1, 2, 4]},
            "regularization": [{"name": "bending", "weight": 0.5}, {"name": "gradient", "weight": 0.1}],
        }
    )
    assert agnoreg.load_loss(tmp_path / "loss.yaml") == by_hand


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_whole_file_of_deepregs_is_read_where_its_loss_lies(tmp_path, suffix):
    dump = json.dumps if suffix == ".json" else yaml.safe_dump
    around = {"method": "ddf", "backbone": {"name": "local"}, "optimizer": {"name": "Adam"}, "epochs": 2}
    whole = {"dataset": {"type": "unpaired"}, "train": {**around, "loss": SECTION}}
    for content in (whole, whole["train"]):
        assert agnoreg.load_loss(written(tmp_path, dump(content), suffix)) == agnoreg.build_loss(SECTION)
    with pytest.raises(TypeError, match=r"build_loss\(config\['train'\]\['loss'\]\)"):
        agnoreg.build_loss(whole)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_is_missing_is_named(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match=rf"loss\{suffix}"):
        agnoreg.load_loss(tmp_path / f"loss{suffix}")


@pytest.mark.parametrize("name", ["loss", "loss.txt", "loss.toml", ".yaml", "json"])
def test_an_unknown_suffix_lists_the_known_whether_the_file_exists_or_not(tmp_path, name):
    path = tmp_path / name
    for _ in range(2):
        with pytest.raises(ValueError, match=rf"{re.escape(name)} ends in none of .*\.json, \.yaml, \.yml"):
            agnoreg.load_loss(path)
        with pytest.raises(ValueError, match=rf"{re.escape(name)} ends in none of .*\.json, \.yaml, \.yml"):
            agnoreg.save_loss(agnoreg.build_loss("ssd"), path)
        path.write_text("{}")


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".json", "", "cannot be read as JSON: Expecting value"),
        (".json", "image: {name: lncc}", "cannot be read as JSON: Expecting value: line 1 column 1"),
        (".json", '{"name": "lncc",}', "cannot be read as JSON: .*line 1 column 17"),
        (".json", b"\xff\xfe\x00", "cannot be read as JSON: "),
        (".json", "[" * 200_000, "cannot be read as JSON: "),
        (".json", '{"name": "lncc", "name": "gmi"}', "cannot be read as JSON: the key 'name' occurs twice"),
        (".yaml", "image: {name: lncc", "cannot be read as YAML: while parsing a flow mapping.*line 1, column 8"),
        (".yaml", "name: lncc\n\tkernel_size: 3", "cannot be read as YAML: .*line 2"),
        (".yaml", "image: lncc\nlabel: dice\nimage: gmi\n", "cannot be read as YAML: the key 'image' occurs twice"),
        (".yaml", "loss: {name: lncc, weight: 1, weight: 2}", "cannot be read as YAML: the key 'weight' occurs twice"),
        (".yaml", "name: lncc\n---\nname: gmi\n", "cannot be read as YAML: expected a single document"),
        (".yaml", "!!python/object/apply:os.system ['false']", "cannot be read as YAML: could not determine a constr"),
        (".yaml", "{name: gmi, num_bins: !!bool 23}", "cannot be read as YAML: '23'"),
        (".yaml", "{? [a]: b}", "cannot be read as YAML: .*unhashable key"),
        (".yml", b"name: \xff", "cannot be read as YAML: .*invalid start byte"),
        (".yaml", "image: {name: lnc}", "Unknown loss 'lnc'. Did you mean 'lncc'"),
        (".yaml", "{name: lncc, kernel_size: 0}", "lncc: kernel_size must be an integer of at least 1, got 0"),
        (".yaml", "[{name: lncc, reduction: sum}, {name: ssd}]", "one reduction, got mean, sum"),
        (".json", '{"name": "ssd", "weight": NaN}', "ssd: A weight must be a finite number, got nan"),
        (".yaml", "image:\nlabel:\n", "A registration's loss needs one of the sections image, label, regularization"),
        (".yaml", "{class: LNCQ, config: {}}", "Unknown loss 'LNCQ'"),
        (".yaml", "{loss: lncc, train: {loss: gmi}}", "a loss under 'loss' and another one under 'train'"),
    ],
)
def test_what_is_wrong_is_said_with_the_files_name(tmp_path, suffix, content, message):
    path = written(tmp_path, content, suffix)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}:? .*{message}") as error:
        agnoreg.load_loss(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".yaml", "", "A loss's configuration is a name, a mapping with a name, or a list of them, got None"),
        (".json", "7", "A loss's configuration is .*got 7"),
        (".yaml", "{}", "needs a name, or some of the sections image, label, regularization; got the keys of nothing"),
        (".yaml", "loss:", "A loss's configuration is .*got None"),
        (".yaml", "{image: lncc, images: gmi}", "needs a name, or some of the sections .*got the keys image, images"),
        (".yaml", "{train: {optimizer: adam}}", "needs a name.*got the keys train"),
        (".yaml", "{image: lncc, regularisation: bending}", "Did you mean 'regularization'"),
        (".yaml", "{name: lncc, kernelsize: 3}", "lncc has no argument 'kernelsize'. Did you mean 'kernel_size'"),
        (".json", '{"loss": {"image": {"kernel_size": 3}}}', "needs a name, got the keys kernel_size"),
        (".yaml", "{name: lncc, 3: 4}", "lncc has no argument 3"),
        (".yaml", "{class: DiceLoss, config: {scale: 1}}", "DiceLoss has no argument 'scale'. Did you mean 'scales'"),
        (".yaml", "{class: DiceLoss, config: dice}", "DiceLoss: what stands under 'config' is what get_config returns"),
        (".yaml", "{class: WeightedLoss, config: {weights: [1]}}", "WeightedLoss: the key 'losses' is missing"),
        (
            ".yaml",
            "{class: WeightedLoss, config: {losses: [{name: dice}], weights: [1]}}",
            "WeightedLoss: the key 'class' is missing",
        ),
        (".yaml", "{class: DiceLoss, binary: true}", "needs a name, or .*got the keys class, binary"),
    ],
)
def test_a_wrong_key_is_build_losss_error_with_the_files_name(tmp_path, suffix, content, message):
    path = written(tmp_path, content, suffix)
    with pytest.raises(TypeError, match=f"^{re.escape(str(path))}: .*{message}"):
        agnoreg.load_loss(path)


def is_read_or_refused(path):
    """Check that a file gives a loss, or else an error that names it."""
    try:
        found = agnoreg.load_loss(path)
    except (TypeError, ValueError) as error:
        found = error
    assert isinstance(found, agnoreg.Loss) or str(found).startswith(str(path))


LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.sampled_from(["lncc", "dice", "", "loss"])
KEYS = st.sampled_from(
    ["name", "loss", "image", "regularization", "weight", "class", "config", "losses", "kernel_size"]
)


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(KEYS, x, max_size=3)), st.booleans())
def test_whatever_a_file_holds_gives_a_loss_or_an_error_that_names_it(tmp_path_factory, content, as_json):
    text = json.dumps(content) if as_json else yaml.safe_dump(content)
    path = written(tmp_path_factory.mktemp("any"), text, ".json" if as_json else ".yaml")
    is_read_or_refused(path)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=30) | st.text("{}[]:,-&*!|>?#'\"% \n\tae01.", max_size=12), st.sampled_from(SUFFIXES))
def test_no_text_breaks_the_reader(tmp_path_factory, text, suffix):
    path = written(tmp_path_factory.mktemp("any"), text.encode(errors="replace"), suffix)
    is_read_or_refused(path)


#: Documents of few bytes that say very much.
LEVELS = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
LEVELS += [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise("abcdefghi")]
MERGED = ["a: &a {x1: 1, x2: 2, x3: 3}"]
MERGED += [f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}" for a, b in itertools.pairwise("abcdefghi")]
SUM = "{class: WeightedLoss, config: {losses: [%s], weights: [1, 1, 1, 1, 1, 1, 1, 1, 1]}}"
SUMS = [f"a: &a {SUM % ', '.join(['{class: DiceLoss, config: {}}'] * 9)}"]
SUMS += [f"{b}: &{b} {SUM % ', '.join([f'*{a}'] * 9)}" for a, b in itertools.pairwise("abcdefghi")]
BOMBS = {
    "aliases": (".yaml", "\n".join(LEVELS), "more than 20000 entries"),
    "aliases in one place": (".yaml", "\n".join([*LEVELS, "image: *i"]), "more than 20000 entries"),
    "merged keys": (".yaml", "\n".join(MERGED), "more than 20000 entries"),
    "sums of sums": (".yaml", "\n".join([*SUMS, "loss: *i"]), "more than 20000 entries"),
    "an alias in itself": (".yaml", "image: &a [*a]", "nested more than 50 deep"),
    "depth": (".yaml", "[" * 60 + "]" * 60, "nested more than 50 deep"),
    "depth in JSON": (".json", "[" * 60 + "]" * 60, "nested more than 50 deep"),
    "great depth": (".yaml", "[" * 100_000, "nested too deeply"),
    "great depth in blocks": (".yaml", "- " * 100_000, "nested too deeply"),
    "great depth in JSON": (".json", '{"a":' * 40_000, "nested too deeply"),
    "size": (".yaml", "#" + "x" * (1 << 18), "larger than 262144 bytes"),
    "size in JSON": (".json", " " * (1 << 18) + "1", "larger than 262144 bytes"),
    "digits": (".json", f'{{"name": "ssd", "weight": {"9" * 5000}}}', "cannot be read as JSON"),
    "digits in base 16": (".yaml", f"{{name: ssd, weight: 0x{'f' * 9000}}}", "got an integer of 36000 bits"),
    "a long name": (".yaml", f"name: {'x' * 100_000}", "Unknown loss 'xxx"),
    "a long key": (".yaml", f"{{name: lncc, {'x' * 900}: 1}}", "lncc has no argument 'xxx"),
    "a long list": (".json", json.dumps({"name": "lncc", "kernel_size": [3] * 9000}), "kernel_size must be"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_document_that_says_very_much_is_refused_in_a_short_message(tmp_path, name):
    suffix, content, message = BOMBS[name]
    path = written(tmp_path, content, suffix)
    with pytest.raises((ValueError, TypeError), match=message) as error:
        agnoreg.load_loss(path)
    assert str(error.value).startswith(str(path))
    assert len(str(error.value)) < 2500
    assert "\n" not in str(error.value)


def test_aliases_that_somebody_means_are_read(tmp_path):
    content = "window: &w {name: lncc, kernel_size: 5}\nloss: {image: [*w, *w, {<<: *w, weight: 2}]}"
    assert agnoreg.load_loss(written(tmp_path, content, ".yaml")).image.weights == (1, 1, 2)


@pytest.mark.parametrize("use", [agnoreg.load_loss, lambda path: agnoreg.save_loss(agnoreg.SSD(), path)])
@pytest.mark.parametrize("wrong", ["a\0.json", "a\ud800.yaml", "\ud800/a.yaml"])
def test_a_path_that_no_file_has_is_refused_in_one_line(tmp_path, monkeypatch, use, wrong):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"which no file's name has|characters that no file's name has") as error:
        use(wrong)
    assert str(error.value).isprintable()
    for other in (None, 3, b"loss.json", agnoreg):
        with pytest.raises(TypeError, match=r"A file's path is a string or a pathlib\.Path, got"):
            use(other)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "title", ["a\x85b", "a\u2028b", "a\u2029b", "a\nb", "a\rb", "a\tb", "a\x1bb", "a b", "é", "\udcff"]
)
def test_any_name_that_a_file_can_have_is_written_and_read(tmp_path, title):
    path = tmp_path / f"{title}.json"
    agnoreg.save_loss(agnoreg.SSD(), path)
    assert agnoreg.load_loss(path) == agnoreg.SSD()
    assert os.listdir(tmp_path) == [path.name]
    path.write_text("[")
    with pytest.raises(ValueError, match="cannot be read as JSON") as error:
        agnoreg.load_loss(path)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="how long a name may be is POSIX's")
def test_a_name_as_long_as_a_file_can_have_is_written_and_a_longer_one_is_the_systems_error(tmp_path):
    for title in ("x" * 250, "é" * 125):
        agnoreg.save_loss(agnoreg.SSD(), tmp_path / f"{title}.json")
        assert agnoreg.load_loss(tmp_path / f"{title}.json") == agnoreg.SSD()
    for use in (agnoreg.load_loss, lambda path: agnoreg.save_loss(agnoreg.SSD(), path)):
        with pytest.raises(OSError, match=r"File name too long: '.*xxx\.json'"):
            use(tmp_path / f"{'x' * 300}.json")
    assert len(os.listdir(tmp_path)) == 2


def test_without_pyyaml_json_works_and_yaml_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['yaml'] = None\n"
        "import agnoreg\n"
        "loss = agnoreg.build_loss('ssd')\n"
        "agnoreg.save_loss(loss, 'loss.json'); assert agnoreg.load_loss('loss.json') == loss\n"
        "for one in (lambda: agnoreg.load_loss('loss.yaml'), lambda: agnoreg.save_loss(loss, 'loss.yml')):\n"
        "    try: one()\n"
        "    except ImportError as error: print(error)\n"
    )
    run = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    load, save = done.stdout.splitlines()
    assert load.startswith("loss.yaml is YAML, which needs PyYAML: pip install agnoreg[yaml]")
    assert save.startswith("loss.yml is YAML, which needs PyYAML: pip install agnoreg[yaml]")
    assert os.listdir(tmp_path) == ["loss.json"]


def test_the_import_of_agnoreg_does_not_load_pyyaml():
    code = "import sys, agnoreg; assert 'yaml' not in sys.modules; agnoreg.load_loss"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


# --- writing ----------------------------------------------------------------------------------------------------------

SSD = label.SumSquaredDifference
COMPOSITES = {
    "a section": agnoreg.build_loss(SECTION),
    "a section whose sum is reduced in another way": dataclasses.replace(agnoreg.build_loss(SECTION), reduction="none"),
    "a section of its own name": dataclasses.replace(agnoreg.build_loss(SECTION), name="registration", native=True),
    "a sum": agnoreg.build_loss([{"name": "lncc", "weight": 1 / 3}, {"name": "gmi", "weight": 1e-30}]),
    "a weight": agnoreg.build_loss({"name": "dice", "weight": 2.0, "reduction": "sum"}),
    "names": WeightedLoss((SSD(name="a"), SSD(name="a"), SSD(name="1e5")), (1, 2, 0), name="yes", reduction="none"),
    "terms that are reduced in other ways": WeightedLoss((SSD(reduction="sum"), SSD(reduction="none")), (1, 1)),
    "a sum of sums": WeightedLoss((agnoreg.build_loss([{"name": "ssd", "weight": 0.1}, "gncc"]), SSD()), (1, 3)),
    "one section": RegistrationLoss(label=label.DiceLoss(name="dice é — 标签", scales=0.5)),
    "a user's": PowerForConfigFiles(power=1.5, factors=(1, (2.5, "x"), None, True)),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", COMPOSITES)
def test_a_saved_loss_is_read_back_as_it_was(tmp_path, name, suffix):
    loss, path = COMPOSITES[name], tmp_path / f"loss{suffix}"
    agnoreg.save_loss(loss, path)
    again = agnoreg.load_loss(path)
    assert again == loss
    assert type(again) is type(loss)
    assert hash(again) == hash(loss)
    assert again.get_config() == loss.get_config()
    assert suffix == ".json" or "标签" in path.read_text(encoding="utf-8") or "标签" not in str(loss)
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", METRICS)
def test_every_class_is_saved_with_what_is_not_its_default(tmp_path, name, suffix):
    cls = METRICS[name]
    options = {
        "kernel_size": (3, 5, 7),
        "num_bins": 9,
        "smooth_nr": 1e-7,
        "scales": (0, 1.5),
        "binary": True,
        "l1": True,
        "spacing": (1.0, 1.0, 2.5),
        "data_format": "channels_first",
    }
    known = {item.name for item in dataclasses.fields(cls)}
    chosen = {key: value for key, value in options.items() if key in known}
    for loss in (cls(), cls(name="mine", reduction="sum"), cls(**chosen, native=True)):
        agnoreg.save_loss(loss, str(tmp_path / f"loss{suffix}"))
        again = agnoreg.load_loss(tmp_path / f"loss{suffix}")
        assert again == loss
        assert type(again) is cls


def test_registered_names_are_among_them():
    assert set(LOSSES.values()) <= set(METRICS.values())


#: Whatever a string can hold, and more often what some format takes for a line break, a control or half a character.
SPECIAL = "\x00\x07\t\n\r\x1b\x7f\x80\x85\xa0\xad\u2028\u2029\ufeff\ufffe\uffff\ud800\udc00\U0001f600 '\"#:-&*!%@`\\"
TITLES = st.text(max_size=8) | st.text(st.characters() | st.sampled_from(SPECIAL), max_size=8)


def kept_or_refused(loss, path):
    """Check that a loss is read back, or is not written at all."""
    try:
        agnoreg.save_loss(loss, path)
    except ValueError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert "cannot be written" in refused
        assert len(refused.splitlines()) == 1
        assert not path.exists()
        return False
    again = agnoreg.load_loss(path)
    assert again == loss
    assert again.get_config() == loss.get_config()
    return True


@settings(max_examples=40, deadline=None)
@given(title=TITLES, suffix=st.sampled_from(SUFFIXES))
def test_a_name_of_any_characters_is_read_back_wherever_it_stands(tmp_path_factory, title, suffix):
    path = tmp_path_factory.mktemp("any") / f"loss{suffix}"
    named = agnoreg.build_loss([{"class": "SumSquaredDifference", "config": {"name": title}}, "ssd"])
    # JSON has no two halves of a character that are not the whole one.
    whole = title.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") == title
    for loss in (
        SSD(name=title),
        named,
        PowerForConfigFiles(factors=(title, (title,))),
        WeightedLoss((SSD(),), (1,), name=title),
    ):
        path.unlink(missing_ok=True)
        assert kept_or_refused(loss, path) or (suffix == ".json" and not whole)
    if title in {*names._by_name, *names._by_class}:
        return
    before = dict(names._by_name), dict(names._by_class)
    try:
        agnoreg.register_loss(title)(type("RegisteredBySpecialName", (SSD,), {}))
        path.unlink(missing_ok=True)
        kept_or_refused(agnoreg.build_loss({"name": title}), path)
    finally:
        names._by_name, names._by_class = before


def options_of(cls):
    """Return what each argument of a class may be, most of it good."""
    options = {
        "kernel_size": st.integers(1, 9) | st.tuples(*[st.integers(1, 9)] * 3),
        "num_bins": st.integers(2, 64),
        "sigma_ratio": st.floats(0.1, 2.0),
        "scales": st.none() | st.lists(st.floats(0, 5), min_size=1, max_size=3) | st.integers(0, 3),
        "background_weight": st.floats(0, 1),
        "spacing": st.floats(0.1, 5.0) | st.tuples(*[st.floats(0.1, 5.0)] * 3),
        "spatial_dims": st.sampled_from([1, 2, 3]),
        "data_format": st.sampled_from(["channels_last", "channels_first"]),
        "convention": st.sampled_from(["deepreg", "monai", "voxelmorph", "ants"]),
        "kernel_type": st.sampled_from(["rectangular", "triangular", "gaussian"]),
        "padding": st.sampled_from(["zero", "truncate"]),
        "stencil": st.sampled_from(["central", "compact"]),
        "kernel": st.sampled_from(["gaussian", "cauchy"]),
        "reduction": st.sampled_from(["mean", "sum", "none"]),
        "name": TITLES,
        "flat_value": st.none() | st.floats(0, 1),
    }
    booleans = dict.fromkeys(("binary", "l1", "squared", "native"), st.booleans())
    smooth = dict.fromkeys(("smooth", "smooth_nr", "smooth_dr"), st.floats(0, 1))
    known = {item.name for item in dataclasses.fields(cls)}
    return {name: one for name, one in (options | booleans | smooth).items() if name in known}


@st.composite
def any_loss(draw, inputs=(1, 2)):
    """Return a loss of any class with any arguments that it takes."""
    cls = draw(st.sampled_from([cls for cls in METRICS.values() if cls.inputs in inputs]))
    chosen = {name: draw(option) for name, option in options_of(cls).items() if draw(st.integers(0, 3)) == 0}
    while True:
        try:
            return cls(**chosen)
        except ValueError:
            # They do not go together: with one less they may.
            chosen.popitem()


WEIGHTS = st.sampled_from([1.0, 1, 0.0, -2.5]) | st.floats(-10, 10)


@settings(max_examples=40, deadline=None)
@given(parts=st.lists(st.tuples(any_loss((2,)), WEIGHTS), min_size=1, max_size=3), field=any_loss((1,)), data=st.data())
def test_a_saved_loss_lacks_what_has_its_default_and_is_equal(tmp_path_factory, parts, field, data):
    path = tmp_path_factory.mktemp("any") / f"loss{data.draw(st.sampled_from(SUFFIXES))}"
    alone = parts[0][0]
    losses = [alone, field]
    for make in (
        lambda: WeightedLoss(*zip(*parts, strict=True), reduction=data.draw(st.sampled_from(["mean", "none"]))),
        lambda: agnoreg.build_loss(
            [{"class": type(x).__name__, "config": x.get_config(), "weight": w} for x, w in parts]
        ),
        lambda: RegistrationLoss(image=alone, regularization=field),
    ):
        with contextlib.suppress(ValueError):
            losses.append(make())
    for loss in losses:
        path.unlink(missing_ok=True)
        if kept_or_refused(loss, path):
            read = json.loads if path.suffix == ".json" else yaml.safe_load
            saved = read(path.read_text(encoding="utf-8"))
            if loss is alone:
                defaults = type(loss)(convention=saved["convention"]) if "convention" in saved else type(loss)()
                own = {key: value for key, value in saved.get("config", saved).items() if key not in ("class", "name")}
                assert all(getattr(loss, key) != getattr(defaults, key) or key == "convention" for key in own)


@pytest.mark.parametrize(
    ("config", "content"),
    [
        ("lncc", {"name": "lncc"}),
        ({"name": "DiceScore", "binary": True}, {"name": "DiceScore", "binary": True}),
        ({"name": "mse", "scales": [0, 1], "weight": 2.0}, [{"name": "ssd", "scales": [0, 1], "weight": 2.0}]),
        (["gmi", {"name": "ncc", "weight": 0.5}], [{"name": "gmi"}, {"name": "gncc", "weight": 0.5}]),
        (
            {
                "image": {"name": "lncc", "kernel_size": 9, "smooth_nr": 1e-5},
                "label": None,
                "regularization": "bending",
            },
            {"image": {"name": "lncc"}, "regularization": {"name": "bending"}},
        ),
        ({"class": "DiceLoss", "config": {"name": "mine"}}, {"class": "DiceLoss", "config": {"name": "mineLoss"}}),
        ({"name": "lncc", "convention": "ants"}, {"name": "lncc", "convention": "ants"}),
    ],
    ids=str,
)
def test_what_is_saved_reads_as_somebody_would_write_it(tmp_path, config, content):
    agnoreg.save_loss(agnoreg.build_loss(config), tmp_path / "loss.json")
    assert json.loads((tmp_path / "loss.json").read_text()) == content


@settings(max_examples=60, deadline=None)
@given(
    titles=st.lists(TITLES, min_size=1, max_size=3),
    weights=st.lists(st.floats(0, 1e300), min_size=3, max_size=3),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    suffix=st.sampled_from(SUFFIXES),
)
def test_any_name_and_weight_is_read_back(tmp_path_factory, titles, weights, reduction, suffix):
    parts = tuple(SSD(name=title) for title in titles)
    loss = WeightedLoss(parts, tuple(weights[: len(parts)]), reduction=reduction, name=titles[0])
    path = tmp_path_factory.mktemp("any") / f"loss{suffix}"
    agnoreg.save_loss(loss, path)
    assert agnoreg.load_loss(path) == loss


def test_what_was_saved_computes_the_same(tmp_path, rng):
    loss = agnoreg.build_loss(SECTION)
    agnoreg.save_loss(loss, tmp_path / "loss.yaml")
    pair, field = tuple(rng.random((2, 2, 7, 7, 7))), rng.random((2, 7, 7, 7, 3))
    given = {"image": pair, "label": pair, "regularization": field}
    total, terms = loss(**given, return_terms=True)
    again, others = agnoreg.load_loss(tmp_path / "loss.yaml")(**given, return_terms=True)
    np.testing.assert_array_equal(again, total)
    assert others == terms


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (UnregisteredForConfigFiles(), "Unknown loss 'UnregisteredForConfigFiles'.*register_loss"),
        (WeightedLoss((UnregisteredForConfigFiles(),), (1,)), "Unknown loss 'UnregisteredForConfigFiles'"),
        (PowerForConfigFiles(factors=print), "would not be read back: "),
        (PowerForConfigFiles(factors=float("nan")), "would not be read back: "),
        (PowerForConfigFiles(factors=(Path("x"),)), "would not be read back: "),
        (type("DiceScore", (label.DiceScore,), {})(), "would not be read back: .*the class of that name"),
    ],
)
def test_a_loss_that_could_not_be_read_back_is_not_written(tmp_path, loss, message, suffix):
    path = written(tmp_path, "as it was", suffix)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} cannot be written, .*{message}"):
        agnoreg.save_loss(loss, path)
    assert path.read_text() == "as it was"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("wrong", [None, "lncc", {"name": "lncc"}, label.DiceLoss])
def test_only_losses_are_saved(tmp_path, wrong):
    with pytest.raises(TypeError, match="save_loss takes a loss object"):
        agnoreg.save_loss(wrong, tmp_path / "loss.json")
    assert os.listdir(tmp_path) == []


def test_a_file_is_replaced_whole_or_stays(tmp_path, monkeypatch):
    path = tmp_path / "loss.json"
    first, second = agnoreg.build_loss("ssd"), agnoreg.build_loss("gmi")
    agnoreg.save_loss(first, path)

    def fails(*_):
        raise OSError(28, "No space left on device", "elsewhere")

    for name in ("replace", "fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(config_files.os, name, fails)
            with pytest.raises(OSError, match=r"No space left on device: '.*loss\.json'"):
                agnoreg.save_loss(second, path)
        assert agnoreg.load_loss(path) == first
        assert os.listdir(tmp_path) == ["loss.json"]
    agnoreg.save_loss(second, path)
    assert agnoreg.load_loss(path) == second


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*missing.loss\.yaml'"):
        agnoreg.save_loss(agnoreg.build_loss("ssd"), tmp_path / "missing" / "loss.yaml")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OSError, match=r"'.*folder\.json'"):
        agnoreg.save_loss(agnoreg.build_loss("ssd"), tmp_path / "folder.json")
    assert os.listdir(tmp_path) == ["folder.json"]


@pytest.mark.skipif(os.name != "posix", reason="links and modes are POSIX's")
def test_a_link_stays_a_link_and_a_new_file_has_the_usual_mode(tmp_path):
    (tmp_path / "link.json").symlink_to("loss.json")
    agnoreg.save_loss(agnoreg.build_loss("ssd"), tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert agnoreg.load_loss(tmp_path / "loss.json") == agnoreg.build_loss("ssd")
    (tmp_path / "other").touch()
    assert (tmp_path / "loss.json").stat().st_mode == (tmp_path / "other").stat().st_mode
