"""The ends of the Hounsfield scale that all readers share, in HU."""

# The value outside the patient, and of padding.
AIR = -1000.0

# Scanners mark unmeasured pixels with lower values (-1500, -2000, -3024). No tissue lies below
# -1000 HU, and noise in air stays above this.
LOWEST_HOUNSFIELD = -1024.0
