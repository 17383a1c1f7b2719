"""Metrics, intervals, significance, results, report."""
