"""Networks, their cards and weights, and how they are loaded."""
