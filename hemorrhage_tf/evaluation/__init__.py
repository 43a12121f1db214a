"""Figures with their intervals, the audit, the report: nothing here knows a model file."""
