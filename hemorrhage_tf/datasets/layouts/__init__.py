"""The layouts of public hemorrhage data sets, one data set per file."""
