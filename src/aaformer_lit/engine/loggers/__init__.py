"""Where curves and pictures go: a CSV file, Weights & Biases, TensorBoard."""
