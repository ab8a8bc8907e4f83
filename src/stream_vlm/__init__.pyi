from stream_vlm.config.settings import load_settings as load_settings
from stream_vlm.memory.memory import Memory as Memory
from stream_vlm.pipeline import Pipeline as Pipeline
from stream_vlm.sources import open_source as open_source

__version__: str
