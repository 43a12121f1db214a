"""Results as DICOM objects that a viewer shows beside the images."""
