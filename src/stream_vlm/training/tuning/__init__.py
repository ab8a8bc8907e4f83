"""Fine-tuning of Qwen-VL checkpoints on streams: the parts that `training/finetune.py` conducts."""
