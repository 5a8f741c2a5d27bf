"""The pytest plugin: gates on the safety of a language model, as test items."""
