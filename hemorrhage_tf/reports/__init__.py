"""What people read about a model and its data: the HTML report, the audit page, the model card.

Metrics are computed in `evaluation`, and audits in `auditing`; this room only presents them.
"""
