"""The article's experiment as a plain Keras script: the baseline for `hemorrhage-tf fit`.

It follows the usual transfer-learning guide: augmentation in `tf.data`, a frozen
ResNet152, one trainable dense unit, `model.fit` for ten epochs, so that every slice goes
through the backbone once an epoch. `benchmarks/fit_speed.py` compares it with `fit`.

    python examples/plain_keras.py DATA [--weights imagenet|none]
"""

import argparse
import csv
import pathlib

import keras
import tensorflow as tf
from sklearn.model_selection import train_test_split

SIZE = 224

parser = argparse.ArgumentParser()
parser.add_argument("data", type=pathlib.Path, help="folder with labels.csv and head_ct/*.png")
parser.add_argument("--weights", default="imagenet", choices=["imagenet", "none"])
parser.add_argument("--epochs", type=int, default=10)
arguments = parser.parse_args()

keras.utils.set_random_seed(0)
with open(arguments.data / "labels.csv", newline="") as file:
    rows = list(csv.DictReader(file, skipinitialspace=True))
paths = [str(arguments.data / "head_ct" / f"{int(row['id']):03d}.png") for row in rows]
labels = [float(row["hemorrhage"]) for row in rows]
train_paths, test_paths, train_labels, test_labels = train_test_split(
    paths, labels, test_size=0.2, stratify=labels, random_state=0
)


def load(path, label):
    """Decode and resize one slice."""
    image = tf.io.decode_png(tf.io.read_file(path), channels=3)
    return tf.image.resize(image, (SIZE, SIZE)), label


def augment(image, label):
    """Flip and change the contrast, as the article does."""
    image = tf.image.random_flip_left_right(image)
    image = tf.image.random_flip_up_down(image)
    return tf.image.random_contrast(image, 0.8, 1.2), label


train = tf.data.Dataset.from_tensor_slices((train_paths, train_labels))
train = train.map(load, num_parallel_calls=tf.data.AUTOTUNE).cache().shuffle(len(train_paths))
train = train.map(augment, num_parallel_calls=tf.data.AUTOTUNE).batch(32).prefetch(2)
test = tf.data.Dataset.from_tensor_slices((test_paths, test_labels))
test = test.map(load, num_parallel_calls=tf.data.AUTOTUNE).cache().batch(32).prefetch(2)

backbone = keras.applications.ResNet152(
    include_top=False,
    weights=None if arguments.weights == "none" else "imagenet",
    input_shape=(SIZE, SIZE, 3),
    pooling="avg",
)
backbone.trainable = False
inputs = keras.Input((SIZE, SIZE, 3))
features = backbone(keras.applications.resnet.preprocess_input(inputs), training=False)
model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(features))
model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
model.fit(train, validation_data=test, epochs=arguments.epochs, verbose=2)
