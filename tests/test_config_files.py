"""Losses from configuration files, and to them."""

import dataclasses
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
from agnoreg import config_files
from agnoreg.loss import label, names
from agnoreg.loss.composite import RegistrationLoss, WeightedLoss

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
    (readme,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    by_hand = agnoreg.build_loss(
        {
            "image": {"name": "lncc", "kernel_size": 7},
            "label": {"name": "dice", "scales": [0, 1, 2], "weight": 0.5},
            "regularization": [{"name": "bending", "weight": 1.0}, {"name": "gradient", "weight": 0.1}],
        }
    )
    assert agnoreg.load_loss(written(tmp_path, readme, ".yaml")) == by_hand
    (listed,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "losses.md").read_text(), flags=re.DOTALL)
    assert set(agnoreg.load_loss(written(tmp_path, listed, ".yaml")).sections()) == {"image", "label", "regularization"}


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
        (".yaml", "{class: LNCC, config: {}}", "Unknown loss 'LNCC'"),
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
        (".yaml", "{loss: {name: lncc}, optimizer: adam}", "needs a name.*got the keys loss, optimizer"),
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


@settings(max_examples=60, deadline=None)
@given(
    titles=st.lists(st.text(max_size=8), min_size=1, max_size=3),
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
