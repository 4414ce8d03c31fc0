"""Reports: what a data set or a training run is like, each as one HTML file."""
