"""What happens at certain moments of a run."""
