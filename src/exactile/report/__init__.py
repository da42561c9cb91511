"""What a person sees of a run: progress, summary, pictures."""
