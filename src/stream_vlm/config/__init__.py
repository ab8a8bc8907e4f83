"""Every setting once, with its type, unit, range, default and one plain sentence."""
