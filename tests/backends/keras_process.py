"""What one process of the tests of Keras does, for Keras chooses its backend when it is imported.

``train`` fits one step of losses and compares it with the NumPy adapter's gradient, in slabs of four planes, and saves
compiled models, which ``load`` evaluates in a process of its own. There it also fits a step of 96^3, and steps of
volumes of several sizes, with weights of voxels, too. ``distribute`` fits one on two devices. What they find is printed
as a line of JSON.
"""

import dataclasses
import json
import sys
import warnings
from pathlib import Path

import agnoreg_keras
import keras
import numpy as np

import agnoreg

SHAPE = (12, 13, 14)
BATCH = 4

LOSSES = {
    "lncc": agnoreg_keras.LNCC(kernel_size=7),
    "small": agnoreg_keras.LNCC(kernel_size=3),
    "dice": agnoreg_keras.Dice(scales=[0, 1], reduction="sum"),
    "gmi": agnoreg_keras.GMI(),
    "ssd": agnoreg_keras.SSD(reduction="mean"),
    "sum": agnoreg_keras.Loss([{"name": "lncc", "kernel_size": 3}, {"name": "gncc", "weight": 0.5}]),
    "bending": agnoreg_keras.Bending(spacing=(1.0, 1.0, 2.5)),
}
TRAINED = ("small", "dice", "bending")
SAVED = ("sum", "bending")


@keras.saving.register_keras_serializable("tests")
class Shift(keras.layers.Layer):
    """Add an image of parameters, whose gradient is the sum of the samples' gradients by the predicted images."""

    def build(self, shape):
        self.image = self.add_weight(shape=shape[1:], initializer="zeros")

    def call(self, x):
        return x + self.image


def images(loss, shape=SHAPE, batch=BATCH):
    """Return inputs, targets and a weight for each sample."""
    generator = np.random.default_rng(7)
    x, y = generator.random((2, batch, *shape, 3 if loss.loss.inputs == 1 else 1), dtype="float32")
    return x, y, generator.uniform(0.2, 2.0, batch).astype("float32")


def model_of(loss, shape=SHAPE, dtype="float32"):
    """Return a compiled model that predicts its input, plus parameters."""
    model = keras.Sequential([keras.Input((*shape, 3 if loss.loss.inputs == 1 else 1)), Shift(dtype=dtype)])
    model.compile(optimizer=keras.optimizers.SGD(1.0), loss=loss)
    return model


def expected(loss, x, y, weights):
    """Return the weighted loss, and the step of gradient descent from parameters of 0, by NumPy in float64."""
    own = dataclasses.replace(loss.loss, reduction="none")
    values, gradients = agnoreg.value_and_grad(own, *(a.astype("float64") for a in (y, x)[-own.inputs :]))
    weights = weights / (1 if loss.reduction == "sum" else len(weights))
    return float(weights @ values), -np.tensordot(weights, gradients, 1)


def compared(model, loss, x, y, weights):
    """Fit one step on the whole batch, and return how far the loss and the parameters are from NumPy's, relatively."""
    history = model.fit(x, y, sample_weight=weights, batch_size=len(x), epochs=1, shuffle=False, verbose=0).history
    value, step = expected(loss, x, y, weights)
    (found,) = model.get_weights()
    return abs(history["loss"][0] - value) / abs(value), float(abs(found - step).max() / abs(step).max())


def train(folder):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import forced_slabs

    forced_slabs.force()
    errors = {name: compared(model_of(LOSSES[name]), LOSSES[name], *images(LOSSES[name])) for name in TRAINED}
    return {"errors": errors, "mixed": mixed(), "saved": save(folder)}


def mixed():
    """Return what a model that predicts in bfloat16 makes of an input that has no more digits."""
    import ml_dtypes

    loss = LOSSES["ssd"]
    x, y, weights = images(loss)
    x = x.astype(ml_dtypes.bfloat16).astype("float32")
    return compared(model_of(loss, dtype="mixed_bfloat16"), loss, x, y, weights)


def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def large():
    """Return what `train` does for LNCC, and the MB of memory that the step took."""
    loss, shape = LOSSES["lncc"], (96, 96, 96)
    x, y, weights = images(loss, shape, 1)
    model = model_of(loss, shape)
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    errors = compared(model, loss, x, y, weights)
    return {"errors": {"lncc": errors}, "MB": peak() - before}


def save(folder):
    """Save models of Keras's own layers, and return their weighted losses."""
    results = {}
    for name in SAVED:
        loss = LOSSES[name]
        x, y, weights = images(loss)
        layer = keras.layers.Conv3D(x.shape[-1], 3, padding="same", activation="sigmoid")
        model = keras.Sequential([keras.Input(x.shape[1:]), layer])
        model.compile(optimizer="sgd", loss=loss)
        model.save(folder / f"{name}.keras")
        results[name] = model.evaluate(x, y, sample_weight=weights, verbose=0)
    return results


def load(folder):
    """Load what `save` saved, with nothing but the import of `agnoreg_keras`, and return the models' losses."""
    results = {}
    for name in SAVED:
        loss = LOSSES[name]
        x, y, weights = images(loss)
        model = keras.saving.load_model(folder / f"{name}.keras")
        assert type(model.loss) is type(loss)
        assert model.loss.get_config() == loss.get_config()
        results[name] = model.evaluate(x, y, sample_weight=weights, verbose=0)
    return {"saved": results, "large": large(), "varied": vary()}


SIZES = ((8, 9, 7), (7, 6, 9))
RATE = 0.1


@keras.saving.register_keras_serializable("tests")
class Offset(keras.layers.Layer):
    """Add a number times the square of the image, of whatever size."""

    def build(self, shape):
        self.offset = self.add_weight(shape=(), initializer="zeros")

    def call(self, x):
        return x + self.offset * x * x


def batches(loss, weights):
    """Return inputs, targets and weights of voxels, of each of the sizes."""
    generator, found = np.random.default_rng(3), []
    for size in SIZES:
        x, y = generator.random((2, 2, *size, 3 if loss.loss.inputs == 1 else 1), dtype="float32")
        mask = np.broadcast_to(np.arange(size[2]) > 1, (2, *size))
        mask = {"bool": mask, "uint8": mask * np.uint8(255)}.get(weights, mask * generator.random(mask.shape))
        found.append((x, y, mask.astype(weights) if weights else None))
    return found


class Volumes(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return tuple(x for x in self.batches[index] if x is not None)


def of_unknown_sizes(volumes):
    """Return the same as a dataset of TensorFlow's, whose signature says nothing of sizes."""
    import tensorflow as tf

    found = [volumes[i] for i in range(len(volumes))]
    signature = tuple(tf.TensorSpec([None] * x.ndim, x.dtype) for x in found[0])
    return tf.data.Dataset.from_generator(lambda: iter(found), output_signature=signature)


def steps(loss, weights=None, unknown=False, **compile_options):
    """Return how far a fit of batches of several sizes is from NumPy's, in its loss and its parameter, relatively."""
    given = batches(loss, weights)
    data = Volumes(given)
    if unknown:
        data = of_unknown_sizes(data)
    model = keras.Sequential([keras.Input((None, None, None, given[0][0].shape[-1])), Offset()])
    model.compile(optimizer=keras.optimizers.SGD(RATE), loss=loss, **compile_options)
    found = model.fit(data, epochs=1, shuffle=False, verbose=0).history["loss"][0]
    offset, values = 0.0, []
    for x, y, mask in given:
        moved = x + offset * np.square(x, dtype="float64")
        masks = {} if mask is None else {"mask": mask}
        arrays = (y.astype("float64"), moved)[-loss.loss.inputs :]
        value, gradient = agnoreg.value_and_grad(loss.loss, *arrays, **masks)
        values.append(float(value))
        offset -= RATE * float(np.sum(gradient * np.square(x, dtype="float64")))
    (own,) = model.get_weights()
    evaluated = model.evaluate(data, verbose=0)
    assert np.isfinite(evaluated)
    return abs(found - np.mean(values)) / abs(np.mean(values)), abs(float(own) - offset) / abs(offset)


def vary():
    """Return what `steps` finds."""
    graphs = keras.config.backend() == "tensorflow"
    # TensorFlow takes long to trace windows and fields, of each size once more.
    known = {"ssd": "uint8"} if graphs else {"small": None, "bending": "float64", "ssd": "uint8"}
    results = {f"{name}, {weights}": steps(LOSSES[name], weights) for name, weights in known.items()}
    if not graphs:
        return {"errors": results}
    unknown = {"small": "float64", "bending": None, "gmi": "bool"}
    results |= {f"{name}, {weights}, unknown": steps(LOSSES[name], weights, True) for name, weights in unknown.items()}
    try:
        steps(LOSSES["small"], unknown=True, jit_compile=True)
    except ValueError as error:
        return {"errors": results, "compiled": str(error)}
    return {"errors": results, "compiled": ""}


def distribute(folder):
    """Return what `train` does, of one step on two devices, half the batch on each."""
    import tensorflow as tf

    (cpu,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    results = {}
    for name in ("dice", "ssd", "bending"):
        with strategy.scope():
            model = model_of(LOSSES[name])
        results[name] = compared(model, LOSSES[name], *images(LOSSES[name]))
    return {"replicas": strategy.num_replicas_in_sync, **results}


if __name__ == "__main__":
    # Keras's own variables raise it while a model is saved.
    warnings.filterwarnings("ignore", "__array__ implementation doesn't accept a copy keyword", DeprecationWarning)
    command, folder = sys.argv[1:]
    commands = {"train": train, "load": load, "distribute": distribute}
    print(json.dumps(commands[command](Path(folder))))
