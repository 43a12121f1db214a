"""The article's experiment: frozen ResNet152, flips and contrast, 80/20, ten epochs.

    python examples/head_ct.py DATA

DATA is the Kaggle head-CT set: labels.csv and the folder head_ct.
"""

import sys

import hemorrhage_tf as htf

slices = htf.read_manifest(sys.argv[1])
run = htf.fit(
    slices,
    backbone="resnet152",
    weights="imagenet",
    augment="horizontal_flip,vertical_flip,contrast",
    pooling="avg",
    test_fraction=0.2,
    epochs=10,
)
print(run.summary)
images = [record.path for record in slices.records[:3]]
for one in htf.predict(images, model=run):
    print(one.path, round(one.probability, 3), one.is_hemorrhage)
