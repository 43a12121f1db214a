"""The codes in the results, and where each was looked up.

Standard codes come from pydicom's dictionary (`pydicom.sr.codedict`, generated from DICOM PS3.16):

| concept | code | context group |
|---|---|---|
| Intracranial hemorrhage | SCT 1386000 | none, in the dictionary of SNOMED CT |
| Presence of property | DCM 121052 | none |
| Present, Absent | SCT 52101004, SCT 272519000 | CID 240 |
| Probability | DCM 122157 | none |
| Threshold Value | DCM 122411 | none |
| no units | UCUM 1 | CID 7181 |
| Intracranial | SCT 1101003 | CID 4 |
| Computed tomography of head | SCT 303653007 | none, in the dictionary of SNOMED CT |
| Imaging Measurement Report | DCM 126000 | CID 7021 |
| Artificial Intelligence | DCM 123110 | CID 7162 |
| Of Interest | DCM 113000 | CID 7010 |
| Source of Measurement | DCM 121112 | CID 7551 |
| Comment | DCM 121106 | none |
| Source image for image processing operation | DCM 121322 | CID 7202 |
| Source image for montage | DCM 121329 | CID 7202 |
| Basic Application Confidentiality Profile | DCM 113100 | CID 7050 |

The dictionary has no codes for the five subtypes, and published lists of SNOMED CT contradict each
other about them. So their probabilities have codes of a private scheme, which each report declares.
"""

from __future__ import annotations

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

HEMORRHAGE = codes.SCT.IntracranialHemorrhage
PRESENCE = codes.DCM.PresenceOfProperty
PRESENT = codes.cid240.Present
ABSENT = codes.cid240.Absent
PROBABILITY = codes.DCM.Probability
THRESHOLD = codes.DCM.ThresholdValue
NO_UNITS = codes.UCUM.NoUnits
INTRACRANIAL = codes.cid4.Intracranial
HEAD_CT = codes.SCT.ComputedTomographyOfHead
REPORT_TITLE = codes.cid7021.ImagingMeasurementReport
ALGORITHM_FAMILY = codes.cid7162.ArtificialIntelligence
OF_INTEREST = codes.cid7010.OfInterest
COMMENT = codes.DCM.Comment
SOURCE_IMAGE = codes.cid7202.SourceImageForImageProcessingOperation
SOURCE_MONTAGE = codes.cid7202.SourceImageForMontage
BASIC_PROFILE = codes.cid7050.BasicApplicationConfidentialityProfile

# Private schemes begin with 99 (PS3.3, section 8.2).
PRIVATE_SCHEME = "99HEMORRHAGE_TF"


def subtype_probability(subtype: str) -> Code:
    """Return the private code for the probability of a subtype."""
    return Code(subtype, PRIVATE_SCHEME, f"Probability of {subtype} hemorrhage")


def private_scheme() -> CodingSchemeIdentificationItem:
    """Return what a report says about the private scheme."""
    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME, name="Subtypes of hemorrhage in hemorrhage_tf"
    )
