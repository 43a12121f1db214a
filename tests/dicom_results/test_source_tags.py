from __future__ import annotations

import pytest
from highdicom._standard_utils import get_sop_class_iod_map
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    EnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    UID_dictionary,
)

from hemorrhage_tf.dicom_results.source_tags import is_image_class


@pytest.mark.parametrize(
    "uid", [CTImageStorage, EnhancedCTImageStorage, SecondaryCaptureImageStorage]
)
def test_images_are_referred_to(uid):
    assert is_image_class(uid)


@pytest.mark.parametrize("uid", ["", "1.2.3", "1.2.840.10008.1.2", ComprehensiveSRStorage])
def test_other_objects_are_not(uid):
    assert not is_image_class(uid)


def test_highdicom_knows_every_class_that_is_accepted():
    # It looks the source's class up there, and has no public function for that.
    known = get_sop_class_iod_map()
    accepted = [uid for uid in UID_dictionary if is_image_class(uid)]
    assert len(accepted) > 40 and set(accepted) <= known.keys()
