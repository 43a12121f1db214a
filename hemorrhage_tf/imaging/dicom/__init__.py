"""Read DICOM files: headers, and slices in Hounsfield units or as display images."""
