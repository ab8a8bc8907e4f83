"""Context policies: each decides which segments stay in the context and which leave it."""
