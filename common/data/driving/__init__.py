"""Drives along a street, rendered with boxes, classes, depth and optical flow at any time."""
