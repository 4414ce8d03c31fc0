"""The learning side: networks, losses, metrics, training and evaluation of detectors."""
