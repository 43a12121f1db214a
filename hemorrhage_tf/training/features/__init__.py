"""Backbone features: computed once for each view of a slice, and cached on disk."""
