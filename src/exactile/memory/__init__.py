"""How much memory there is, and how much a forward pass takes of it."""
