"""Text-only models: a sentence embedder, and a client of the OpenAI chat protocol."""
