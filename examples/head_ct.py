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
print(run.report)
for finding in htf.predict(run, [record.path for record in slices.records[:3]]):
    print(finding.path, round(finding.probability, 3), finding.is_hemorrhage)
