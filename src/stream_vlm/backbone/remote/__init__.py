"""A server as the streaming model, over the OpenAI chat protocol. Without torch or transformers."""
