"""How things look: standard, varied, drawn from families, and held out for examinations."""
