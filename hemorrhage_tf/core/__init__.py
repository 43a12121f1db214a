"""What every other room may use: errors, progress, the event log, signals and atomic files."""
