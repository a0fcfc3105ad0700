"""What happens beside the training."""
