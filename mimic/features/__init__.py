"""The way of a feature: from a layer's output to standardised rows of channels."""
