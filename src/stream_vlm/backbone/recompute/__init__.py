"""Any other image-text-to-text model: the newest pictures are put to it anew at every tick."""
