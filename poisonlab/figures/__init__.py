"""Figures: pure functions from tensors and data frames to Plotly figures. Nothing here knows the browser."""
