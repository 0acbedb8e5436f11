"""The one door of the config: sections become objects; checked, resolved, compared."""
