"""What a network's output depends on: F and the halo of every axis."""
