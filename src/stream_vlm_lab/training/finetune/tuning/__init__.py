"""Fine-tuning of Qwen-VL checkpoints on streams: the parts that
`stream_vlm_lab/training/finetune/command.py` conducts.
"""
