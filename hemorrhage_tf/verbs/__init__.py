"""The verbs: what the command line and `import hemorrhage_tf` both call, one file each."""
