"""The audit of a data set: unusable files, duplicates, class differences and shortcut baselines."""
