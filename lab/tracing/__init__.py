"""Recording what a stack does over time: ``record`` collects, ``chrome`` writes it for Perfetto, the rest reads it."""
