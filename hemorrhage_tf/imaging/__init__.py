"""Read slices, apply windows, crop the head and check that a slice looks like head CT."""
