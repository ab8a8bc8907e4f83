"""Fine-tunes Qwen-VL checkpoints on streams."""
