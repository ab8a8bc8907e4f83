"""Models of text beside the stream: a sentence embedder and a client of the OpenAI chat protocol."""
