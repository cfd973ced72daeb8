"""The configuration: settings (defaults), recipes, build (sections to parts), checks, identity."""
