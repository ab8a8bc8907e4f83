"""All settings, each declared once: type, unit, range, default and a plain description."""
