"""Test bed of the studies: networks, tasks and data sets with labels."""
