"""The LTI 1.3 standard, and nothing of the product. The only place that imports pylti1p3."""
